"""Numbers that no cell prints: in prose, in the text of links, in identifiers, in statements.

A number of two or more digits in a chapter's prose must stand in that chapter's code, as a
parameter does; a result is glued. Numbers of one digit are left to the reader. What neither is (a
format's range, a release, a sum that the reader does in the head) is listed here with what it is.
"""

import json
import re
import tomllib

import pytest
from toc import ROOT, notebooks

FACTS = {
    "01-attention-matrices": {"30": "layers of the decoder"},
    "10-max-margin": {"23": "a book's chapter"},
    "11-finite-precision": {
        "53": "bits of float64's significand",
        "65,504": "the largest float16",
    },
    "12-real-attention": {
        "90": "the mass that is counted where no other is said",
        "65": "tokens that row 64, the first being 0, sees",
    },
    "13-transformer-block": {
        "0.001": "a leak that an exercise asks for",
        "5.2": "a release of transformers",
        "5.24": "a release of transformers",
    },
    "14-test-bench": {
        "255": "the last token of the second block of 128",
        "131": "131 072 tokens",
        "072": "131 072 tokens",
        "6096": "a default of MInference",
    },
    "15-embedding-dimension": {
        "1000": "queries of a data set",
        "1035": "the pairs of 46",
    },
    "index": {"3.11": "the oldest Python", "4.0": "the version of a licence"},
}
"""Numbers of a page that its cells need not know, and what they are."""

STATEMENTS = {
    "C1-sparse": {"128": "tokens of a text of the data"},
    "T9-head-size": {"216": "3 texts of 6 layers of 12 heads"},
}
"""Numbers of a claim's statement that its chapter need not know, and what they are."""

NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?%?(?!\w)")
NOT_PROSE = [
    r"```.*?```",
    r"\$\$.*?\$\$",
    r"\$[^$]*\$",
    r"\{[\w:-]+\}`[^`]*`",  # roles: glued numbers, links, citations
    r"`[^`]*`",
    r"(?<=\])\([^)]*\)",
    r"https?://\S+",
    r"<[^>]+>",
    r"^:{3,}[^\n]*$|^:\w+:[^\n]*$|^\([\w-]+\)=$",
]


def prose(markdown):
    """Return Markdown without mathematics, code, roles, addresses and directives' options."""
    for pattern in NOT_PROSE:
        markdown = re.sub(pattern, "", markdown, flags=re.S | re.M)
    return markdown


def plain(number):
    return number.replace(",", "").rstrip("%")


def numbers(code):
    """Return the numbers of a text of code, a share also as a percentage."""
    found = set(re.findall(r"\d+(?:\.\d+)?", code.replace(",", "").replace("_", "")))
    return found | {f"{100 * float(share):g}" for share in found if share.startswith("0.")}


def unaccounted(markdown, code):
    """Return the numbers of two or more digits in prose that the code does not have."""
    known = numbers(code)
    found = (match[0].rstrip(",%") for match in NUMBER.finditer(prose(markdown)))
    return [n for n in found if len(re.sub(r"\D", "", n)) > 1 and plain(n) not in known]


def cells(notebook, kind):
    content = json.loads((ROOT / notebook).read_text())["cells"]
    return [cell for cell in content if cell["cell_type"] == kind]


def source(notebook, kind):
    return "\n\n".join("".join(cell["source"]) for cell in cells(notebook, kind))


@pytest.mark.parametrize("notebook", notebooks())
def test_numbers_in_prose_stand_in_the_code(notebook):
    page = notebook.removeprefix("book/").removesuffix(".ipynb")
    found = unaccounted(source(notebook, "markdown"), source(notebook, "code"))
    assert set(found) == FACTS.get(page, {}).keys(), "glue it, or say in FACTS what it is"


@pytest.mark.parametrize(
    ("markdown", "found"),
    [
        ("takes 16 bits", []),
        ("takes 17 bits", ["17"]),
        ("90% of 1,024 rows, 0.25 of them", []),
        ("91% of 1,025 rows, 0.26 of them", ["91", "1,025", "0.26"]),
        ("2 of 3 heads", []),
        ("it was 99, $99$, `99`, {glue:text}`99`, [99 words](#99)", ["99", "99"]),
        ("see https://example.org/1706.99999 and <img width='99'>", []),
        ("```\n99\n```\n$$\n99\n$$\n:width: 99\n(sec-99)=\nT99, L2a", []),
        (":::{note}\n99\n:::\n98\n:width: 97\n96", ["99", "98", "96"]),
    ],
)
def test_a_falsified_digit_is_found(markdown, found):
    assert unaccounted(markdown, "length, share = 1024, 0.25\nbits = 16\nmass = 0.9") == found


