"""The buttons that lead out of the book, and the notebooks that they open."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import launch
import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from print_book import WHOLE_BOOK
from sphinx.errors import ConfigError
from toc import ROOT, notebooks

ADDRESS = "https://github.com/OWNER/NAME"
BUTTONS = {
    "https://github.com/OWNER/NAME",
    "https://mybinder.org/v2/gh/OWNER/NAME/launch?urlpath=lab/tree/book/01-chapter.ipynb",
    "https://colab.research.google.com/github/OWNER/NAME/blob/launch/book/01-chapter.ipynb",
    f"https://owner.github.io/NAME/pdf/{WHOLE_BOOK}.pdf",
}


def build(folder, **environment):
    """Build a book of one notebook and one page of text; return the outside links of both."""
    source = folder / "source"
    (source / "book").mkdir(parents=True)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Chapter")])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, source / "book" / "01-chapter.ipynb")
    (source / "index.md").write_text("# Book\n\n```{toctree}\nbook/01-chapter\n```\n")
    (source / "conf.py").write_text(
        "extensions = ['myst_nb', 'launch', 'sphinx_book_theme']\n"
        "html_theme = 'sphinx_book_theme'\n"
        "nb_execution_mode = 'off'\n"
    )
    subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "-n", source, folder / "html"],
        env=os.environ | {"PYTHONPATH": str(ROOT / "book/_ext")} | environment,
        check=True,
    )
    pages = [folder / "html" / "book" / "01-chapter.html", folder / "html" / "index.html"]
    soups = [BeautifulSoup(page.read_text(), "html.parser") for page in pages]
    return [
        {tag["href"] for tag in soup.select("a[href], link[rel=canonical]") if ":" in tag["href"]}
        for soup in soups
    ]


def of_the_theme(links):
    """Leave out the credits that the theme puts at the foot of each page."""
    return {link for link in links if "sphinx" not in link and "pydata" not in link}


def test_with_an_address_a_notebook_has_every_button(tmp_path):
    chapter, text = map(of_the_theme, build(tmp_path, BOOK_REPOSITORY=ADDRESS))
    assert chapter > BUTTONS
    assert "https://owner.github.io/NAME/book/01-chapter.html" in chapter
    assert not [link for link in text if "binder" in link or "colab" in link]


def test_without_an_address_no_page_leads_out(tmp_path):
    assert list(map(of_the_theme, build(tmp_path, BOOK_REPOSITORY=""))) == [set(), set()]


@pytest.mark.parametrize("given", [ADDRESS, ADDRESS + "/", ADDRESS + ".git"])
def test_the_address_is_read_as_people_write_it(given, monkeypatch):
    monkeypatch.setenv("BOOK_REPOSITORY", given)
    assert launch.repository() == ADDRESS


def test_a_site_of_a_user_is_at_the_root():
    assert launch.public_site("https://github.com/Ann/ann.github.io") == "https://ann.github.io/"


@pytest.mark.parametrize("given", ["OWNER/NAME", "https://example.org/OWNER/NAME", ADDRESS + "/x"])
def test_another_address_is_refused(given):
    with pytest.raises(ConfigError, match="not https://github.com/OWNER/NAME"):
        launch.public_site(given)


def test_the_workflow_makes_what_the_buttons_need():
    workflow = yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text())
    assert workflow["env"]["BOOK_REPOSITORY"] == "${{ github.server_url }}/${{ github.repository }}"
    assert workflow["jobs"]["publish"]["needs"] == "test"  # nothing waits for a convenience
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert any(f"HEAD:refs/heads/{launch.BRANCH}" in step for step in steps)
    assert any("make pdf" in step and "_build/html/pdf" in step for step in steps)
    assert f"pdf/{WHOLE_BOOK}.pdf" == launch.WHOLE_BOOK


# --- The notebooks that the buttons open ---------------------------------------------------------


LEFT_OF_SPHINX = re.compile(r"\{[\w:-]+\}`|^[:`]{3,}\{|^\([\w-]+\)=$", re.MULTILINE)


def assert_is_plain(new, old):
    """Compare cells: the same, but a text has no directive and no role."""
    assert len(new) == len(old)
    for one, other in zip(new, old, strict=True):
        if one["cell_type"] == "markdown":
            assert not LEFT_OF_SPHINX.search("".join(one["source"]))
            one, other = one | {"source": []}, other | {"source": []}
        assert one == other


def test_every_notebook_gets_the_install_cell_and_plain_text(tmp_path):
    launch.write_notebooks(tmp_path, ADDRESS)
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert written == sorted(notebooks())
    for name in written:
        new, old = (json.loads((folder / name).read_text()) for folder in (tmp_path, ROOT))
        assert "".join(new["cells"].pop(0)["source"]) == launch.install_cell(ADDRESS).source
        assert_is_plain(new["cells"], old["cells"])
        assert new | {"cells": []} == old | {"cells": []}


def run_install_cell(folder, address):
    """Run the cell in a folder; return the folder that it leaves the notebook in."""
    source = launch.install_cell(address).source + "\nprint(os.getcwd())"
    run = subprocess.run(
        [sys.executable, "-c", source], cwd=folder, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


def test_the_install_cell_does_nothing_in_the_book():
    assert run_install_cell(ROOT / "book", "file:///nowhere") == str(ROOT / "book")


def test_the_install_cell_fetches_the_book_once(tmp_path):
    origin, elsewhere = tmp_path / "origin" / "NAME", tmp_path / "elsewhere"
    (origin / "book").mkdir(parents=True)
    (origin / "book/references.bib").touch()
    elsewhere.mkdir()
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q", "-b", launch.BRANCH], cwd=origin, check=True)
    subprocess.run([*git, "add", "."], cwd=origin, check=True)
    subprocess.run([*git, "commit", "-q", "-m", "Book"], cwd=origin, check=True)
    for _ in range(2):  # as when a session restarts
        found = run_install_cell(elsewhere, origin.as_uri())
        assert found == str(elsewhere / "NAME" / "book")
    assert (elsewhere / "NAME/book/references.bib").exists()


@pytest.mark.parametrize("notebook", notebooks())
def test_the_extra_for_elsewhere_has_all_that_a_notebook_imports(notebook):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    provided = {"ipython", "jl-attention", "jl-attention-book"} | {
        canonicalize_name(Requirement(line).name)
        for line in project["dependencies"] + project["optional-dependencies"]["notebooks"]
    }
    cells = json.loads((ROOT / notebook).read_text())["cells"]
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names:
                assert canonicalize_name(name) in provided, name


def test_the_lab_has_every_notebook_with_a_line_to_change(tmp_path):
    launch.write_lab(tmp_path)
    copies = sorted(tmp_path.glob("book/*.ipynb"))
    assert [path.name for path in copies] == sorted(Path(nb).name for nb in notebooks())
    assert (tmp_path / "book/results/smallest_dim.csv").exists()
    read = [
        name for path in copies for name in re.findall(r'Path\(\\"(\.\./.+?)\\"', path.read_text())
    ]
    assert "../benchmarks/results/block.csv" in read
    assert all((tmp_path / "book" / name).exists() for name in read)
    for path in copies:
        first, *cells = nbformat.read(path, as_version=4).cells
        original = nbformat.read(ROOT / "book" / path.name, as_version=4).cells
        assert_is_plain(cells, original)
        line = launch.TO_CHANGE.get(path.name[:2])
        assert (line is not None) == ("Try other numbers" in first.source)
        if line:
            code = [cell.source for cell in cells if cell.cell_type == "code"]
            assert any(line in source.splitlines() for source in code), path.name


def test_the_lab_keeps_what_a_reader_changed(tmp_path):
    launch.write_lab(tmp_path)
    names = "01-attention-matrices.ipynb", "results/records/01.jsonl", "references.bib"
    changed = [tmp_path / "book" / name for name in names]
    for path in changed:
        path.write_text("mine")
    launch.write_lab(tmp_path)
    assert [path.read_text() for path in changed] == ["mine"] * 3


def test_the_ledger_of_the_lab_reads_its_own_checks(tmp_path):
    launch.write_lab(tmp_path / "_build/lab")
    records = tmp_path / "_build/lab/book/results/records"
    assert (records / "01.jsonl").exists()
    assert (
        f"JLA_RECORDS=$(CURDIR)/{records.relative_to(tmp_path)} " in (ROOT / "Makefile").read_text()
    )
