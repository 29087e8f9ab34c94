/* What scrolls in its own box can be scrolled with the keyboard, too. */
(() => {
  const BOXES = ".math, mjx-container[display], .pst-scrollable-table-container, pre, table, .sig";
  const update = () => {
    for (const box of document.querySelectorAll(BOXES)) {
      const scrolls = box.scrollWidth > box.clientWidth + 1
        && /auto|scroll/.test(getComputedStyle(box).overflowX);
      if (scrolls) box.tabIndex = 0;
      else if (box.tabIndex === 0) box.removeAttribute("tabindex");
    }
  };
  addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(update));
  addEventListener("resize", update);
  addEventListener("toggle", update, true);
})();
