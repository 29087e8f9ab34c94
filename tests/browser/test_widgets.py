"""The interactive parts of the chapters: what they show is the package's, and all can use them.

Each test asks a page for what it computed and compares it with the library, at the corners of the
controls and in between.
"""

import re

import numpy as np
import pytest
from conftest import DESKTOP, HTML, PHONE
from scipy import sparse, stats

import jl_attention as jla
from jl_attention.theory import frames, margin_bounds
from jl_attention.workloads import selectors

WIDGETS = {  # by the id of the element: the page and the prefix of the controls' ids
    "instrument": ("book/index.html", "in"),
    "distances": ("book/02-johnson-lindenstrauss.html", "ds"),
    "products": ("book/03-inner-products.html", "pr"),
    "success": ("book/04-theorem.html", "su"),
    "tau": ("book/07-interpolation.html", "ta"),
    "frontier": ("book/09-how-small.html", "fr"),
    "turning": ("book/10-max-margin.html", "tu"),
    "bits": ("book/11-finite-precision.html", "bi"),
    "needle": ("book/14-test-bench.html", "ne"),
}
FALSE_FAILURE = 1e-9


@pytest.fixture(scope="module")
def pages(visit):
    """Return ``pages(name)``, the page of a widget, opened once."""
    opened = {}

    def page(name):
        if name not in opened:
            entered = visit(WIDGETS[name][0], DESKTOP, reduced_motion="reduce")
            opened[name] = entered, entered.__enter__()
        return opened[name][1].page

    yield page
    for entered, _ in opened.values():
        entered.__exit__(None, None, None)


def choose(page, name, /, **values):
    """Set controls of a widget, and wait until it has drawn."""
    for control, value in values.items():
        page.eval_on_selector(
            f"#{WIDGETS[name][1]}-{control}",
            """(input, value) => {
              input.value = value;
              input.dispatchEvent(new Event("input", { bubbles: true }));
            }""",
            str(value),
        )
    page.evaluate(
        """new Promise((done) =>
          setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done))))"""
    )


def number(page, selector):
    """Return a number as displayed."""
    text = page.inner_text(selector).replace(",", "").replace("−", "-")
    if match := re.fullmatch(r"(?:([\d.]+) × )?10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)", text):
        exponent = match[2].translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-"))
        return float(match[1] or 1) * 10.0 ** int(exponent)
    return float(re.match(r"-?[\d.]+", text)[0])


def target_of(supports, length):
    """Return the target with these supports and equal weights."""
    mask = sparse.lil_array((length, length), dtype=bool)
    for row, columns in enumerate(supports):
        mask[row, columns] = True
    return jla.targets.from_mask(mask.toarray())


# --- The front page's instrument ------------------------------------------------------------------

READ_INSTRUMENT = """() => {
  const {keys, rows} = JLInstrument.result();
  return {
    gap: JLInstrument.GAP, target: JLInstrument.state().target,
    K: keys.map((key) => Array.from(key)), Q: rows.map(({query}) => Array.from(query)),
    M: rows.map(({attention}) => Array.from(attention)), found: rows.map(({found}) => found),
  };
}"""


def read_instrument(page):
    """Return the instrument's numbers, as arrays."""
    read = page.evaluate(READ_INSTRUMENT)
    return read | {name: np.array(read[name]) for name in ("K", "Q", "M", "found")}


