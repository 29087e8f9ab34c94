"""Sphinx extension: a question, its answers, and what is said to each.

    :::{quiz}
    The question.

    - [ ] A wrong answer.

      Why it is wrong.
    - [x] The right answer.

      Why it is right.
    :::

An answer unfolds what is said to it, without a script. A builder that is not
for HTML gets a list. A quiz is not searched: it would show wrong answers as if
the book said so. `in_markdown` writes quizzes for what knows no directives.
"""

import re

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform

MARK = re.compile(r"\[([ xX])\]\s*")
VERDICTS = {True: "Right.", False: "Wrong."}
FEWEST_ANSWERS = 2


LINKS = nodes.reference, addnodes.pending_xref, addnodes.download_reference


class quiz(nodes.comment):
    """The question, then its answers; for the search index, a comment."""


class quiz_answer(nodes.General, nodes.Element):
    """A `quiz_choice`, then what is said to it; attribute ``right``."""


class quiz_choice(nodes.General, nodes.TextElement):
    """The text of an answer."""


class Quiz(Directive):
    """The directive."""

    has_content = True

    def run(self):
        """Return the quiz; an error names the directive's page and line."""
        parsed = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        *question, last = parsed.children or [None]
        if not isinstance(last, nodes.bullet_list):
            raise self.error("quiz: it does not end with a list of answers")
        if not any(part.astext().strip() for part in question):
            raise self.error("quiz: no question before the answers")
        answers = [self.answer(item) for item in last]
        if len(answers) < FEWEST_ANSWERS:
            raise self.error("quiz: fewer than two answers")
        right = sum(answer["right"] for answer in answers)
        if right != 1:
            raise self.error(f"quiz: {right} answers are right, not one")
        return [quiz("", "", *question, *answers)]

    def answer(self, item):
        """Return the answer of an item of the list."""
        choice, *said = item.children or [nodes.paragraph()]
        text = choice.astext()
        first = next(iter(choice), None)
        mark = isinstance(first, nodes.Text) and MARK.match(first)
        if not mark:
            raise self.error(f"quiz: [ ] or [x] does not begin: {text!r}")
        if mark.end() == len(text):
            raise self.error("quiz: an answer has no text")
        if any(isinstance(part, LINKS) for part in choice.findall()):
            raise self.error(f"quiz: a link within an answer: {text!r}")
        if not any(part.astext().strip() for part in said):
            raise self.error(f"quiz: nothing is said to: {text!r}")
        choice[0] = nodes.Text(first[mark.end() :])
        right = mark[1] != " "
        verdict = nodes.strong("", VERDICTS[right])
        if isinstance(said[0], nodes.paragraph):
            said[0].insert(0, [verdict, nodes.Text(" ")])
        else:
            said.insert(0, nodes.paragraph("", "", verdict))
        choice = quiz_choice("", "", *choice.children)
        return quiz_answer("", choice, *said, right=right)


class AsList(SphinxPostTransform):
    """For builders without HTML: a question and a list."""

    default_priority = 400

    def is_supported(self):
        """Say whether the builder needs the list."""
        return self.app.builder.format != "html"

    def run(self, **kwargs):
        """Replace every quiz."""
        for node in list(self.document.findall(quiz)):
            answers = nodes.bullet_list(bullet="-")
            for answer in list(node.findall(quiz_answer)):
                choice, *said = answer.children
                text = nodes.paragraph("", "", *choice.children)
                answers += nodes.list_item("", text, *said)
                node.remove(answer)
            node.replace_self([*node.children, answers])


def visit_quiz(self, node):
    """Open the box."""
    self.body.append(
        '<div class="quiz" role="group" aria-label="Quiz">\n'
        '<p class="quiz-title">Quiz</p>\n'
    )


def depart_quiz(self, node):
    """Close the box."""
    self.body.append("</div>\n")


def visit_answer(self, node):
    """Open an answer."""
    self.body.append('<details class="quiz-answer">\n')


def depart_answer(self, node):
    """Close an answer and what is said to it."""
    self.body.append("</div>\n</details>\n")


def visit_choice(self, node):
    """Open the part that is always seen."""
    self.body.append("<summary>")


def depart_choice(self, node):
    """Close it, and open what is said to it."""
    kind = "right" if node.parent["right"] else "wrong"
    self.body.append(f'</summary>\n<div class="quiz-{kind}">\n')


# --- Elsewhere ----------------------------------------------------------------

SOURCE = re.compile(
    r"^(?P<fence>:{3,}|`{3,})\{quiz\}[ ]*\n(?P<body>.*?)\n(?P=fence)[ ]*$",
    re.DOTALL | re.MULTILINE,
)
ITEM = re.compile(r"^- \[([ xX])\] ", re.MULTILINE)
INDENT = re.compile(r"^  ", re.MULTILINE)
FOLDED = """\
<details><summary>{letter}</summary>

**{verdict}** {said}

</details>
"""


def plain_quiz(found):
    """Return one quiz as Markdown with a <details> for each answer."""
    question, *parts = ITEM.split(found["body"])
    choices, folded = [], []
    for number, (mark, text) in enumerate(zip(*[iter(parts)] * 2, strict=True)):
        choice, said = INDENT.sub("", text).strip().split("\n\n", 1)
        letter = chr(ord("A") + number)
        verdict = VERDICTS[mark != " "]
        choices.append(f"- **{letter}.** {choice}\n")
        folded.append(
            FOLDED.format(letter=letter, verdict=verdict, said=said.strip())
        )
    lines = [f"**Quiz.** {question.strip()}\n", "".join(choices), *folded]
    return "\n".join(lines).rstrip()


def in_markdown(source):
    """Return Markdown whose quizzes need no directive."""
    return SOURCE.sub(plain_quiz, source)


def setup(app):
    """Register."""
    app.add_directive("quiz", Quiz)
    app.add_node(quiz, html=(visit_quiz, depart_quiz))
    app.add_node(quiz_answer, html=(visit_answer, depart_answer))
    app.add_node(quiz_choice, html=(visit_choice, depart_choice))
    app.add_post_transform(AsList)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
