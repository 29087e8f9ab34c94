"""What is wrong with a page: each check takes a page that a browser shows and returns problems.

A check looks at what is visible, in the theme and at the width the page has now.
"""

from html.parser import HTMLParser
from importlib import resources
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

PAGE_BYTES, PAGE_REQUESTS = 2_000_000, 25
"""The most that a page may load, uncompressed, with its formulas' fonts."""

# Texts of a page by element, without those that are code or already typeset.
_TEXTS = """
function* texts(root, skipped) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const parent = node.parentElement;
    if (node.data.trim() && parent && !parent.closest(skipped)) yield [node, parent];
  }
}
const unseen = "script, style, noscript, template, mjx-assistive-mml";
const quote = text => text.trim().replace(/\\s+/g, " ").slice(0, 60);
const shown = element =>
  element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
const name = element => {
  const classes = [...element.classList].map(item => "." + item).join("");
  return element.tagName.toLowerCase() + (element.id ? "#" + element.id : "") + classes;
};
"""


def _ask(page, body, argument=None):
    """Return what a JavaScript function of `argument` with this body returns on the page."""
    return page.evaluate("async argument => {" + _TEXTS + body + "}", argument)


def math_problems(page):
    """Return TeX that a reader would see as source, and formulas that MathJax refused."""
    return _ask(
        page,
        r"""
        const raw = /\\[([]|\\(begin|end|frac|sqrt|log|varepsilon)\b|\$[^$\s]([^$]*[^$\s])?\$|\$\$/;
        const problems = [];
        if (raw.test(document.title)) problems.push("title: " + document.title);
        const skipped = unseen + ", code, pre, .sig, mjx-container";
        for (const [node, parent] of texts(document.body, skipped))
          if (raw.test(node.data)) problems.push(`raw TeX in ${name(parent)}: ${quote(node.data)}`);
        for (const element of document.querySelectorAll(".math"))
          if (!element.querySelector("mjx-container"))
            problems.push("not typeset: " + quote(element.textContent));
        for (const element of document.querySelectorAll("mjx-merror, [data-mjx-error]"))
          problems.push("MathJax: " + quote(element.dataset.mjxError ?? element.textContent));
        return problems;
        """,
    )


def overflow_problems(page, may_scroll=True):
    """Return what makes the page wider than the screen, sticks out of it or is cut off.

    What is wider than its box is fine if the box scrolls and `may_scroll` says that it can.
    """
    return _ask(
        page,
        """
        const width = document.documentElement.clientWidth, problems = [];
        const wide = document.documentElement.scrollWidth;
        if (wide > width) problems.push(`the page is ${wide} px wide on a screen of ${width}`);
        const check = (box, parent, label) => {
          if (!box.width || !shown(parent)) return;
          let left = 0, right = width, what = "sticks out of the screen";
          for (let outer = parent; outer !== document.body; outer = outer.parentElement) {
            const style = getComputedStyle(outer);
            if (style.overflowX === "visible" || style.display === "inline") continue;
            const scrolls = argument && ["auto", "scroll"].includes(style.overflowX);
            if (scrolls || outer.clientWidth <= 1) return;
            ({ left, right } = outer.getBoundingClientRect());
            what = "is cut off by " + name(outer);
            break;
          }
          if (box.left < left - 1 || box.right > right + 1) problems.push(`${label} ${what}`);
        };
        const range = document.createRange();
        for (const [node, parent] of texts(document.body, unseen)) {
          range.selectNodeContents(node);
          check(range.getBoundingClientRect(), parent, `${name(parent)} "${quote(node.data)}"`);
        }
        for (const element of document.querySelectorAll("img, svg, table, iframe, mjx-container"))
          check(element.getBoundingClientRect(), element.parentElement,
            `${name(element)} "${quote(element.textContent)}"`);
        return problems;
        """,
        may_scroll,
    )


def image_problems(page):
    """Return images that did not load or whose alternative text says too little."""
    return _ask(
        page,
        r"""
        const problems = [];
        // Not the signs of the theme: the plus and minus of the module index, logos on buttons.
        const pictures = "main img:not(.toggler, .bd-header-article img)";
        for (const image of document.querySelectorAll(pictures)) {
          image.loading = "eager"; // also what is far below
          await image.decode().catch(() => {});
          const words = image.alt.trim().split(/\s+/).filter(Boolean);
          if (!image.complete || !image.naturalWidth) problems.push("not loaded: " + image.src);
          if (words.length < 8 || /[$\\]/.test(image.alt))
            problems.push(`alternative text of ${image.src}: "${quote(image.alt)}"`);
        }
        return problems;
        """,
    )


def heading_problems(page):
    """Return what is wrong with the outline: one h1, first, and no level left out."""
    return _ask(
        page,
        """
        const headings = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter(shown);
        const problems = [], levels = headings.map(heading => +heading.tagName[1]);
        if (levels.filter(level => level === 1).length !== 1 || levels[0] !== 1)
          problems.push("the levels of the headings are " + levels.join(" "));
        levels.forEach((level, k) => {
          if (k && level > levels[k - 1] + 1)
            problems.push(`h${level} after h${levels[k - 1]}: ${quote(headings[k].textContent)}`);
        });
        return problems;
        """,
    )