@pytest.mark.parametrize("method", ["max_margin", "tight", "gaussian"])
@pytest.mark.parametrize("pattern", ["scattered", "window", "blocks", "lines"])
def test_the_instrument_computes_what_the_package_computes(pages, method, pattern):
    page = pages("instrument")
    choose(page, "instrument", pattern=pattern, method=method)
    verdicts = set()
    for m in (2, 11, 20, 32):
        choose(page, "instrument", m=m)
        read = read_instrument(page)
        K, Q, found = read["K"], read["Q"], read["found"]
        A = target_of(read["target"], 32)
        assert K.shape == (32, m)
        if method == "max_margin":
            result = jla.methods.MaxMargin().queries(A, K, logit_scale=read["gap"])
            lost = np.sort(np.append(result.infeasible, result.unresolved))
            assert np.nonzero(~found)[0].tolist() == lost.tolist()
            wanted = result.queries[found]
        else:
            assert found.tolist() == [len(support) <= m for support in read["target"]]
            if not found.all():
                continue
            B = jla.logits.target_logits(A, 3 * read["gap"])
            wanted = jla.constructions.interpolating_queries(B, K)
        if wanted.size:
            np.testing.assert_allclose(Q[found], wanted, atol=1e-8 * np.abs(wanted).max())
        if method == "tight":
            np.testing.assert_allclose(K.T @ K, 32 * np.eye(m), atol=1e-9)
        report = jla.measure(Q @ K.T, A)
        worst = np.abs(read["M"] - A.toarray()).sum(axis=1).max() / 2
        assert worst == pytest.approx(report.total_variation, rel=1e-6, abs=1e-12)
        if worst > 1e-4:
            assert number(page, "#in-tv b") == pytest.approx(worst, rel=0.051)
        verdict = page.inner_text("#in-verdict")
        assert ("Formed" in verdict) == (worst <= 0.05)
        verdicts.add("Formed" in verdict)
        assert number(page, "#in-share") == pytest.approx(100 * m / 32, abs=0.51)
    assert verdicts == {True, False} or method != "max_margin"


def test_the_keys_do_not_depend_on_the_pattern_and_grow_with_m(pages):
    page = pages("instrument")
    for method in ("max_margin", "tight"):
        choose(page, "instrument", pattern="lines", method=method, m=12)
        first = read_instrument(page)
        choose(page, "instrument", pattern="blocks", m=15)
        second = read_instrument(page)
        np.testing.assert_array_equal(first["K"], second["K"][:, :12])
        assert first["target"] != second["target"]
    page.click("#in-keys")
    choose(page, "instrument", m=12)
    assert np.abs(read_instrument(page)["K"] - first["K"]).max() > 0.1


def test_a_pattern_is_painted_with_the_mouse_and_with_the_keyboard(pages):
    page = pages("instrument")
    page.click("#in-clear")
    choose(page, "instrument", m=16)
    assert read_instrument(page)["target"] == [[i] for i in range(32)]
    box = page.locator("#in-A").bounding_box()

    def at(row, column):
        return {
            "x": (column + 0.5) * box["width"] / 32,
            "y": (row + 0.5) * box["height"] / 32,
        }

    page.click("#in-A", position=at(4, 20))
    page.click("#in-A", position=at(5, 5))  # the last token of its row
    choose(page, "instrument", m=16)
    assert read_instrument(page)["target"][4:6] == [[4, 20], [5]]
    assert page.input_value("#in-pattern") == "painted"
    page.focus("#in-A")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Space"):
        page.keyboard.press(key)
    choose(page, "instrument", m=16)
    assert read_instrument(page)["target"][2] == [1, 2]
    page.keyboard.press("Space")
    choose(page, "instrument", m=16)
    assert read_instrument(page)["target"][2] == [2]


# --- Chapter 2: distances -------------------------------------------------------------------------


def test_the_tails_of_distances_are_the_package_s(pages):
    page = pages("distances")
    grid = [(m, e) for m in (1, 2, 3, 10, 57, 200, 1000) for e in (0.05, 0.3, 0.6, 0.95)]
    got = page.evaluate("(grid) => grid.map(([m, e]) => JLDistances.failure(m, e))", grid)
    dims, eps = np.array(grid).T
    for name in ("exact", "chernoff"):
        wanted = jla.concentration.chi_square_failure(dims.astype(int), eps, name)
        np.testing.assert_allclose([row[name] for row in got], wanted, rtol=1e-9)


