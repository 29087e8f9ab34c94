"""Every page of the built book, as a reader's browser shows it."""

import re

import checks
import pytest
from conftest import DESKTOP, HTML, PHONE
from toc import pages

PAGES = sorted(
    page.relative_to(HTML).as_posix()
    for page in HTML.rglob("*.html")
    if "_static" not in page.parts and page != HTML / "index.html"
)
# The listings of the source are all made alike, so they are loaded once, on the smaller screen.
VISITS = [(path, PHONE) for path in PAGES] + [
    (path, DESKTOP) for path in PAGES if not path.startswith("_modules/")
]


def problems_of(page, *names):
    """Return what the named checks find on a page, each line with its check."""
    return [
        f"{name}: {line}" for name in names for line in getattr(checks, f"{name}_problems")(page)
    ]


@pytest.mark.parametrize(
    ("path", "size"), VISITS, ids=[f"{path}-{size[0]}" for path, size in VISITS]
)
def test_page(visit, path, size):
    with visit(path, size) as visited:
        page = visited.page
        problems = problems_of(page, "math", "overflow", "image", "heading", "contrast", "axe")
        page.emulate_media(color_scheme="dark")
        page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
        problems += problems_of(page, "contrast")
        if size == DESKTOP:
            problems += problems_of(page, "paper")
        problems += checks.weight_problems(visited.loaded)
        problems += visited.console + visited.outside + visited.missing
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def test_every_page_of_the_toc_is_built():
    assert {f"{page}.html" for page in pages()} <= set(PAGES)


def test_every_link_within_the_book_leads_somewhere():
    assert checks.link_problems(HTML) == []


def test_the_root_leads_to_the_front_page(visit):
    with visit("index.html") as visited:
        visited.page.wait_for_url(f"**/{pages()[0]}.html")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize(
    ("words", "chapter"),
    [
        ("interpolation", "book/07-interpolation.html"),
        ("Johnson-Lindenstrauss", "book/02-johnson-lindenstrauss.html"),
    ],
)
def test_the_search_finds(visit, words, chapter, size):
    with visit("book/notation.html", size) as visited:
        page = visited.page
        page.locator(".search-button, .search-button-field").filter(visible=True).first.click()
        page.keyboard.type(words)
        page.keyboard.press("Enter")
        page.locator("#search-results p.search-summary").filter(has_text="found").wait_for()
        result = page.locator(f'#search-results li:has(a[href^="{chapter}"])').first
        context = result.locator("p.context")
        context.wait_for()
        assert "Contents" not in context.inner_text()
        result.locator("a").first.click()
        page.wait_for_url(f"**/{chapter}**")
        assert not visited.console


def test_the_theme_button_changes_the_theme_and_keeps_it(visit):
    with visit("book/notation.html") as visited:
        page, theme = visited.page, "document.documentElement.dataset.theme"
        before = page.evaluate(theme)
        button = page.locator(".theme-switch-button").filter(visible=True).first
        seen = []
        while page.evaluate(theme) == before and len(seen) < 3:
            button.click()
            seen.append(page.evaluate(theme))
        assert {before, seen[-1]} == {"light", "dark"}
        page.reload()
        assert page.evaluate(theme) == seen[-1]


# --- The checks find what they are for ------------------------------------------------------------

GOOD_ALT = "a line that rises from the left to the right, and no other"
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="
WIDE = "a line of text that is far wider than any phone " * 4

CLEAN = f"""<html lang="en">
<title>A title</title><main><h1>One</h1><h2>Two</h2><h3>Three</h3><h2>Four</h2>
<p>It costs $5, or $ 6; <code>\\(x\\)</code>.</p>
<span class="math"><mjx-container>x</mjx-container></span>
<div tabindex="0" style="overflow-x: auto; white-space: nowrap">{WIDE}</div>
<div style="overflow: hidden; height: 1px; width: 1px; white-space: nowrap">{WIDE}</div>
<div hidden style="white-space: nowrap; color: #eee">{WIDE}</div>
<p style="color: #767676">grey enough</p>
<p style="background: #121212; color: #79aef5">light on dark</p>
<img alt="{GOOD_ALT}" src="{PIXEL}"></main>
"""


