/* Hover cards: what a link within the book leads to, shown beside it: a statement, a figure, an
   equation, a reference, a word of the glossary.

   With a mouse the card comes after a moment and goes when mouse and focus are elsewhere; with the
   keyboard it comes with the focus, and Escape closes it. A touch follows the link, as everywhere:
   nothing is hidden behind a hover that the link itself does not lead to. The page of the link is
   fetched from this site once; where that cannot be, as from a file, there is no card. */
(() => {
  const LINKS = ".bd-article a.reference.internal[href*='#'], .bd-article a[href*='#claim-']";
  const TARGETS = "div.proof, dt, figure, div.citation, div.math-wrapper, div.math, details.ledger-entry";
  const WAIT = 250;
  const pages = new Map();
  let card = null, owner = null, timer = 0;

  const fetchPage = address => {
    if (!pages.has(address)) {
      pages.set(address, fetch(address).then(answer => (answer.ok ? answer.text() : ""))
        .then(text => new DOMParser().parseFromString(text, "text/html")));
    }
    return pages.get(address);
  };

  /* The part of a page that an anchor names: the statement itself, or the one right after it. */
  const part = (page, anchor) => {
    const target = page.getElementById(anchor);
    const found = target?.closest(TARGETS) ?? target?.querySelector(TARGETS)
      ?? (target?.nextElementSibling?.matches(TARGETS) ? target.nextElementSibling : null);
    if (!found) return null;
    if (found.tagName !== "DT") return [found];
    let body = found;
    while (body && body.tagName !== "DD") body = body.nextElementSibling;
    return body ? [found, body] : null;
  };

  const copy = (element, base) => {
    const twin = document.importNode(element, true);
    for (const link of twin.querySelectorAll(".headerlink, .toggle-button, button, script, summary"))
      link.remove();
    for (const [selector, name] of [["[src]", "src"], ["[href]", "href"]])
      for (const item of twin.querySelectorAll(selector))
        item.setAttribute(name, new URL(item.getAttribute(name), base).href);
    for (const item of [twin, ...twin.querySelectorAll("[id]")]) item.removeAttribute("id");
    if (twin.tagName === "DETAILS") twin.open = true;
    if (!/^D[TD]$/.test(twin.tagName)) return twin;
    const box = document.createElement("div");
    if (twin.tagName === "DT") box.style.fontWeight = "600";
    box.append(...twin.childNodes);
    return box;
  };

  const close = () => {
    clearTimeout(timer);
    card?.remove();
    owner?.removeAttribute("aria-describedby");
    card = owner = null;
  };

  const show = async link => {
    const address = new URL(link.href), anchor = decodeURIComponent(address.hash.slice(1));
    address.hash = "";
    const here = address.pathname === location.pathname;
    let parts;
    try {
      parts = part(here ? document : await fetchPage(address.href), anchor);
    } catch {
      return;
    }
    if (!parts || owner !== link) return;
    card = document.createElement("div");
    card.className = "hover-card";
    card.id = "hover-card";
    card.setAttribute("role", "tooltip");
    for (const element of parts) card.append(copy(element, address.href));
    document.querySelector(".bd-article").append(card);
    const shown = card;
    await window.MathJax?.typesetPromise?.(
      [...card.querySelectorAll(".math")].filter(math => !math.querySelector("mjx-container")));
    if (card !== shown) return;
    const box = link.getClientRects()[0] ?? link.getBoundingClientRect();
    const parent = (card.offsetParent ?? document.body).getBoundingClientRect();
    const left = Math.max(16, Math.min(box.left, document.documentElement.clientWidth - card.offsetWidth - 16));
    const below = box.bottom + card.offsetHeight + 8 < innerHeight || box.top < card.offsetHeight + 8;
    card.style.left = `${left - parent.left}px`;
    card.style.top = `${(below ? box.bottom + 6 : box.top - card.offsetHeight - 6) - parent.top}px`;
    link.setAttribute("aria-describedby", card.id);
  };

  const ask = (link, wait) => {
    if (owner === link) return clearTimeout(timer);
    close();
    owner = link;
    timer = setTimeout(show, wait, link);
  };

  const wanted = event => event.target.closest?.(LINKS);
  document.addEventListener("pointerover", event => {
    if (event.pointerType !== "mouse") return;
    const link = wanted(event);
    if (link) ask(link, WAIT);
    else if (card && card.contains(event.target)) clearTimeout(timer);
    else if (owner && document.activeElement !== owner) {
      clearTimeout(timer);
      timer = setTimeout(close, WAIT);
    }
  });
  document.addEventListener("focusin", event => {
    const link = wanted(event);
    if (link?.matches(":focus-visible")) ask(link, 0);
    else if (!card?.contains(event.target)) close();
  });
  document.addEventListener("keydown", event => event.key === "Escape" && close());
})();