def test_the_distances_drawn_have_the_law_of_chi_square(pages):
    page = pages("distances")
    dims = page.evaluate("JLDistances.dims")
    for m in (1, 10, 1000):
        choose(page, "distances", m=dims.index(m), eps=0.5)
        read = page.evaluate("JLDistances.read()")
        squares = np.array(read["squares"])
        assert stats.kstest(squares * m, stats.chi2(m).cdf).pvalue > FALSE_FAILURE / 3
        off = int((np.abs(squares - 1) > 0.5).sum())
        assert number(page, "#ds-off") == off
        exact = jla.concentration.chi_square_failure(m, 0.5)
        assert number(page, "#ds-exact") == pytest.approx(exact, rel=0.051)
        assert page.inner_text("#ds-m-value") == str(m)


# --- Chapter 3: inner products --------------------------------------------------------------------


def test_the_inner_products_drawn_have_their_law(pages):
    page = pages("products")
    dims = page.evaluate("JLProducts.dims")

    def products_at(rho):
        choose(page, "products", m=dims.index(10), rho=rho)
        return np.array(page.evaluate("JLProducts.read().products"))

    mixed = 0.8 * products_at(1) + 0.6 * products_at(0)  # <Gx, G(0.8 x + 0.6 z)>
    np.testing.assert_allclose(products_at(0.8), mixed, rtol=1e-9, atol=1e-12)
    for m, rho, eps in [(1, 0, 0.5), (10, 0.6, 0.3), (10, -1, 0.95), (1000, -0.3, 0.05)]:
        choose(page, "products", m=dims.index(m), rho=rho, eps=eps)
        read = page.evaluate("JLProducts.read()")
        products = np.array(read["products"])
        # Given u, <Gx, Gy> is normal; its law is that of (chi2 (1+rho) - chi2' (1-rho))/(2m).
        drawn = np.random.default_rng(0).chisquare(m, (2, 100_000)) / (2 * m)
        law = drawn[0] * (1 + rho) - drawn[1] * (1 - rho)
        assert stats.ks_2samp(products, law).pvalue > FALSE_FAILURE / 4
        assert number(page, "#pr-off") == int((np.abs(products - rho) > eps).sum())
        spread = np.sqrt((1 + rho**2) / m)
        assert number(page, "#pr-spread") == pytest.approx(spread, rel=0.051)
        bound = jla.concentration.correlated_exponent(eps, np.array([rho, -rho]))
        wanted = min(1, np.exp(-m * bound).sum())
        assert read["bound"] == pytest.approx(wanted, rel=1e-9)


# --- Chapter 9: the frontier ----------------------------------------------------------------------


def test_the_frontier_is_the_package_s(pages):
    page = pages("frontier")
    points = [
        (m, length, k)
        for length in (64, 1024, 2**20)
        for k in (1, 4, 16)
        for m in (k, 20, 40, 63, 300)
        if k <= m < length
    ]
    got = page.evaluate("(grid) => grid.map((point) => JLFrontier.predicted(...point))", points)
    wanted = margin_bounds.predicted_scale_ratio(*np.array(points).T)
    got = [np.inf if value is None else value for value in got]
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    assert np.isinf(wanted).any()
    for size in (1, 10, 1e4):
        wanted = jla.necessary_dim(2**20, [1, 4, 16], "packing", scale_ratio=size)
        got = page.evaluate("(s) => [1, 4, 16].map((k) => JLFrontier.packing(2 ** 20, k, s))", size)
        assert got == wanted.tolist()
    sizes = page.evaluate("JLFrontier.SIZES")
    for steps in [{"R": 15, "L": 4, "k": 4}, {"R": 30, "L": 14, "k": 16}, {"R": 5, "L": 0, "k": 1}]:
        choose(page, "frontier", **steps)
        length, k, size = 2 ** (6 + steps["L"]), steps["k"], sizes[steps["R"]]
        dims = np.arange(k, length)[:4000]
        enough = dims[margin_bounds.predicted_scale_ratio(dims, length, k) <= size]
        if len(enough):
            assert number(page, "#fr-enough") == enough[0]
        else:
            assert page.inner_text("#fr-enough") == "m ≥ L"
        needed = [
            jla.necessary_dim(length, k, "radon"),
            jla.necessary_dim(length, k, "packing", scale_ratio=size),
        ]
        assert number(page, "#fr-needed") == max(needed)


