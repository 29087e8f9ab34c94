"""What a chapter looks like in Jupyter, which knows no directive and no role of Sphinx."""

import nbformat
import plain
import pytest
from toc import ROOT

SOURCE = """\
(sec-x)=
## Title

```{prf:theorem} T3: $m$
:label: thm-a

$$
x
$$ (eq-x)
```

:::{prf:proof}
:class: dropdown
By {prf:ref}`thm-b`.
:::

```{prf:proof}
By {eq}`eq-x`.
```

```{prf:lemma}
:label: lem-a
Text.
```

```{admonition} Solution
:class: dropdown
It is {glue:text}`a:.1f`, {glue:text}`b:d`, {glue:text}`c:s` and {glue:text}`07-b.ipynb::a`.
```

```{admonition} In two minutes
:class: tip two-minutes

- {numref}`fig-x`, {numref}`the figure <fig-x>`
```

```{index} ! a
```
See {doc}`Chapter 7 <../book/07-b>`, {doc}`the words <glossary>`, {ref}`here <sec-x>`, {math}`y`,
{cite:t}`wang2020` {cite:p}`wang2020,xiao2024`, `code` and {prf:ref}`thm-none`.

```python
kept = {}
```
"""
PLAIN = """\
## Title

**Theorem 6.1 (T3: $m$).**

$$
x
$$ (eq-x)

<details><summary>Proof</summary>

By Theorem 7.1.

</details>

**Proof.**

By (eq-x).

∎

**Lemma 6.1.**

Text.

<details><summary>Solution</summary>

It is 0.3, 12, one in 5 and 4.

</details>

**In two minutes.**

- Fig. 6.1, the figure


See [Chapter 7](07-b.ipynb), the words, here, $y$,
Wang 2020 [Wang 2020, Xiao 2024], `code` and thm-none.

```python
kept = {}
```
"""


def number(name, value):
    data = {plain.RECORD: value}
    return nbformat.v4.new_output("display_data", data, metadata={"scrapbook": {"name": name}})


def write(path, *cells):
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)


@pytest.fixture
def book(tmp_path):
    """Return two small chapters."""
    code = nbformat.v4.new_code_cell("x")
    code.metadata["mystnb"] = {"figure": {"name": "fig-x"}}
    code.outputs = [number("a", "0.3333"), number("b", "12"), number("c", "'one in 5'")]
    write(tmp_path / "06-a.ipynb", code, nbformat.v4.new_markdown_cell(SOURCE))
    other = nbformat.v4.new_code_cell("y")
    other.outputs = [number("a", "4")]
    theorem = "```{prf:theorem}\n:label: thm-b\n\nText.\n```"
    write(tmp_path / "07-b.ipynb", other, nbformat.v4.new_markdown_cell(theorem))
    return plain.Book(tmp_path)


def test_a_chapter_becomes_plain_markdown(book):
    assert book.plain("06-a").cells[1].source == PLAIN


def test_code_and_the_committed_notebook_stay(book):
    before = book.pages["06-a"].cells[1].source
    assert book.plain("06-a").cells[0] == book.pages["06-a"].cells[0]
    assert book.pages["06-a"].cells[1].source == before == SOURCE


def test_a_number_that_no_cell_glues_is_an_error(book):
    book.pages["06-a"].cells[1].source = "{glue:text}`nobody`"
    with pytest.raises(KeyError, match="nobody"):
        book.plain("06-a")


def test_the_book_s_theorems_are_all_known():
    names = plain.Book(ROOT / "book").names
    assert names["thm-t1"] == "Theorem 4.1"
    assert names["thm-t3"] == "Theorem 7.1"
    assert names["lem-rank"] == "Lemma 1.2"
    assert len(set(names.values())) == len(names)
