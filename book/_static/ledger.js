/* The ledger: results are folded, filters choose among them, a link to one opens it. */
(() => {
  const filters = document.querySelector(".ledger-filters");
  const entries = [...document.querySelectorAll("details.ledger-entry")];
  const control = name => filters.querySelector(`[data-filter="${name}"]`);
  const all = control("open"), status = filters.querySelector("[role=status]");

  const fold = open => {
    for (const entry of entries) entry.open = open;
    all.textContent = open ? "Close all" : "Open all";
  };

  const choose = () => {
    const classes = ["status", "kind"]
      .filter(name => control(name).value)
      .map(name => `${name}-${control(name).value.replace(" ", "-")}`);
    const words = control("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const entry of entries) {
      const text = entry.textContent.toLowerCase();
      entry.hidden = !(
        classes.every(name => entry.classList.contains(name)) &&
        words.every(word => text.includes(word))
      );
      shown += !entry.hidden;
    }
    status.textContent = `${shown} of ${entries.length}`;
  };

  const openTarget = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const entry = target?.closest("details.ledger-entry") ??
      target?.querySelector("details.ledger-entry") ??
      (target?.nextElementSibling?.matches("details.ledger-entry") && target.nextElementSibling);
    if (!entry) return;
    entry.open = true;
    entry.scrollIntoView();
  };

  fold(false);
  filters.hidden = false;
  filters.addEventListener("input", choose);
  all.addEventListener("click", () => fold(all.textContent === "Open all"));
  window.addEventListener("hashchange", openTarget);
  choose();
  openTarget();
})();
