"""What the extensions that make pages light and findable do, and that the checker sees weight."""

import base64
import io
import json
from pathlib import Path
from types import SimpleNamespace

import accessible
import bundles
import descriptions
import numpy as np
import pictures
import pydata_sphinx_theme
import pytest
import search_text
import tinycss2
from check_site import own_loads, weight_problems
from docutils import nodes
from fontTools.ttLib import TTFont
from PIL import Image
from sphinx.errors import ExtensionError

# --- Bundles -------------------------------------------------------------------------------------


def test_a_script_keeps_its_errors_and_nothing_else_that_it_says():
    script = "a(),console.log(`x ${b()}`),console.error('no');\n//# sourceMappingURL=a.js.map"
    assert bundles.without_noise(script) == "a(),void (`x ${b()}`),console.error('no');\n"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("url(../images/a.png)", "url(images/a.png)"),
        ('url("a.png")', 'url("styles/a.png")'),
        ("url(data:image/png;base64,AA/B)", "url(data:image/png;base64,AA/B)"),
        ("url(#marker)", "url(#marker)"),
        ("url(https://example.org/a.png)", "url(https://example.org/a.png)"),
    ],
)
def test_addresses_hold_where_the_sheet_is_moved(address, expected):
    sheet = f'@charset "utf-8"; b {{ background: {address} }}/*# sourceMappingURL=x.map */'
    moved = bundles.moved(sheet, "styles/theme.css", "bundle.css")
    assert moved.strip() == f"b {{ background: {expected} }}"


def test_an_import_is_replaced_by_what_it_imports(tmp_path):
    (tmp_path / "styles").mkdir()
    (tmp_path / "styles/theme.css").write_text('/* x */ @import "../basic.css";')
    (tmp_path / "basic.css").write_text("a { background: url(file.png) }")
    text = bundles.file_text(tmp_path, "styles/theme.css")
    assert "@import" not in text
    assert "url(file.png)" in text


SHEET = """
a.used, b { color: red }
a.gone { color: blue }
a.gone > b, i.used { color: green }
div:not(.gone) { color: grey }
:is(.gone, .used) p { color: black }
.bs-tooltip-auto { color: white }
@media print { .gone { top: 0 } }
@media print { .used { top: 0 } .gone { top: 1px } }
@font-face { font-family: F; src: url(x) }
"""


def test_rules_that_can_match_nothing_are_left_out():
    rules = tinycss2.parse_stylesheet(SHEET, True, True)
    kept = bundles.without_unused(rules, {"used", "i", "b"})
    for colour in ("red", "green", "grey", "black", "white"):
        assert colour in kept
    assert "blue" not in kept
    assert kept.count("@media") == 1
    assert "top: 1px" not in kept
    assert "@font-face" in kept
    assert "blue" in bundles.without_unused(rules, {"used", "gone"})


def test_classes_in_functions_are_not_required():
    assert bundles.class_names("a.x:not(.y:is(.z)) > .w-1::before") == {"x", "w-1"}


CODE = """
.highlight { background: #fefefe; color: #080808 }
.highlight .n { color: #080808 }
.highlight .k { color: #7928a1 }
.highlight .b { color: #080808; font-weight: bold }
.dark .highlight { color: #f8f8f2 }
.dark .highlight .n { color: #f8f8f2 }
.dark .highlight .k { color: #dcc6e0 }
"""


def test_marks_that_change_nothing_are_taken_off_code():
    assert bundles.plain_tokens(CODE) == {"n"}
    page = '<span class="k">def</span> <span class="n">f</span><b class="n">x</b>'
    bare = '<span class="k">def</span> f<b class="n">x</b>'
    assert bundles.without_plain_spans(page, {"n"}) == bare
    assert bundles.without_plain_spans(page, set()) == page


def test_indents_go_and_preformatted_text_stays():
    kept = "<pre class='x'>a\n  b\n\n c</pre><script>\n  `x\n   y`</script>"
    page = f"<ul>\n   <li>one\n\n  two</li>\n</ul>\n {kept}\n\n  <p>"
    expected = f"<ul>\n<li>one\ntwo</li>\n</ul>\n{kept}\n<p>"
    assert bundles.without_indents(page) == expected
    assert bundles.without_indents(expected) == expected


def fontawesome():
    static = Path(pydata_sphinx_theme.__file__).parent / "theme/pydata_sphinx_theme/static"
    (folder,) = (static / "vendor/fontawesome").iterdir()
    return folder