# --- Chapters 4 and 7: what theorems ask for ------------------------------------------------------


@pytest.mark.parametrize("method", ["svd_projection", "row_projection", "interpolate"])
def test_the_success_promised_is_the_package_s(pages, method):
    page = pages("success")
    for length, k, eps1, eps2 in [
        (64, 1, 0.05, 0.5),
        (1024, 2, 1, 0.5),
        (2**24, 8, 1, 0.01),
        (4096, 3, 0.2, 0.1),
    ]:
        dims = np.unique(np.geomspace(max(k, 10), 1e6, 40).astype(int))
        got = page.evaluate(
            "([dims, ...given]) => dims.map(JLSuccess.logFailure(...given))",
            [dims.tolist(), method, length, k, eps1, eps2],
        )
        wanted = jla.failure_probability(dims, length, k, method, ratio_error=eps1, leak=eps2)
        np.testing.assert_allclose(np.exp(np.minimum(got, 0)), wanted, rtol=1e-8)


def test_the_success_page_says_where_it_is_one_half(pages):
    page = pages("success")
    for steps in [{"L": 4, "k": 2, "eps1": 4, "eps2": 5}, {"L": 18, "k": 8, "eps1": 0, "eps2": 0}]:
        choose(page, "success", **steps)
        read = page.evaluate("JLSuccess.read()")
        asked = [read[name] for name in ("length", "k", "ratioError", "leak")]
        for curve in read["curves"]:
            length, k, eps1, eps2 = asked
            wanted = jla.required_dim(
                length, k, curve["method"], ratio_error=eps1, leak=eps2, failure_prob=0.5
            )
            assert curve["m"] == wanted
            assert number(page, f"#su-{curve['method']} b") == wanted
            vacuous = "vacuous" in page.inner_text(f"#su-{curve['method']} small")
            assert vacuous == (wanted >= length)


def test_the_dimension_at_each_logit_scale_is_the_package_s(pages):
    page = pages("tau")
    scales = page.evaluate("JLTau.SCALES")
    for step in (0, 9, 22, 41, 60):
        for length in (64, 1024, 2**20):
            for k in (1, 4, 16):
                got = page.evaluate("(given) => JLTau.dim(...given)", [length, k, scales[step]])
                tau = scales[step] * np.log(100)
                assert got == jla.required_dim(length, k, leak=0.01, logit_scale=tau)
    choose(page, "tau", tau=60, L=4, k=4)
    limit = frames.required_dim(1024, 4, leak=0.01, logit_scale=np.inf, codes="gaussian")
    assert number(page, "#ta-limit") == limit
    tau = scales[60] * np.log(100)
    assert number(page, "#ta-m") == jla.required_dim(1024, 4, leak=0.01, logit_scale=tau)
    assert number(page, "#ta-logit") == pytest.approx(tau, abs=0.051)


# --- Chapter 10: a query turns --------------------------------------------------------------------