# --- Links ---------------------------------------------------------------------------------------

LINK = re.compile(r"\{doc\}`[Cc]hapters? (\d+)[^<`]*<(?:\.\./|book/)?(\d\d)-[\w-]+>`")


def pages():
    """Yield (name, Markdown) of every page, the README and the claims."""
    for path in [
        ROOT / "README.md",
        ROOT / "REPRODUCING.md",
        *sorted((ROOT / "book").glob("*.md")),
    ]:
        yield path.name, path.read_text()
    for notebook in notebooks():
        yield notebook, source(notebook, "markdown")


def misnamed(markdown):
    """Return the links to chapters whose text has another number than the file."""
    return [m[0] for m in LINK.finditer(markdown) if int(m[1]) != int(m[2])]


def test_links_name_the_chapter_that_they_lead_to():
    texts = dict(pages())
    assert sum(len(LINK.findall(text)) for text in texts.values()) > 50
    assert {name: misnamed(text) for name, text in texts.items() if misnamed(text)} == {}
    assert misnamed("see {doc}`Chapter 7 <08-every-pattern>`")
    assert not misnamed("see {doc}`Chapter 7 <07-interpolation>`")


# --- Identifiers ---------------------------------------------------------------------------------

ARXIV = re.compile(r"(?i)arxiv(?:\.org/abs/|[:\s]+)\s*(\d{4}\.\d{4,5})")
DOI = re.compile(r"\b10\.\d{4,5}/[^\s)\"'>]+[\w)]")


def test_identifiers_are_those_of_the_bibliography():
    listed = (ROOT / "book/references.bib").read_text()
    known = set(re.findall(r"eprint = \{([^}]+)\}|doi = \{([^}]+)\}", listed))
    known = {identifier for pair in known for identifier in pair if identifier}
    texts = dict(pages()) | {"CITATION.cff": (ROOT / "CITATION.cff").read_text()}
    texts |= {str(path): path.read_text() for path in (ROOT / "src").rglob("*.py")}
    count = 0
    for name, text in texts.items():
        if name.endswith("bibliography.md"):
            continue
        for identifier in [*ARXIV.findall(text), *DOI.findall(text)]:
            assert identifier in known, f"{name}: {identifier}"
            count += 1
    assert count >= 4


# --- Statements of claims ------------------------------------------------------------------------

REGISTER = tomllib.loads((ROOT / "src/jl_attention_book/data/claims.toml").read_text())
CHECKS = {
    name: check for entry in REGISTER.values() for name, check in entry.get("checks", {}).items()
}


def chapter_of(check):
    return next((nb for nb in notebooks() if nb.startswith(f"book/{check['chapter']:02d}-")), None)


def up_to(notebook, name):
    """Return the code, and what it printed, up to the cell that makes a check."""
    text = ""
    for cell in cells(notebook, "code"):
        code = "".join(cell["source"])
        printed = "".join("".join(out.get("text", "")) for out in cell["outputs"])
        text += code + "\n" + printed + "\n"
        if f"[{name}] measured" in printed:
            return text
    raise AssertionError(f"{notebook} makes no check {name}")


def missing(statement, text):
    """Return the numbers of a statement, of one digit too, that a text does not have."""
    known = numbers(text)
    return [n for n in (plain(m) for m in NUMBER.findall(statement)) if n not in known]


@pytest.mark.parametrize("name", CHECKS)
def test_numbers_in_a_statement_are_its_check_s(name):
    check = CHECKS[name]
    notebook = chapter_of(check)
    if notebook is None:
        pytest.skip("its chapter is not in the table of contents")
    if NUMBER.search(check["statement"]):
        found = missing(check["statement"], up_to(notebook, name))
        assert set(found) <= STATEMENTS.get(name, {}).keys()


def test_a_falsified_statement_is_found():
    text = 'draws = 32\nclaims.check("X", measured=misses, bound=1)\n'
    assert missing("Draws of 32 that miss, below 1", text) == []
    assert missing("Draws of 33 that miss, below 2", text) == ["33", "2"]
    falsified = 0
    for name, check in CHECKS.items():
        notebook = chapter_of(check)
        if notebook is None or not (found := NUMBER.findall(check["statement"])):
            continue
        digit = plain(found[-1])
        other = f"{digit[:-1]}{(int(digit[-1]) + 1) % 10}"
        falsified += bool(missing(f"it is {other}", up_to(notebook, name)))
    assert falsified > 5
