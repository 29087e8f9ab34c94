"""The repository's own files agree with each other."""

import json
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from bs4 import BeautifulSoup
from check_site import check_site, outside_loads
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from readme_picture import PICTURE, first_figure
from toc import ROOT, notebooks, pages

import jl_attention

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text().splitlines()


def lock_pins():
    """Return {name: [versions]} of requirements.lock."""
    pins = {}
    for line in LOCK:
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        pins.setdefault(canonicalize_name(requirement.name), []).append(specifier.version)
    return pins


def test_the_lock_satisfies_every_range():
    locked_extras = re.search(r"^EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    project = PYPROJECT["project"]
    wanted = project["dependencies"] + [
        line for extra in locked_extras for line in project["optional-dependencies"][extra]
    ]
    pins = lock_pins()
    for line in wanted:
        requirement = Requirement(line)
        versions = pins.get(canonicalize_name(requirement.name))
        assert versions, f"{requirement.name} is not in requirements.lock: run make lock"
        assert all(requirement.specifier.contains(version) for version in versions), line


def test_the_lock_names_no_host():
    assert not [line for line in LOCK if "://" in line or line.startswith("-")]


def test_the_conda_door_leads_to_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert pip == ["-r requirements.lock", "-e ."]
    (python,) = [item for item in environment["dependencies"] if str(item).startswith("python=")]
    oldest = PYPROJECT["project"]["requires-python"].removeprefix(">=")
    assert python == f"python={oldest}"


def test_make_refuses_an_old_python(tmp_path):
    old = tmp_path / "python3.9"
    old.write_text(
        f"#!/bin/sh\nexec '{sys.executable}' -c "
        "'import sys; sys.version_info = (3, 9); exec(sys.argv[1])' \"$2\"\n"
    )
    old.chmod(0o755)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    run = subprocess.run(
        ["make", f"PYTHON={old}", "book"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode != 0
    assert "this project needs 3.11 or newer" in run.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_citation_names_the_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == jl_attention.__version__
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert "10.1609/aaai.v37i7.26055" in [item.get("doi") for item in citation["references"]]


@pytest.mark.parametrize("document", ["README.md", "REPRODUCING.md", "benchmarks/README.md"])
def test_every_relative_link_leads_to_a_file(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_book_shows_how_to_reproduce_from_one_source():
    assert "{include} ../REPRODUCING.md" in (ROOT / "book/reproducing.md").read_text()


# --- Notebooks -----------------------------------------------------------------------------------


def read(notebook):
    return json.loads((ROOT / notebook).read_text())


def figure_cells(notebook):
    """Yield the cell of each figure of a notebook."""
    for cell in read(notebook)["cells"]:
        for output in cell.get("outputs", []):
            if any(kind.startswith("image/") for kind in output.get("data", {})):
                yield cell


def written_images(text):
    """Yield the alternative text and the address of each image in Markdown or HTML."""
    for match in re.finditer(r"!\[([^\]]*)\]\(([^)\s]+)", text):
        yield match.groups()
    for image in BeautifulSoup(text, "html.parser").find_all("img"):
        yield image.get("alt", ""), image["src"]


def test_every_page_of_the_toc_exists():
    for page in pages():
        assert any((ROOT / f"{page}{suffix}").exists() for suffix in (".ipynb", ".md")), page


def test_every_notebook_is_in_the_toc():
    assert sorted(notebooks()) == sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "book").glob("*.ipynb")
    )


@pytest.mark.parametrize("notebook", notebooks())
def test_notebooks_are_stripped_and_executed_in_order(notebook):
    content = read(notebook)
    assert set(content["metadata"]) == {"kernelspec", "language_info"}
    cells = content["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert all(set(cell["metadata"]) <= {"tags", "mystnb"} for cell in cells)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))


@pytest.mark.parametrize("notebook", notebooks())
def test_every_figure_has_a_caption_and_alternative_text(notebook):
    for cell in figure_cells(notebook):
        settings = cell["metadata"]["mystnb"]
        assert len(settings["image"]["alt"]) > 40, cell["id"]
        assert len(settings["figure"]["caption"]) > 20, cell["id"]
        assert settings["figure"]["name"].startswith("fig-"), cell["id"]


def test_no_two_figures_share_a_name():
    names = [
        cell["metadata"]["mystnb"]["figure"]["name"]
        for notebook in notebooks()
        for cell in figure_cells(notebook)
    ]
    assert len(names) == len(set(names))


def test_images_in_texts_exist_and_say_what_they_show():
    texts = {path: path.read_text() for path in [ROOT / "README.md", *(ROOT / "book").glob("*.md")]}
    for notebook in notebooks():
        cells = [cell for cell in read(notebook)["cells"] if cell["cell_type"] == "markdown"]
        texts[ROOT / notebook] = "\n".join("".join(cell["source"]) for cell in cells)
    assert list(written_images(texts[ROOT / "README.md"]))
    for path, text in texts.items():
        for alt, address in written_images(text):
            assert len(alt) > 40, f"{path}: {address}"
            assert (path.parent / address).is_file(), f"{path}: {address}"


@pytest.mark.parametrize("notebook", notebooks())
def test_no_machine_facts_in_outputs(notebook):
    for cell in read(notebook)["cells"]:
        for output in cell.get("outputs", []):
            text = json.dumps({k: v for k, v in output.items() if k != "metadata"})
            if "image/png" not in output.get("data", {}):
                assert not re.search(r"0x[0-9a-f]{8}|/home/|/root/|/tmp/|seconds", text), cell["id"]
            assert output.get("name") != "stderr", cell["id"]


def test_the_readme_shows_the_first_figure_of_the_book():
    assert PICTURE.read_bytes() == first_figure(), "run make notebooks"


# --- The checker of built pages ------------------------------------------------------------------


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://example.org/x.js"></script>',
        '<script src="//example.org/x.js"></script>',
        '<link rel="stylesheet" href="https://example.org/x.css">',
        '<img src="HTTPS://example.org/x.png">',
        '<iframe src="https://example.org"></iframe>',
        '<link rel="preconnect" href="https://example.org">',
        '<svg><image href="https://example.org/x.png"/></svg>',
        '<script type="module">import x from "https://example.org/x.js";</script>',
        '<script>const x = await import("//example.org/x.js");</script>',
        "<style>@import 'https://example.org/x.css';</style>",
        '<p style="background: url(https://example.org/x.png)"></p>',
    ],
)
def test_a_planted_outside_load_is_found(page, tmp_path):
    assert len(outside_loads(page)) == 1
    (tmp_path / "page.html").write_text(page)
    assert len(check_site(tmp_path)) == 1


def test_links_and_own_files_are_not_loads(tmp_path):
    page = (
        '<a href="https://example.org">x</a><link rel="canonical" href="https://example.org">'
        '<script src="../_static/x.js"></script><img src="data:image/png;base64,AA//BB">'
    )
    assert BeautifulSoup(page, "html.parser").find_all()
    assert outside_loads(page) == []
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "own.css").write_text("@font-face { src: url(fonts/x.woff2) }")
    assert check_site(tmp_path) == []
    (tmp_path / "own.css").write_text("@font-face { src: url(https://example.org/x.woff2) }")
    assert len(check_site(tmp_path)) == 1


def test_an_empty_site_is_not_accepted(tmp_path):
    assert check_site(tmp_path)
