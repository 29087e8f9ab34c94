"""The strip of chapters and the reading time: what is counted, and that all chapters are in it."""

import here
import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from toc import ROOT, notebooks

PARTS = here.parts(yaml.safe_load((ROOT / "_toc.yml").read_text()))
CHAPTERS = [page for _, pages in PARTS for page in pages]


def test_every_numbered_chapter_is_in_it():
    numbered = [nb.removesuffix(".ipynb") for nb in notebooks() if nb[5:7].isdigit()]
    assert numbered == CHAPTERS
    assert len(PARTS) == 3


@pytest.mark.parametrize("current", [CHAPTERS[0], CHAPTERS[-1]])
def test_the_strip_marks_the_page_and_links_the_others(current):
    titles = {page: f"On <{page}>" for page in CHAPTERS}
    html = here.strip(PARTS, current, titles, lambda page: f"../{page}.html")
    links = BeautifulSoup(html, "html.parser").find_all("a")
    assert [link["href"] for link in links] == [f"../{page}.html" for page in CHAPTERS]
    assert [link.text for link in links] == [str(k + 1) for k in range(len(CHAPTERS))]
    assert [link["href"] for link in links if link.get("aria-current")] == [f"../{current}.html"]
    assert links[0]["aria-label"] == f"Chapter 1: On <{CHAPTERS[0]}>"


def test_words_are_what_a_reader_reads():
    page = nodes.section()
    page += nodes.paragraph("", "three short words")
    page += nodes.math("", r"a + b + c")
    page += nodes.literal_block("", "x = 1 + 1")
    page += nodes.admonition("", nodes.paragraph("", "a folded proof"), classes=["dropdown"])
    page += nodes.bullet_list("", nodes.list_item("", nodes.paragraph("", "one more")))
    assert here.count_words(page) == 6


def test_minutes_are_rounded_up():
    assert "1 minutes: 200 words" in here.reading(200)
    assert "2 minutes: 201 words" in here.reading(201)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_begins_with_two_minutes(chapter):
    _, path = nbformat.read(ROOT / f"{chapter}.ipynb", as_version=4).cells[:2]
    assert path.source.startswith("```{admonition} In two minutes")
    points = [line for line in path.source.splitlines() if line.startswith("- ")]
    assert 3 <= len(points) <= 5
    assert len(path.source.split()) < 150