def test_the_icons_that_are_named_are_there_and_no_others():
    sheet = bundles.icons(
        fontawesome(),
        ['<i class="fa-solid fa-download">'],
        ['content:"\\f107"; --pst-icon: "\uf0eb"'],
    )
    assert '.fa-download::before{content:"\\f019"}' in sheet
    assert "fa-moon" not in sheet
    encoded = sheet.split("base64,")[1].split(")")[0]
    font = TTFont(io.BytesIO(base64.b64decode(encoded)))
    assert set(font.getBestCmap()) == {0xF019, 0xF107, 0xF0EB}
    assert sheet.count("@font-face") == 1  # none of the second family is used
    assert len(sheet) < 4000


def test_mathjax_is_the_parts_that_set_tex_and_every_font(tmp_path):
    (tmp_path / "mathjax").mkdir()
    bundles.write_mathjax(tmp_path)
    script = (tmp_path / bundles.MATHJAX).read_text()
    for part in bundles.MATHJAX_PARTS:
        assert f'"{part}' in script
    assert len(script) < 800_000
    assert len(list(tmp_path.rglob("*.woff"))) == 23


# --- Pictures ------------------------------------------------------------------------------------


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def figure():
    """Return pixels as a figure has them: white, lines and their soft edges."""
    pixels = np.full((300, 400, 4), 255, dtype=np.uint8)
    x, y = np.meshgrid(np.arange(400), np.arange(300))
    for k, colour in enumerate([(0, 114, 178), (213, 94, 0), (0, 158, 115)]):
        distance = np.abs(y - 60 - 60 * k - 40 * np.sin(x / (20 + 7 * k)))
        weight = np.clip(2 - distance, 0, 1)[..., None]
        pixels[..., :3] = pixels[..., :3] * (1 - weight) + np.array(colour) * weight
    return pixels


def test_a_figure_gets_smaller_and_looks_the_same():
    before = png(figure())
    after = pictures.smaller(before)
    assert len(after) < 0.6 * len(before)
    shown = np.asarray(Image.open(io.BytesIO(after)).convert("RGB")).astype(float)
    assert np.abs(shown - figure()[..., :3]).mean() < 0.5


def test_a_transparent_or_tiny_picture_is_left_alone():
    transparent = figure()
    transparent[..., 3] = 7
    assert pictures.smaller(png(transparent)) == png(transparent)
    few = pictures.smaller(png(figure()))
    assert len(pictures.smaller(few)) <= len(few)


def test_a_notebook_to_download_keeps_all_but_the_figures():
    data = {"image/png": base64.b64encode(png(figure())).decode(), "text/plain": "<Figure>"}
    printed = {"output_type": "stream", "text": "m = 1"}
    cells = [{"source": "x", "outputs": [{"data": dict(data)}, printed]}, {"a": "é"}]
    after = json.loads(pictures.without_figures(json.dumps({"cells": cells, "nbformat": 4})))
    assert after["cells"][0]["outputs"][0] == {"data": {"text/plain": "<Figure>"}}
    after["cells"][0]["outputs"][0]["data"]["image/png"] = data["image/png"]
    assert after == {"cells": cells, "nbformat": 4}


# --- Descriptions and the search -----------------------------------------------------------------


def test_a_description_is_the_first_paragraph_that_says_something():
    document = nodes.section()
    document += nodes.paragraph("", "What you will see")
    paragraph = nodes.paragraph("", "Keys of dimension ")
    paragraph += nodes.math("", r"m \ge \sqrt{2} \log N")
    paragraph += nodes.Text(" hold every pattern with few entries")
    document += paragraph
    expected = "Keys of dimension m ≥ sqrt 2 log N hold every pattern with few entries"
    assert descriptions.description(document) == expected
    assert descriptions.description(nodes.section()) == ""


def test_a_description_is_cut_after_a_word():
    cut = descriptions.shortened("word, " * 60)
    assert len(cut) <= descriptions.LENGTH
    assert cut.endswith("word…")


def test_a_search_result_shows_the_article():
    script = (
        'for (const removalQuery of [".headerlink", "script", "style"]) {}\n'
        "htmlElement.querySelector('[role=\"main\"]'); console.info(1)"
    )
    changed = search_text.article_only(script)
    assert "article.bd-article" in changed
    assert ".cell_input" in changed
    assert "console" not in changed
    with pytest.raises(ExtensionError, match="not once"):
        search_text.article_only("another release")


