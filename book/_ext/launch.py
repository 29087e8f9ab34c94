"""Sphinx extension: repository and launch buttons, once the book is public.

BOOK_REPOSITORY=https://github.com/OWNER/NAME in the environment switches them
on. Without it no page has a button that could not work.

The notebooks that the buttons open are the book's own with one cell more, which
fetches the book where it is not installed. They live on a branch of their own:
``python book/_ext/launch.py DIR`` writes them under DIR. With ``--lab DIR`` it
writes copies to change, for JupyterLab on this machine.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
from plain import Book
from sphinx.errors import ConfigError

BOOK = Path(__file__).parents[1]
BRANCH = "launch"
WHOLE_BOOK = "pdf/sparse-attention-from-random-projections.pdf"  # from make pdf
INSTALL_CELL = """\
# Not in the folder of the book? Then fetch it, and install what it needs.
import os
import subprocess
import sys
from importlib import invalidate_caches, util
from pathlib import Path

if not Path("references.bib").exists():
    if not Path("{name}").exists():
        clone = ["git", "clone", "--quiet", "--depth=1", "--branch={branch}"]
        subprocess.run([*clone, "{address}", "{name}"], check=True)
    if util.find_spec("jl_attention") is None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "./{name}[notebooks]"], check=True)
        invalidate_caches()
    os.chdir("{name}/book")"""


def repository():
    """Return the public address or None; the one place where it is read."""
    address = os.environ.get("BOOK_REPOSITORY", "").rstrip("/")
    return address.removesuffix(".git") or None


def public_site(address):
    """Return where GitHub Pages publishes the book of a repository."""
    found = re.fullmatch(r"https://github\.com/([\w-]+)/([\w.-]+)", address)
    if found is None:
        raise ConfigError(
            f"BOOK_REPOSITORY={address}: not https://github.com/OWNER/NAME"
        )
    owner, name = found.groups()
    host = f"{owner.lower()}.github.io"
    path = "" if name.lower() == host else f"{name}/"
    return f"https://{host}/{path}"


def theme_options(address):
    """Return the options of sphinx-book-theme that switch the buttons on."""
    return {
        "repository_url": address,
        "repository_branch": BRANCH,
        "use_repository_button": True,
        "use_issues_button": True,
        "launch_buttons": {
            "notebook_interface": "jupyterlab",
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        },
    }


def install_cell(address):
    """Return the cell that makes a notebook run anywhere."""
    name = address.rsplit("/", 1)[-1]
    source = INSTALL_CELL.format(name=name, address=address, branch=BRANCH)
    return nbformat.v4.new_code_cell(source, id=BRANCH)


def for_jupyter(first):
    """Yield the name of each notebook and it, for Jupyter, with a first cell.

    `first` makes the cell from the name.
    """
    book = Book(BOOK)
    for page in book.pages:
        notebook = book.plain(page)
        notebook.cells.insert(0, first(f"{page}.ipynb"))
        yield f"{page}.ipynb", notebook


def write_notebooks(out, address):
    """Write every notebook, its install cell first, under `out`/book."""
    folder = Path(out) / BOOK.name
    folder.mkdir(parents=True, exist_ok=True)
    for name, notebook in for_jupyter(lambda name: install_cell(address)):
        unfinished = folder / f"{name}.part"
        nbformat.write(notebook, unfinished)
        os.replace(unfinished, folder / name)


TO_CHANGE = {
    "01": "cuts = (5, 10, 20, 40)",
    "02": "N, eps, eta, maps = 50, 0.3, 0.05, 2000",
    "03": "L, e, eta, maps = 60, 0.3, 0.05, 1500",
    "04": "eps1, eps2 = 0.5, 0.05",
    "05": "dim = 2048",
    "07": "L, k, draws = 1024, 2, 100",
    "08": "L, leak, eta = 1024, 0.01, 0.01",
    "09": "L, k = 256, 2",
    "10": "L, k, m = 4096, 4, 64",
    "11": "L, k = 1024, 4",
    "13": "length = 384",
    "14": "length, dim = 2048, 64",
}
"""A line of a chapter that is worth changing first."""

LAB_CELL = """\
**A copy to play with.** *Run > Run All Cells* computes the chapter anew;
nothing you do here changes the book.{hint} Numbers within the text are the
book's; those below a cell are yours. A check that does not hold stops
the notebook and says what it measured."""


def lab_cell(name):
    """Return the cell that says what to change in a notebook."""
    line = TO_CHANGE.get(name[:2])
    hint = f"\nTry other numbers, first in the line `{line}`." if line else ""
    return nbformat.v4.new_markdown_cell(LAB_CELL.format(hint=hint), id="lab")


def keep(source, copy):
    """Copy a file, unless it is there."""
    if not Path(copy).exists():
        shutil.copy(source, copy)


def write_lab(out):
    """Write copies of the notebooks, and what they read, under `out`.

    A file that is there already may have been changed, and stays.
    """
    folder = Path(out) / BOOK.name
    for name in ("book/results", "book/_static", "benchmarks/results"):
        shutil.copytree(
            BOOK.parent / name,
            Path(out) / name,
            dirs_exist_ok=True,
            copy_function=keep,
        )
    keep(BOOK / "references.bib", folder / "references.bib")
    for name, notebook in for_jupyter(lab_cell):
        if not (folder / name).exists():
            nbformat.write(notebook, folder / name)


def switch_on(app, config):
    """Configure the buttons and the canonical addresses of the pages."""
    address = repository()
    if address is not None:
        config.html_baseurl = public_site(address)
        config.html_theme_options.update(theme_options(address))


def offer_whole_book(app, pagename, templatename, context, doctree):
    """Put the published PDF of the book beside the page's own downloads."""
    if repository() is None:
        return
    for group in context["header_buttons"]:
        if group["label"] == "download-buttons":
            group["buttons"].append(
                {
                    "type": "link",
                    "url": app.config.html_baseurl + WHOLE_BOOK,
                    "text": "book .pdf",
                    "tooltip": "The whole book, to print",
                    "icon": "fas fa-book",
                    "label": "download-book-button",
                }
            )


def setup(app):
    """Act before the theme reads its options, and after it made its buttons."""
    app.connect("config-inited", switch_on)
    app.connect("html-page-context", offer_whole_book, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    if sys.argv[1] == "--lab":
        write_lab(sys.argv[2])
        sys.exit()
    if repository() is None:
        sys.exit("BOOK_REPOSITORY is not set: which repository to fetch?")
    write_notebooks(sys.argv[1], repository())
