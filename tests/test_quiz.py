"""The quizzes: what becomes of one, in HTML, as a list, in a notebook; and what is refused."""

import io
import os
import re
import subprocess
import sys

import pytest
import quiz
from docutils import nodes
from docutils.core import publish_doctree
from docutils.parsers.rst import directives
from myst_parser.docutils_ import Parser
from toc import ROOT

GOOD = """\
:::{quiz}
What if $m < 3$?

- [ ] Nothing *new*.

  It is the
  other one.
- [x] A code like `x`,
  in two lines.

  Because.

  And why not.
:::
"""
HTML = """\
<div class="quiz" role="group" aria-label="Quiz">
<p class="quiz-title">Quiz</p>
<p>What if <span class="math notranslate nohighlight">\\(m &lt; 3\\)</span>?</p>
<details class="quiz-answer">
<summary>Nothing <em>new</em>.</summary>
<div class="quiz-wrong">
<p><strong>Wrong.</strong> It is the
other one.</p>
</div>
</details>
<details class="quiz-answer">
<summary>A code like <code class="docutils literal notranslate"><span class="pre">x</span></code>,
in two lines.</summary>
<div class="quiz-right">
<p><strong>Right.</strong> Because.</p>
<p>And why not.</p>
</div>
</details>
</div>
"""
TEXT = """\
Page
****

What if m < 3?

* Nothing *new*.

  **Wrong.** It is the other one.

* A code like "x", in two lines.

  **Right.** Because.

  And why not.
"""
MARKDOWN = """\
**Quiz.** What if $m < 3$?

- **A.** Nothing *new*.
- **B.** A code like `x`,
in two lines.

<details><summary>A</summary>

**Wrong.** It is the
other one.

</details>

<details><summary>B</summary>

**Right.** Because.

And why not.

</details>
"""
FENCES = [(":::", ":::"), ("::::", "::::"), ("```", "```")]


def fenced(opening, closing):
    return GOOD.replace(":::{quiz}", opening + "{quiz}").replace("\n:::\n", f"\n{closing}\n")


@pytest.fixture(scope="module", autouse=True)
def directive():
    """Let docutils know the directive, in this file only."""
    directives.register_directive("quiz", quiz.Quiz)
    yield
    del directives._directives["quiz"]


def parsed(source):
    """Return the document of a source, and what docutils complains of."""
    complaints = io.StringIO()
    settings = {
        "warning_stream": complaints,
        "myst_enable_extensions": ["colon_fence", "dollarmath"],
    }
    document = publish_doctree(
        source, source_path="page.md", parser=Parser(), settings_overrides=settings
    )
    return document, complaints.getvalue()


@pytest.mark.parametrize("fence", FENCES)
def test_a_quiz_has_a_question_and_answers(fence):
    document, complaints = parsed(fenced(*fence))
    (node,) = document.findall(quiz.quiz)
    question, *answers = node.children
    assert complaints == ""
    assert question.astext() == "What if m < 3?"
    assert [answer["right"] for answer in answers] == [False, True]
    assert [[part.astext() for part in answer] for answer in answers] == [
        ["Nothing new.", "Wrong. It is the\nother one."],
        ["A code like x,\nin two lines.", "Right. Because.", "And why not."],
    ]


def test_an_answer_may_be_a_formula():
    document, complaints = parsed(GOOD.replace("Nothing *new*.", "$x$"))
    choice = next(document.findall(quiz.quiz_choice))
    assert complaints == ""
    assert choice.astext() == "x"
    assert isinstance(choice[-1], nodes.math)


def test_what_is_said_may_begin_with_a_formula():
    document, complaints = parsed(GOOD.replace("  Because.", "  $$\n  x\n  $$"))
    said = next(document.findall(quiz.quiz))[-1][1:]
    assert complaints == ""
    assert said[0].astext() == "Right."
    assert isinstance(said[1], nodes.math_block)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("What if $m < 3$?\n", "", "no question before the answers"),
        (GOOD[GOOD.index("- [x]") : -4], "", "fewer than two answers"),
        ("[x]", "[ ]", "0 answers are right, not one"),
        ("[ ]", "[x]", "2 answers are right, not one"),
        ("[ ]", "( )", r"[ ] or [x] does not begin: '( ) Nothing new.'"),
        ("[ ] Nothing", "*[ ]* Nothing", "[ ] or [x] does not begin: '[ ] Nothing new.'"),
        ("[ ] Nothing *new*.", "[ ]", "an answer has no text"),
        ("\n\n  It is the\n  other one.", "", "nothing is said to: '[ ] Nothing new.'"),
        (
            "Nothing *new*.",
            "See [it](https://example.org).",
            "a link within an answer: '[ ] See it.'",
        ),
        (GOOD[GOOD.index("- [ ]") : -4], "", "it does not end with a list of answers"),
        ("\n:::\n", "\n\nMore.\n:::\n", "it does not end with a list of answers"),
        (GOOD[len(":::{quiz}\n") : -4], "", "it does not end with a list of answers"),
    ],
)
def test_a_mistake_names_the_page_and_the_line(old, new, complaint):
    assert GOOD.count(old) == 1
    document, complaints = parsed("# Page\n\n" + GOOD.replace(old, new))
    assert complaints.startswith(f"page.md:3: (ERROR/3) quiz: {complaint}\n")
    assert not list(document.findall(quiz.quiz))


# --- Builders ------------------------------------------------------------------------------------


@pytest.fixture
def build(tmp_path):
    """Return ``build(builder, source)``: the folder that Sphinx writes."""

    def build(builder, source="# Page\n\n" + GOOD):
        (tmp_path / "index.md").write_text(source)
        (tmp_path / "conf.py").write_text(
            "extensions = ['myst_parser', 'quiz']\n"
            "myst_enable_extensions = ['colon_fence', 'dollarmath']\n"
        )
        out = tmp_path / builder
        subprocess.run(
            [sys.executable, "-m", "sphinx", "-q", "-W", "-n", "-b", builder, tmp_path, out],
            env=os.environ | {"PYTHONPATH": str(ROOT / "book/_ext")},
            check=True,
        )
        return out

    return build


def test_in_html_an_answer_unfolds(build):
    page = (build("html") / "index.html").read_text()
    assert HTML in page


def test_a_quiz_is_not_searched(build):
    index = (build("html", "# Page\n\nSearched.\n\n" + GOOD) / "searchindex.js").read_text()
    terms = re.search(r'"terms": \{([^}]*)\}', index)[1]
    assert terms == '"search": 0'


def test_elsewhere_it_is_a_list(build):
    assert (build("text") / "index.txt").read_text() == TEXT
    tex = next(build("latex").glob("*.tex")).read_text()
    assert r"\sphinxstylestrong{Wrong.} It is the" in tex


# --- Notebooks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fence", FENCES)
def test_a_notebook_shows_it_without_the_directive(fence):
    around = "Before.\n\n{}\n```python\n1\n```\n\n:::{{note}}\nAfter.\n:::\n"
    text = quiz.in_markdown(around.format(fenced(*fence)))
    assert text == around.format(MARKDOWN)


def test_two_quizzes_stay_two():
    assert quiz.in_markdown(GOOD + "\n" + GOOD) == MARKDOWN + "\n" + MARKDOWN