def test_a_result_names_a_theorem_as_its_page_does():
    places = {" (T3: floors)": [[0, "thm-t3"]], "": [[1, "rem"]], "Proof": [[0, None]]}
    places |= {"Proof of it": [[1, None], [1, "proof"]], "Title": [[0, None]]}
    index = {"alltitles": places, "docnames": ["a", "b"], "terms": {"x": 0}}
    script = f"Search.setIndex({json.dumps(index)})"
    kinds = {("a", "thm-t3"): "Theorem 7.1", ("b", "rem"): "Remark 8.2"}
    titles = {"a": "Title", "b": "Proof of it"}
    for _ in range(2):  # a second build reads what the first one wrote
        script = search_text.with_titles(script, kinds, titles)
        new = json.loads(script.removeprefix("Search.setIndex(").removesuffix(")"))
        assert new == index | {
            "alltitles": {
                "Theorem 7.1 (T3: floors)": [[0, "thm-t3"]],
                "Remark 8.2": [[1, "rem"]],
                "Proof of it": [[1, None], [1, "proof"]],
                "Title": [[0, None]],
            }
        }
    with pytest.raises(ExtensionError, match="searchindex"):
        search_text.with_titles("another release", kinds, titles)


def test_a_kind_has_the_number_of_its_page():
    box = {"docname": "a", "ids": ["lem-x"], "countertype": "lemma", "realtype": "proposition"}
    plain = {"docname": "b", "ids": ["y"], "countertype": "remark", "realtype": "remark"}
    env = SimpleNamespace(
        proof_list={"lem-x": box, "y": plain}, toc_fignumbers={"a": {"lemma": {"lem-x": (3, 2)}}}
    )
    assert search_text.kinds(env) == {
        ("a", "lem-x"): "Proposition 3.2",
        ("b", "y"): "Remark",
    }


def test_parameters_are_lines_and_other_lists_stay():
    parameter = '<em class="sig-param"><span class="n">x</span></em>,'
    listed = f"<dt>f(<dl>\n<dd>{parameter}</dd>\n<dd>{parameter}</dd>\n</dl>\n)</dt>"
    other = "<dl><dt>a</dt><dd>b</dd></dl>"
    body = accessible.plain_lines(other + listed + other)
    assert body.count("<dd>") == 2
    assert body.count(f"<div>{parameter}</div>") == 2
    assert body.startswith(other)
    assert body.endswith(other)
    assert body.count("<dl>") == body.count("</dl>") == 2


def test_a_list_in_no_item_is_made_flat():
    body = "<h1>All</h1><ul><li>a</li>\n<ul><li>b</li>\n</ul><li>c</li>\n</ul><p>d</p>"
    flat = "<h1>All</h1><ul><li>a</li>\n<li>b</li>\n<li>c</li>\n</ul><p>d</p>"
    assert accessible.flat(body) == flat


# --- The checker ---------------------------------------------------------------------------------


def test_a_heavy_page_and_a_heavy_site_are_found(tmp_path):
    page = tmp_path / "a.html"
    page.write_text('<script src="x.js?v=1"></script><img src="x.js"><a href="y.js">y</a>')
    (tmp_path / "x.js").write_bytes(b"x" * 1_900_000)
    (tmp_path / "y.js").write_bytes(b"y" * 1_900_000)
    assert own_loads(page) == [tmp_path / "x.js"]
    assert weight_problems(tmp_path) == []
    (tmp_path / "x.js").write_bytes(b"x" * 2_000_000)
    assert len(weight_problems(tmp_path)) == 1
    (tmp_path / "z.bin").write_bytes(b"z" * 12_000_000)
    assert len(weight_problems(tmp_path)) == 2


def test_a_page_of_many_files_is_found(tmp_path):
    for k in range(25):
        (tmp_path / f"{k}.png").write_text("")
    page = tmp_path / "a.html"
    page.write_text("".join(f'<img src="{k}.png">' for k in range(24)))
    assert weight_problems(tmp_path) == []
    page.write_text("".join(f'<img src="{k}.png">' for k in range(25)))
    assert len(weight_problems(tmp_path)) == 1


def test_a_build_that_changes_nothing_leaves_the_bundles(tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static/bundle.css").write_text("of the last build")
    builder = SimpleNamespace(format="html")
    bundles.write(SimpleNamespace(builder=builder, outdir=tmp_path), None)
    assert (tmp_path / "_static/bundle.css").read_text() == "of the last build"
    script = f'x({search_text.WHOLE}); y({search_text.REMOVED}, "title")'
    once = search_text.article_only(script)
    assert search_text.article_only(once) == once != script