def test_the_query_turns_to_the_shortest_one(pages):
    page = pages("turning")
    keys = np.array(page.evaluate("JLTurning.keys"))
    wishes, gap = page.evaluate("JLTurning.wishes"), page.evaluate("JLTurning.GAP")
    assert sorted({len(wish) for wish in wishes}) == [1, 2]
    for index, wish in enumerate(wishes):
        A = target_of([wish] * len(keys), len(keys))
        result = jla.methods.MaxMargin().queries(A, keys, leak=0.5, logit_scale=gap)
        choose(page, "turning", wish=index, angle=0)
        page.click("#tu-turn")  # at once, where motion is not wanted
        choose(page, "turning")
        read = page.evaluate(
            """(({query, best, gap}) => [
              Array.from(query), best && Array.from(best), gap])(JLTurning.read())"""
        )
        if len(result.infeasible):
            assert index == len(wishes) - 1
            assert read[1] is None
            assert "No angle" in page.inner_text("#tu-verdict")
            continue
        np.testing.assert_allclose(read[1], result.queries[0], rtol=1e-8)
        np.testing.assert_allclose(read[0], result.queries[0], rtol=1e-8)
        assert read[2] == pytest.approx(gap, rel=1e-8)
        assert "There" in page.inner_text("#tu-verdict")
        assert number(page, "#tu-gap") == gap
        choose(page, "turning", angle=(int(page.input_value("#tu-angle")) + 200) % 360 - 180)
        assert "Not yet" in page.inner_text("#tu-verdict")


# --- Chapter 11: bits -----------------------------------------------------------------------------


def test_numbers_are_rounded_as_numpy_rounds_them(pages):
    page = pages("bits")
    x = np.random.default_rng(0).standard_normal(500) * 2.0 ** np.arange(-9, 11).repeat(25)
    x = np.concatenate([x, [0.0, 1.0, -2.0, 2049.0, 2051.0, -4098.0]])  # ties, to even
    for bits, kind in [(11, np.float16), (24, np.float32)]:
        got = page.evaluate(
            "([x, bits]) => x.map((y) => JLBits.round(y, bits))", [x.tolist(), bits]
        )
        np.testing.assert_array_equal(got, x.astype(kind).astype(float))


@pytest.mark.parametrize("method", ["interpolate", "max_margin"])
def test_what_rounding_leaves_is_the_package_s(pages, method):
    page = pages("bits")
    A = target_of(page.evaluate("JLBits.target"), 32)
    for bits in (4, 8, 11, 24):
        choose(page, "bits", method=method, bits=bits)
        read = page.evaluate(
            """(({Q, K, ratioError, leak, distance}) => [
              [Q, K].map((rows) => rows.map((row) => Array.from(row))), [ratioError, leak, distance]
            ])(JLBits.read())"""
        )
        Q, K = map(np.array, read[0])
        report = jla.measure(Q @ K.T, A)
        wanted = report.ratio_error, report.leak, report.total_variation
        np.testing.assert_allclose(read[1], wanted, rtol=1e-6, atol=1e-12)
        assert number(page, "#bi-ratio") == pytest.approx(wanted[0], rel=0.051)
        if bits == 24:
            assert wanted[0] < 1e-4


# --- Chapter 14: a needle -------------------------------------------------------------------------

READ_NEEDLE = """(({keys, query, kept, page, budget, found, mass, needle}) => ({
  K: keys.map((key) => Array.from(key)), q: Array.from(query),
  kept, page, budget, found, mass, needle,
}))(JLNeedle.read())"""