def contrast_problems(page):
    """Return the pairs of colours whose text is below WCAG AA: 4.5 to 1, and 3 to 1 if large."""
    return _ask(
        page,
        r"""
        for (const change of document.getAnimations())
          if (change instanceof CSSTransition) change.finish();
        const canvas = document.createElement("canvas").getContext("2d", {
          willReadFrequently: true,
        });
        canvas.canvas.width = canvas.canvas.height = 1;
        const paint = colors => {  // the colours of these layers, the lowest first, as one
          canvas.fillStyle = "white";
          canvas.fillRect(0, 0, 1, 1);
          for (const color of colors) {
            canvas.fillStyle = color;
            canvas.fillRect(0, 0, 1, 1);
          }
          return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
        };
        const luminance = rgb => {
          const [r, g, b] = rgb.map(value => {
            const part = value / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
          });
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const grounds = new Map();
        const ground = element => {
          if (!element) return [];
          if (!grounds.has(element)) {
            const below = ground(element.parentElement);
            const color = getComputedStyle(element).backgroundColor;
            grounds.set(element, color === "rgba(0, 0, 0, 0)" ? below : [...below, color]);
          }
          return grounds.get(element);
        };
        const ratios = new Map(), problems = new Map();
        for (const [node, parent] of texts(document.body, unseen)) {
          if (!shown(parent)) continue;
          const style = getComputedStyle(parent), layers = ground(parent);
          const key = [...layers, style.color].join("|");
          if (!ratios.has(key)) {
            const low = luminance(paint(layers));
            const high = luminance(paint([...layers, style.color]));
            ratios.set(key, (Math.max(low, high) + 0.05) / (Math.min(low, high) + 0.05));
          }
          const size = parseFloat(style.fontSize), bold = style.fontWeight >= 700;
          const needed = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
          if (ratios.get(key) < needed && !problems.has(key))
            problems.set(key, `${ratios.get(key).toFixed(2)} to 1, ${style.color} in `
              + `${name(parent)}: ${quote(node.data)}`);
        }
        return [...problems.values()];
        """,
    )


def paper_problems(page):
    """Return what a printed page shows or hides that it should not, whatever the theme."""
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 900})  # A4 between margins of 14 mm
    problems = (
        overflow_problems(page, may_scroll=False) + contrast_problems(page) + heading_problems(page)
    )
    for selector in (
        "nav",
        ".bd-sidebar",
        ".bd-header-article",
        "details:not(.quiz-answer, .ledger-entry) > summary",
        "button",
    ):
        shown = page.locator(selector).filter(visible=True).count()
        problems += [f"{shown} times {selector} is printed"] if shown else []
    for block in page.locator(".tag_hide-cell pre").all():
        problems += [] if block.is_visible() else [f"not printed: {block.inner_text()[:60]}"]
    return problems


def weight_problems(requests):
    """Return what is too much of the requests that a page made."""
    own = [request for request in requests if not request.url.startswith(("data:", "blob:"))]
    weight = sum(len(request.response().body()) for request in own)
    problems = []
    if len(own) >= PAGE_REQUESTS:
        problems.append(f"{len(own)} requests")
    if weight > PAGE_BYTES:
        problems.append(f"{weight / 1e6:.2f} MB")
    return problems


AXE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
GRAVE = {"serious", "critical"}

AXE_EXCEPTIONS = {
    "color-contrast": "contrast_problems looks at every text, in both themes",
}
"""Rules that are left out, and why."""


def axe_problems(page):
    """Return the serious and critical findings of axe-core, the accessibility engine.

    A box that "scrolls" by the few unseen pixels below a formula, and not sideways, is none.
    """
    page.evaluate(AXE)
    rules = {rule: {"enabled": False} for rule in AXE_EXCEPTIONS}
    found = page.evaluate("rules => axe.run(document, { rules })", rules)["violations"]
    still = """target => {
      const box = document.querySelector(target);
      return box.matches(".math, mjx-container") && box.scrollWidth <= box.clientWidth + 1;
    }"""
    return [
        f"{finding['id']}: {node['target']}: {finding['help']}"
        for finding in found
        if finding["impact"] in GRAVE
        for node in finding["nodes"]
        if finding["id"] != "scrollable-region-focusable"
        or not page.evaluate(still, node["target"][0])
    ]


class _Anchors(HTMLParser):
    """The ids of a page and where its links lead."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.update(attributes[key] for key in ("id", "name") if attributes.get(key))
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])


def link_problems(root):
    """Return the links of a folder of pages to a file or an anchor that does not exist."""
    pages = {
        page.relative_to(root).as_posix(): _Anchors(page.read_text("utf-8"))
        for page in sorted(root.rglob("*.html"))
    }
    problems = []
    for path, page in pages.items():
        for link in page.links:
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            target, fragment = urldefrag(urljoin(path, link))
            target = unquote(urlsplit(target).path) or path
            if target not in pages:
                if not (root / target).is_file():
                    problems.append(f"{path}: {link}: no such file")
            elif fragment and unquote(fragment) not in pages[target].ids:
                problems.append(f"{path}: {link}: no such anchor")
    return problems
