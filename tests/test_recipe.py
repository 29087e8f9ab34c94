"""What the README and the page of recipes tell people to type does what is said."""

import json
import re
import shlex

import pytest
from toc import ROOT

import jl_attention as jla
from jl_attention import cli

RECIPE = ROOT / "book/recipe.ipynb"
EXTRAS = {
    "torch": "torch",
    "onnx": "onnxruntime",
    "glue": "myst_nb",
    "distributed": "distributed",
}
"""What a snippet with this word needs; it is passed over where that is not installed."""

FENCE = re.compile(r"^```(python|console)\n(.*?)^```$", re.M | re.S)


def snippets(path):
    """Yield (language, text) of the fenced blocks, and the cells, of a page in order."""
    if path.suffix == ".md":
        yield from FENCE.findall(path.read_text())
        return
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            yield "python", source
        else:
            yield from FENCE.findall(source)


def commands(text):
    """Yield the words after each ``jl-attention`` of a console block."""
    for line in text.splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words[0] == "jl-attention":
            yield words[1:]


@pytest.mark.parametrize("path", [ROOT / "README.md", RECIPE], ids=["README", "recipe"])
def test_every_snippet_runs_in_order(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names, ran = {}, {"python": 0, "console": 0, "skipped": 0}
    for language, text in snippets(path):
        if language == "console":
            for words in commands(text):
                assert cli.main(words) == cli.DONE, words
                ran["console"] += 1
            continue
        needs = [name for word, name in EXTRAS.items() if re.search(rf"\b{word}\b", text)]
        try:
            for name in needs:
                __import__(name)
        except ImportError:
            ran["skipped"] += 1
            continue
        exec(compile(text, f"{path.name}: {text[:40]!r}", "exec"), names)
        ran["python"] += 1
    monkeypatch.chdir(tmp_path)
    assert ran["console"] >= 4
    assert ran["python"] >= 1
    assert ran["python"] + ran["skipped"] >= (2 if path.suffix == ".md" else 10)
    printed = capsys.readouterr().out
    assert "meets the total variation 0.01 asked" in printed
    assert names["built"].meets(jla.measure(names["built"], names["A"]))


def test_the_readme_prints_what_was_asked_for(capsys):
    first = next(text for kind, text in snippets(ROOT / "README.md") if kind == "python")
    assert len([line for line in first.splitlines() if line.strip()]) <= 10
    exec(first, {})
    dim, total_variation, meets = capsys.readouterr().out.split()
    assert int(dim) < 2048
    assert float(total_variation) <= 0.01
    assert meets == "True"


def test_every_command_and_option_that_is_named_exists(capsys):
    """A page may name an option in passing: it must be one of the command line's."""
    helps = ""
    for command in ("example", "dim", "build", "measure"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        helps += capsys.readouterr().out
    known = set(re.findall(r"--[a-z][a-z-]*", helps))
    for path in (ROOT / "README.md", RECIPE):
        text = path.read_text()
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
        assert named
        assert named <= known, named - known


def test_every_function_that_is_named_exists():
    for path in (ROOT / "README.md", RECIPE):
        for module, name in re.findall(r"`(?:jla\.)?(targets|patterns)\.(\w+)", path.read_text()):
            assert callable(getattr(getattr(jla, module, None) or jla.targets, name)), name