@pytest.mark.parametrize("selector", ["quest", "mean"])
@pytest.mark.parametrize("geometry", ["random", "smooth"])
def test_the_selector_keeps_the_pages_that_the_package_keeps(pages, selector, geometry):
    widget = pages("needle")
    choose(widget, "needle", selector=selector, geometry=geometry)
    founds = []
    for step, budget, needle in [
        (0, 64, 100),
        (2, 64, 7),
        (4, 64, 100),
        (4, 128, 190),
        (6, 256, 3),
    ]:
        choose(widget, "needle", page=step, budget=budget, needle=needle)
        read = widget.evaluate(READ_NEEDLE)
        K, q, page = np.array(read["K"]), np.array(read["q"]), 2**step
        assert (read["page"], read["budget"], read["needle"]) == (page, budget, needle)
        length, dim = K.shape
        logits = K @ q / np.sqrt(dim)
        assert logits[needle] == pytest.approx(10)
        mask = np.isin(np.arange(length) // page, read["kept"])
        if selector == "quest":
            Q = np.tile(q, (length, 1))
            kept = selectors.quest(Q, K, budget=budget, page=page).mask([length - 1])[0]
        else:
            score = K.reshape(-1, page, dim).mean(axis=1) @ q
            score[-1] = np.inf
            best = np.argsort(-score, kind="stable")[: max(budget // page, 1)]
            kept = np.isin(np.arange(length) // page, best)
        np.testing.assert_array_equal(mask, kept)
        weights = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert read["mass"] == pytest.approx(weights[kept].sum())
        verdict = widget.inner_text("#ne-verdict")
        assert ("Found" in verdict) == read["found"] == bool(kept[needle])
        founds.append(read["found"])
    assert founds[0] or selector == "mean"  # pages of one key are keys
    assert founds[-1]  # all pages are looked at


# --- Every one of them ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", WIDGETS)
@pytest.mark.parametrize(("size", "theme"), [(PHONE, "light"), (PHONE, "dark"), (DESKTOP, "light")])
def test_it_fits_and_is_legible(visit, name, size, theme):
    with visit(WIDGETS[name][0], size, theme) as visited:
        page = visited.page
        assert page.locator(f"#{name} input").first.is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        wide = page.evaluate(
            """(name) => [...document.querySelectorAll(`#${name} :not(svg *)`)].filter((e) =>
              e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML)""",
            name,
        )
        assert wide == []
        small = page.evaluate(
            """(name) => [...document.querySelectorAll(`#${name} *`)].filter((e) => {
              const drawing = e.closest("svg");
              if (!e.textContent.trim() || !e.checkVisibility() || drawing === e) return false;
              const scale = drawing ? drawing.clientWidth / drawing.getAttribute("width") : 1;
              return parseFloat(getComputedStyle(e).fontSize) * scale < 12;
            }).map((e) => e.outerHTML)""",
            name,
        )
        assert small == []


@pytest.mark.parametrize("name", WIDGETS)
def test_the_keyboard_reaches_every_control_and_its_focus_shows(pages, name):
    page = pages(name)
    for control in page.locator(f"#{name} :is(input, select)").all():
        assert page.locator(f"label[for={control.get_attribute('id')}]").count() == 1
    for control in page.locator(f"#{name} :is(input, select, button, canvas[tabindex])").all():
        control.focus()
        page.keyboard.press("Shift")
        width, style = control.evaluate(
            "(e) => [getComputedStyle(e).outlineWidth, getComputedStyle(e).outlineStyle]"
        )
        assert (width, style) == ("2px", "solid"), control
    for control in page.locator(f"#{name} input[type=range]").all():
        before = control.input_value()
        control.focus()
        page.keyboard.press("ArrowLeft")
        if control.input_value() == before:
            page.keyboard.press("ArrowRight")
        assert control.input_value() != before
        choose(page, name)
        said = page.inner_text(f"#{control.get_attribute('id')}-value")
        assert control.get_attribute("aria-valuetext") == said != ""


@pytest.mark.parametrize("name", WIDGETS)
def test_without_javascript_the_page_says_so(visit, name):
    with visit(WIDGETS[name][0], PHONE, java_script_enabled=False) as visited:
        assert visited.page.locator("noscript p").first.is_visible()
        assert not visited.page.locator(f"#{name}").is_visible()


@pytest.mark.parametrize("name", WIDGETS)
def test_only_its_page_loads_its_script(name):
    loading = [
        page.relative_to(HTML).as_posix()
        for page in HTML.rglob("*.html")
        if f"/{name}.js" in page.read_text("utf-8")
    ]
    assert loading == [WIDGETS[name][0]]
    assert (HTML / f"_static/{name}.js").stat().st_size < 10_000
