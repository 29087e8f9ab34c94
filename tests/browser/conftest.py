"""A built book, served on this machine, and a browser that looks at it.

The book is read from ``_build/html``, or from the folder that BOOK_HTML names. A browser that is
missing is an error: these tests are run by name (``make browser``), and a skip would say nothing.
"""

import os
import shutil
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[2]
HTML = Path(os.environ.get("BOOK_HTML", ROOT / "_build" / "html"))
DESKTOP, PHONE = (1280, 900), (390, 844)
CHROMIUMS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *args):
        """Print no line for a request."""


@pytest.fixture(scope="session")
def site():
    """Return the address of the built book, on 127.0.0.1."""
    if not (HTML / "index.html").exists():
        pytest.fail(f"{HTML}: no built book there; run make html first")
    handler = partial(QuietHandler, directory=str(HTML))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser():
    """Return the system's Chromium, headless, with a profile of its own."""
    names = [os.environ["CHROMIUM"]] if "CHROMIUM" in os.environ else CHROMIUMS
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.fail(f"no {' or '.join(names)} here: install Chromium, or name one in CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page that was opened, and what it did while it loaded and since.

    Attributes
    ----------
    page : playwright.sync_api.Page
    console : list of str
        What it printed, of any kind, and errors that nothing caught.
    outside, missing : list of str
        Addresses of other hosts, and of files that do not exist.
    loaded : list of playwright.sync_api.Request
    """

    page: Page
    console: list = field(default_factory=list)
    outside: list = field(default_factory=list)
    missing: list = field(default_factory=list)
    loaded: list = field(default_factory=list)

    def settle(self):
        """Wait until the page's own scripts and MathJax are done."""
        self.page.wait_for_load_state("networkidle")
        self.page.evaluate("window.MathJax?.startup?.promise")
        return self


@pytest.fixture(scope="session")
def visit(site, browser):
    """Return ``visit(path, size=DESKTOP, theme="light", **context)``: a context that opens a page.

    Messages of the console, requests to other hosts and files that are missing are
    recorded. The browser knows no host but this one.
    """

    @contextmanager
    def visit(path, size=DESKTOP, theme="light", **settings):
        width, height = size
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, **settings
        )
        page = context.new_page()
        visited = Visit(page)

        page.on(
            "request",
            lambda request: (
                request.url.startswith((site, "data:", "blob:"))
                or visited.outside.append(request.url)
            ),
        )
        page.on(
            "console",
            lambda message: visited.console.append(message.text),
        )
        page.on("pageerror", lambda error: visited.console.append(str(error)))
        page.on(
            "response",
            lambda answer: answer.status >= 400 and visited.missing.append(answer.url),
        )
        page.on("requestfinished", lambda request: visited.loaded.append(request))
        page.goto(f"{site}/{path}")
        yield visited.settle()
        context.close()

    return visit
