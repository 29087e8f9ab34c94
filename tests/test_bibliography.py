"""The reference pages agree with the rest: works with citations, symbols with names in the code."""

import importlib
import inspect
import pkgutil
import re
import unicodedata

import nbformat
import pytest
from pybtex.database import parse_file
from toc import ROOT, pages

import jl_attention

WORKS = parse_file(str(ROOT / "book/references.bib")).entries
CITATION = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")
NAMED_WORK = re.compile(r"([A-Z][A-Za-z-]+)(?:'s choice| et al\.)?\s\(?((?:19|20)\d\d)\b")
REQUIRED = {
    "article": {"journal", "volume", "pages"},
    "book": {"publisher"},
    "incollection": {"booktitle", "publisher", "pages"},
    "inproceedings": {"booktitle"},
    "misc": {"eprint", "archiveprefix"},
}
FORMS = {
    "year": r"(19|20)\d\d",
    "pages": r"\d+--\d+",
    "doi": r"10\.\d{4,5}/\S+",
    "eprint": r"\d{4}\.\d{5}",
}
SYMBOLS = re.findall(r"^\| (\$.+?) \| .* \|(.*)\|$", (ROOT / "book/notation.md").read_text(), re.M)


def prose(page):
    """Return the Markdown of a page of the book, with the captions of its figures."""
    path = ROOT / f"{page}.md"
    if path.exists():
        return path.read_text()
    cells = nbformat.read(path.with_suffix(".ipynb"), as_version=4).cells
    captions = [cell.metadata.get("mystnb", {}).get("figure", {}).get("caption") for cell in cells]
    text = [cell.source for cell in cells if cell.cell_type == "markdown"]
    return "\n".join(text + [caption for caption in captions if caption])


def test_works_are_listed_and_cited():
    groups = [group for page in pages() for group in CITATION.findall(prose(page))]
    cited = {key.strip() for group in groups for key in group.split(",")}
    assert cited == set(WORKS)


@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
def test_an_entry_is_complete(work):
    assert work.persons["author"]
    assert set(work.fields) >= {"title", "year"} | REQUIRED[work.type]
    assert work.fields["year"] in work.key
    for field, form in FORMS.items():
        assert field not in work.fields or re.fullmatch(form, work.fields[field])


@pytest.mark.parametrize("field", ["title", "doi", "eprint"])
def test_no_work_is_listed_twice(field):
    values = [work.fields[field] for work in WORKS.values() if field in work.fields]
    plain = {re.sub(r"[\W_]", "", value).lower() for value in values}
    assert len(plain) == len(values)


def test_works_named_in_docstrings_are_listed():
    listed = {
        (without_accents(" ".join(author.last_names)), work.fields["year"])
        for work in WORKS.values()
        for author in work.persons["author"]
    }
    sources = [path.read_text() for path in (ROOT / "src").rglob("*.py")]
    named = {work for source in sources for work in NAMED_WORK.findall(source)}
    assert len(named) > 10
    assert named <= listed


def without_accents(name):
    """Return a name in ASCII letters."""
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()


def test_a_symbol_has_one_meaning():
    symbols = [symbol for cell, _ in SYMBOLS for symbol in cell.split(", ")]
    assert len(symbols) > 40
    assert sorted(set(symbols)) == sorted(symbols)


def test_symbols_have_their_names_in_the_code():
    names = {name for _, cell in SYMBOLS for name in re.findall(r"`(.+?)`", cell)}
    assert len(names) > 20
    assert names <= public_names()


def public_names():
    """Return parameters, attributes and functions of the package, as its notation page has them."""
    names = set()
    for info in pkgutil.walk_packages(jl_attention.__path__, "jl_attention."):
        try:
            module = importlib.import_module(info.name)
        except ImportError:  # an extra
            continue
        short = info.name.rpartition(".")[2]
        for name, thing in inspect.getmembers(module):
            home = getattr(thing, "__module__", None) or ""
            if name.startswith("_") or not f"{home}.".startswith(f"{info.name}."):
                continue
            names.add(f"{short}.{name}")
            if inspect.isclass(thing):
                attributes = set(dir(thing)) | set(getattr(thing, "__annotations__", ()))
                names |= attributes | {f"{name}.{attribute}" for attribute in attributes}
            elif inspect.isfunction(thing):
                names |= set(inspect.signature(thing).parameters)
    return names
