"""The book's notebooks for Jupyter, which knows none of Sphinx's directives.

A theorem or a proof becomes a title and its text; what folds in the book folds;
a reference becomes what the book calls its target; a computed number, the one
that the committed notebook holds.
"""

import re
from collections import Counter
from copy import deepcopy

import nbformat
from quiz import in_markdown

RECORD = "application/papermill.record/text/plain"
BOX = re.compile(
    r"^(?P<fence>:{3,}|`{3,})\{(?P<name>[\w:-]+)\}[ ]*(?P<title>[^\n]*)\n"
    r"(?P<options>(?::[\w-]+:[^\n]*\n)*)\n*(?P<body>.*?)\n?^(?P=fence)[ ]*$",
    re.DOTALL | re.MULTILINE,
)
ROLE = re.compile(r"\{([\w:-]+)\}`([^`]*)`")
TARGET = re.compile(r"^\([\w-]+\)=\n", re.MULTILINE)
NAMED = re.compile(r"(.*?)\s*<(?:.*/)?([^/]*)>", re.DOTALL)
YEAR = re.compile(r"([a-z]+)(\d{4})")
FOLDED = "<details><summary>{}</summary>\n\n{}\n\n</details>"
FORMAT = re.compile(r":([^:]*)$")


def option(found, name):
    """Return the value of an option of a directive, or ""."""
    value = re.search(rf"^:{name}:[ ]*(.*)$", found["options"], re.MULTILINE)
    return value[1].strip() if value else ""


class Book:
    """What the notebooks of a folder call their theorems, figures, numbers."""

    def __init__(self, folder):
        self.pages = {
            path.stem: nbformat.read(path, as_version=4)
            for path in sorted(folder.glob("*.ipynb"))
        }
        self.names, self.numbers = {}, {}
        for page, notebook in self.pages.items():
            chapter = page[:2].lstrip("0") if page[:2].isdigit() else ""
            counts = Counter()
            for cell in notebook.cells:
                for kind, label in self.targets(cell):
                    counts[kind] += 1
                    number = f"{chapter}.{counts[kind]}".lstrip(".")
                    self.names[label] = f"{kind} {number}"
                for output in cell.get("outputs", []):
                    value = output.get("data", {}).get(RECORD)
                    if value is not None:
                        name = output["metadata"]["scrapbook"]["name"]
                        self.numbers[page, name] = value

    @staticmethod
    def targets(cell):
        """Yield the kind and the label of what a cell has to refer to."""
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "name" in figure:
            yield "Fig.", figure["name"]
        if cell.cell_type == "markdown":
            for found in BOX.finditer(cell.source):
                kind = found["name"].removeprefix("prf:")
                if kind not in (found["name"], "proof"):
                    yield kind.capitalize(), option(found, "label")

    def plain(self, page):
        """Return a copy of a notebook that needs no directive and no role."""
        notebook = deepcopy(self.pages[page])
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                text = TARGET.sub("", in_markdown(cell.source))
                text = BOX.sub(self.box, text)
                cell.source = ROLE.sub(lambda m: self.role(page, m), text)
        return notebook

    def box(self, found):
        """Return a directive as Markdown."""
        kind = found["name"].removeprefix("prf:")
        title, body = found["title"].strip(), found["body"].strip()
        if kind == "index":
            return ""
        if kind != found["name"]:
            name = self.names.get(option(found, "label"), kind.capitalize())
            title = f"{name} ({title})" if title else name
        elif kind != "admonition":
            return found[0]
        if "dropdown" in option(found, "class"):
            return FOLDED.format(title, body)
        end = "\n\n∎" if kind == "proof" else ""
        return f"**{title}.**\n\n{body}{end}"

    def role(self, page, found):
        """Return a role as Markdown."""
        kind, text = found[1], found[2]
        named = NAMED.fullmatch(text)
        shown, target = named.groups() if named else (text, text)
        if kind == "glue:text":
            return self.number(page, text)
        if kind in ("prf:ref", "numref"):
            return shown if named else self.names.get(text, text)
        if kind == "doc":
            there = target in self.pages
            return f"[{shown}]({target}.ipynb)" if there else shown
        if kind.startswith("cite:"):
            keys = YEAR.sub(lambda m: f"{m[1].capitalize()} {m[2]}", text)
            keys = re.sub(r"\s*,\s*", ", ", keys)
            return f"[{keys}]" if kind == "cite:p" else keys
        return {"math": f"${text}$", "eq": f"({text})"}.get(kind, shown)

    def number(self, page, text):
        """Return a glued number, in the format that the text asks for."""
        other, _, name = text.rpartition("::")
        asked = FORMAT.search(name)
        name = name[: asked.start()] if asked else name
        page = other.removesuffix(".ipynb") or page
        value = self.numbers[page, name].strip("'")
        if asked is None or asked[1] == "s":
            return value
        convert = int if asked[1] == "d" else float
        return format(convert(value), asked[1])