@pytest.fixture
def blank(browser):
    """Return a page to set content in."""
    context = browser.new_context(viewport=dict(zip(("width", "height"), PHONE, strict=True)))
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("name", ["math", "overflow", "image", "heading", "contrast", "axe"])
def test_a_clean_page_has_no_problems(blank, name):
    blank.set_content(CLEAN)
    assert problems_of(blank, name) == []


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("math", r"<p>Let \(m\) be</p>"),
        ("math", r"<p>Let \[m\] be</p>"),
        ("math", "<p>Let $m$ be</p>"),
        ("math", "<p>Let $$m$$ be</p>"),
        ("math", r"<nav>d = O(\log L)</nav>"),
        ("math", r"<title>How small can \(d\) be?</title>"),
        ("math", '<span class="math">x</span>'),
        ("math", "<mjx-merror>Math input error</mjx-merror>"),
        ("math", '<mjx-container><g data-mjx-error="Undefined">x</g></mjx-container>'),
        ("overflow", '<div style="width: 500px">x</div>'),
        ("overflow", f'<p style="white-space: nowrap">{WIDE}</p>'),
        ("overflow", f'<p style="white-space: nowrap; overflow: hidden">{WIDE}</p>'),
        ("overflow", f'<img alt="" width="500" src="{PIXEL}">'),
        ("overflow", f'<div style="overflow: clip"><img width="500" src="{PIXEL}"></div>'),
        ("overflow", '<p style="position: absolute; left: -20px">x</p>'),
        ("image", f'<main><img src="{PIXEL}"></main>'),
        ("image", f'<main><img alt="Figure 3" src="{PIXEL}"></main>'),
        ("image", f'<main><img alt="{GOOD_ALT} $m$" src="{PIXEL}"></main>'),
        ("image", f'<main><img alt="{GOOD_ALT}" src="missing.png"></main>'),
        ("heading", "<h2>No title</h2>"),
        ("heading", "<h1>One</h1><h1>Two</h1>"),
        ("heading", "<h1>One</h1><h3>Three</h3>"),
        ("heading", "<h2>Two</h2><h1>One</h1>"),
        ("contrast", '<p style="color: #777">grey</p>'),
        ("contrast", '<p style="color: #0005">half transparent</p>'),
        ("contrast", '<div style="background: #121212"><p style="color: #666">dark</p></div>'),
        ("contrast", '<div style="background: #f662"><a style="color: #176de8">box</a></div>'),
        ("contrast", '<b style="color: #999; font-size: 30px">large</b>'),
        ("axe", "<main><h1>One</h1><button></button></main>"),
        ("axe", '<main><h1>One</h1><a href="x"></a></main>'),
        ("axe", "<main><h1>One</h1><input></main>"),
        ("paper", "<h1>One</h1><button>Copy</button>"),
        ("paper", "<h1>One</h1><nav>Elsewhere</nav>"),
        ("paper", '<h1>One</h1><pre style="width: 800px; overflow: auto">code</pre>'),
        ("paper", '<h1>One</h1><p style="overflow: auto; white-space: nowrap">' + WIDE),
        ("paper", '<h1>One</h1><details class="tag_hide-cell"><pre>1 + 1</pre></details>'),
    ],
)
def test_a_planted_problem_is_found(blank, name, planted):
    blank.set_content(planted)
    assert problems_of(blank, name)


@pytest.mark.parametrize(
    ("script", "record"),
    [
        ("fetch('https://example.org/x.js').catch(() => {})", "outside"),
        ("fetch('/no-such-file')", "missing"),
        ("console.error('a mistake')", "console"),
        ("console.warn('a mistake')", "console"),
        ("console.log('a message')", "console"),
        ("new Promise(done => { setTimeout(done, 50); setTimeout(() => x.y) })", "console"),
    ],
)
def test_a_planted_event_is_recorded(visit, script, record):
    with visit("book/bibliography.html") as visited:
        assert visited.console + visited.outside + visited.missing == []
        visited.page.evaluate(script)
        assert getattr(visited, record)


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("for (let k = 0; k < 25; k++) await load('/book/notation.html?' + k)", "requests"),
        ("for (let k = 0; k < 3; k++) await load('/_static/mathjax/tex-chtml.js?' + k)", "MB"),
    ],
)
def test_planted_weight_is_found(visit, script, found):
    with visit("book/bibliography.html") as visited:
        assert checks.weight_problems(visited.loaded) == []
        load = "const load = async address => (await fetch(address)).text();"
        visited.page.evaluate(f"(async () => {{ {load} {script} }})()")
        assert any(found in line for line in checks.weight_problems(visited.loaded))


def test_every_icon_of_a_page_has_a_shape():
    sheet = (HTML / "_static/bundle.css").read_text()
    named = {
        name
        for path in PAGES
        for classes in re.findall(r'class="([^"]*\bfa[bs]?\b[^"]*)"', (HTML / path).read_text())
        for name in re.findall(r"\bfa-([a-z-]+)", classes)
    }
    assert len(named) > 5
    assert {name for name in named if f".fa-{name}" not in sheet} <= {"solid", "brands"}


@pytest.mark.parametrize("link", ["no-such.html", "#no-such", "b.html#no-such", "../a.html"])
def test_a_planted_dead_link_is_found(link, tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book/a.html").write_text(
        '<p id="here"></p><a href="#here"></a><a href="b.html#there"></a><a href="?q=1"></a>'
        '<a href="../x.txt"></a><a href="https://example.org"></a><a href="mailto:x@y"></a>'
    )
    (tmp_path / "book/b.html").write_text('<p id="there"></p>')
    (tmp_path / "x.txt").write_text("")
    assert checks.link_problems(tmp_path) == []
    (tmp_path / "book/b.html").write_text(f'<p id="there"></p><a href="{link}"></a>')
    assert len(checks.link_problems(tmp_path)) == 1
