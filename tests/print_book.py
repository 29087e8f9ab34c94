"""Print a built book with Chromium: ``print_book.py HTML OUT``.

OUT gets one PDF for each page of the table of contents, and one for the whole book. Solutions are
open on paper, and the code that makes figures is left out. A link leads to its place in the same
file if that is there, else to the published book, else nowhere: the text stays and the link goes.
"""

import os
import re
import shutil
import sys
import unicodedata
from pathlib import Path, PurePosixPath
from urllib.parse import urldefrag, urljoin, urlsplit

from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright
from toc import pages

WHOLE_BOOK = "sparse-attention-from-random-projections"
SITE = "http://book.invalid/"  # served from the folder, by no host
STYLE = """
  html { font-size: 10.5pt; }
  .bd-main .bd-content { display: block; width: 100%; max-width: none; margin: 0; }
  .bd-main .bd-content .bd-article h1:first-of-type { display: block; }
  .bd-article > section + section { break-before: page; }
  .bd-article img { max-height: 230mm; width: auto; }
  .bd-article * { box-shadow: none !important; }  /* a picture, in a PDF */
  .bd-article :is(h1, h2, h3, h4) { white-space: pre-wrap; }  /* keeps the outline's spaces */
  .bd-article pre { font-size: 8pt; white-space: pre-wrap; overflow-wrap: anywhere; }
  .bd-article :is(.cell_input, pre, figure, .math, tr) { break-inside: avoid; }
  .bd-main .bd-content table { break-inside: auto; }
  .bd-article :is(dt, .proof > .admonition-title) { break-after: avoid; }
"""
BODY = """
<main class="bd-main"><div class="bd-content"><div class="bd-article-container">
<article class="bd-article"></article>
</div></div></main>
"""
FOOTER = """
<div style="width: 100%; margin: 0 16mm; font: 8pt sans-serif; color: #666; display: flex;
            justify-content: space-between">
  <span class="title"></span>
  <span><span class="pageNumber"></span> / <span class="totalPages"></span></span>
</div>
"""
LEFT_OUT = "script, .headerlink, .viewcode-link, details.hide > summary, .tag_hide-input > details"
READY = """async () => {
  await window.MathJax?.startup.promise;
  await document.fonts.ready;
  await Promise.allSettled(Array.from(document.images, (image) => image.decode()));
}"""


def anchor(page, fragment=""):
    """Return an id that no other page of the same document uses."""
    return f"{PurePosixPath(page).name}--{fragment}".removesuffix("--")


def plain(formula):
    """Return a simple formula of TeX as text, for headings: an outline shows no more."""

    def symbol(command):
        try:
            return unicodedata.lookup(f"GREEK SMALL LETTER {command[1]}")
        except KeyError:
            return command[1]

    return re.sub(r"\\([A-Za-z]+)", symbol, re.sub(r"\\[()]", "", formula))


def printable(soup, page, included):
    """Return the article of a page as one section, for a document of the `included` pages."""
    canonical = soup.find("link", rel="canonical")
    article = soup.find("article")
    article.name, article.attrs = "section", {"id": anchor(page)}
    for tag in article.find_all(id=True):
        tag["id"] = anchor(page, tag["id"])
    for tag in article.select(LEFT_OUT):
        tag.decompose()
    for tag in article.select("details.hide"):
        tag.unwrap()
    for tag in article.find_all("img", loading=True):
        del tag["loading"]
    for tag in article.find_all("details"):
        tag["open"] = ""
    for tag in article.select(":is(h1, h2, h3, h4) .math"):
        tag.replace_with(plain(tag.get_text()))
    for link in article.find_all("a", href=True):
        address, fragment = urldefrag(urljoin(f"{SITE}{page}.html", link["href"]))
        target = address.removeprefix(SITE).removesuffix(".html")
        if target in included:
            link["href"] = f"#{anchor(target, fragment)}"
        elif address.startswith(SITE) and canonical is not None:
            link["href"] = urljoin(canonical["href"], link["href"])
        elif address.startswith(SITE):
            del link["href"]
    return article


def document(html, included):
    """Return one HTML document of pages of the book in `html`, named after the first of them."""
    files = [html / f"{page}.html" for page in included]
    soups = [BeautifulSoup(file.read_text("utf-8"), "html.parser") for file in files]
    sections = [printable(*pair, set(included)) for pair in zip(soups, included, strict=True)]
    shell = soups[0]
    for script in shell.find_all("script"):
        if "mathjax" not in f"{script.get('src')}{script.string}".lower():
            script.decompose()
    math = shell.body.find_all("script")
    shell.title.string = " ".join(sections[0].h1.get_text().split())
    shell.html["data-theme"] = "light"
    shell.head.append(BeautifulSoup(f"<style>{STYLE}</style>", "html.parser").style)
    shell.body.clear()
    shell.body.append(BeautifulSoup(BODY, "html.parser"))
    shell.article.extend(sections)
    shell.body.extend(math)
    return str(shell)


def to_pdf(browser, html, folder, text):
    """Return the PDF of an HTML text that lies in `folder` of the book in `html`."""
    problems = []
    address = f"{SITE}{folder}/print.html"

    def serve(route):
        url = urlsplit(route.request.url)
        path = html / url.path.lstrip("/")
        if route.request.url == address:
            route.fulfill(body=text, content_type="text/html; charset=utf-8")
        elif route.request.url.startswith(SITE) and path.is_file():
            route.fulfill(path=path)
        else:
            problems.append(route.request.url)
            route.abort()

    page = browser.new_page(color_scheme="light")
    page.route("**/*", serve)
    page.goto(address)
    page.evaluate(READY)
    printed = page.pdf(
        format="A4",
        margin={"top": "16mm", "bottom": "18mm", "left": "16mm", "right": "16mm"},
        print_background=True,
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=FOOTER,
        outline=True,
        tagged=True,
    )
    page.close()
    if problems:
        raise FileNotFoundError(f"a printed page asks for {', '.join(problems)}")
    return printed


def print_book(html, out):
    """Print every page of the table of contents, then all of them in one file."""
    chromium = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if chromium is None:
        sys.exit("no chromium on the PATH: install it, or name one in CHROMIUM")
    out.mkdir(parents=True, exist_ok=True)
    book = pages()
    files = {PurePosixPath(page).name: [page] for page in book} | {WHOLE_BOOK: book}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for name, included in files.items():
            text = document(html, included)
            path = out / f"{name}.pdf"
            unfinished = path.with_suffix(".part")
            unfinished.write_bytes(to_pdf(browser, html, PurePosixPath(included[0]).parent, text))
            os.replace(unfinished, path)
            print(path)
        browser.close()


if __name__ == "__main__":
    print_book(Path(sys.argv[1]), Path(sys.argv[2]))
