"""The explorer: its arithmetic is the package's, its picture what it says, its controls usable."""

import re

import numpy as np
import pytest
from conftest import DESKTOP, HTML, PHONE
from scipy import sparse, stats
from scipy.special import softmax

import jl_attention as jla
from jl_attention.theory import absorption, frames

PAGE = "book/explorer.html"
PROJECTIONS = ("svd_projection", "row_projection")
ROWS = {  # of the table: a method and its settings
    "svd_projection": {"method": "svd_projection"},
    "row_projection": {"method": "row_projection"},
    "interpolate": {"method": "interpolate"},
    "tight": {"method": "interpolate", "codes": "tight"},
    "moment_curve": {"method": "moment_curve"},
    "max_margin": {"method": "max_margin"},
    "every_support": {"method": "max_margin", "scope": "every_support"},
}
ONE_NUMBER = ("moment_curve", "max_margin", "every_support")
FALSE_FAILURE = 1e-9  # of each statistical test

ROUNDING = 1e-12
"""Accepted relative difference of dimensions: equality up to 1e12. Beyond, the last bits of two
logarithms may round an m up differently."""


@pytest.fixture(scope="module")
def opened(visit):
    """Return the explorer's page and the state it starts in."""
    with visit(PAGE, DESKTOP) as visited:
        yield visited, visited.page.evaluate("JLExplorer.state()")


@pytest.fixture(scope="module")
def noise(visit):
    """Return what the console says on a page without the explorer: the theme's own messages."""
    with visit("book/notation.html") as visited:
        return set(visited.console)


@pytest.fixture
def explorer(opened, noise):
    """Return the explorer's page in the state it starts in; it must load and say nothing more."""
    visited, start = opened
    go_to(visited.page, **{name: "" if value is None else value for name, value in start.items()})
    yield visited.page
    assert set(visited.console) <= noise
    assert visited.outside == []
    assert visited.missing == []


def call(page, calls):
    """Return the results of JLExplorer.name(*arguments) for each (name, *arguments)."""
    return page.evaluate(
        "(calls) => calls.map(([name, ...given]) => JLExplorer[name](...given))", calls
    )


def settle(page):
    """Wait until the page has drawn what was asked for."""
    page.evaluate(
        """new Promise((done) =>
          setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done))))"""
    )


def go_to(page, **settings):
    """Set the explorer through its address; what is not named keeps its value."""
    address = "&".join(f"{name}={value}" for name, value in settings.items())
    page.evaluate("(address) => (location.hash = address)", address)
    settle(page)


def settings_of_the_sliders(page):
    """Yield groups of settings over the sliders' whole ranges: a group shares eps1, eps2, tau."""
    choices = page.evaluate("JLExplorer.CHOICES")
    rng = np.random.default_rng(0)

    def ends_then_draws(name, ends):
        values = choices[name]
        return values[ends] if ends is not None else values[rng.integers(len(values))]

    corners = [(i, j, k) for i in (0, -1) for j in (0, -1) for k in (0, -1)]
    for ends in [*corners, *[(None, None, None)] * 32]:
        eps1, eps2, scale = map(ends_then_draws, ("eps1", "eps2", "scale"), ends)
        group = []
        for inner in [*corners, *[(None, None, None)] * 8]:
            length, k, gamma = map(ends_then_draws, ("L", "k", "gamma"), inner)
            group.append(
                {
                    "length": length,
                    "rowNnz": min(k, length),
                    "maxRatio": gamma,
                    "ratioError": eps1,
                    "leak": eps2,
                    "failureProb": ends_then_draws("eta", None),
                    "scaleRatio": ends_then_draws("R", None),
                    "bits": ends_then_draws("bits", None),
                }
            )
        yield group, -scale * float(np.log(eps2))


def column(group, name):
    return np.array([setting[name] for setting in group])


def assert_same_dims(got, wanted, what):
    got, wanted = np.asarray(got, dtype=float), np.asarray(wanted, dtype=float)
    different = np.abs(got - wanted) > ROUNDING * wanted
    assert not different.any(), (what, got[different], wanted[different])


BOUNDS = {
    **dict.fromkeys(PROJECTIONS, ("differences", "sharp", "closed_form")),
    **dict.fromkeys(("interpolate", "tight"), ("sharp", "closed_form")),
    **dict.fromkeys(ONE_NUMBER, ("sharp",)),
}


@pytest.mark.parametrize(("row", "bound"), [(row, b) for row in ROWS for b in BOUNDS[row]])
def test_required_dimensions_are_those_of_the_package(explorer, row, bound):
    every = 3 if row in ("tight", *ONE_NUMBER) else 1  # of the settings: integrals take long here
    for group, tau in settings_of_the_sliders(explorer):
        group = group[::every]
        own = ROWS[row] | ({"logitScale": tau} if "interpolate" in ROWS[row].values() else {})
        got = call(explorer, [["requiredDim", setting | own, bound] for setting in group])
        wanted = jla.required_dim(
            column(group, "length"),
            column(group, "rowNnz"),
            max_ratio=column(group, "maxRatio"),
            ratio_error=group[0]["ratioError"],
            leak=group[0]["leak"],
            failure_prob=column(group, "failureProb"),
            logit_scale=own.get("logitScale"),
            bound=bound,
            **ROWS[row],
        )
        assert_same_dims(got, wanted, (row, group, tau))


@pytest.mark.parametrize("bound", ["sharp", "closed_form"])
def test_universal_dimensions_are_those_of_the_package(explorer, bound):
    for group, tau in settings_of_the_sliders(explorer):
        some = group[7::4]
        got = call(explorer, [["universalDim", s | {"logitScale": tau}, bound] for s in some])
        wanted = jla.universal_dim(
            column(some, "length"),
            column(some, "rowNnz"),
            column(some, "maxRatio"),
            some[0]["leak"],
            column(some, "failureProb"),
            tau,
            bound,
        )
        assert_same_dims(got, wanted, (some, tau))


def test_necessary_dimensions_are_those_of_the_package(explorer):
    for group, _ in settings_of_the_sliders(explorer):
        for bound, own in [("radon", {}), ("packing", "scale_ratio"), ("bits", "bits")]:
            names = {"scale_ratio": "scaleRatio", "bits": "bits"}
            options = {own: column(group, names[own])} if own else {}
            got = call(explorer, [["necessaryDim", setting, bound] for setting in group])
            wanted = jla.necessary_dim(
                column(group, "length"), column(group, "rowNnz"), bound, **options
            )
            assert_same_dims(got, wanted, (bound, group))


def test_default_logit_scales_are_those_of_the_package(explorer):
    for method in (*PROJECTIONS, "interpolate"):
        got = call(explorer, [["defaultLogitScale", method, 0.1, 0.01]])
        wanted = jla.methods.get(method).default_logit_scale(0.1, 0.01)
        assert got == pytest.approx([wanted], rel=1e-14)


def test_student_tails_keep_their_digits(explorer):
    nu = [1, 2, 3, 10, 39, 40, 41, 300, 5000, 100000]
    theta = [1e-4, 0.003, 0.05, 0.2, 0.5, 1.0, 3.0, 50.0]
    grid = [(n, t) for n in nu for t in theta]
    got = call(explorer, [["studentLogTail", n, t] for n, t in grid])
    wanted = jla.concentration.student_log_tail(*np.array(grid).T)
    assert wanted.min() < -1e4
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_tails_of_tight_frames_are_those_of_the_package(explorer):
    grid = [
        (m, length, k, theta)
        for length in (16, 64, 1024, 65536, 2**24)
        for k in (1, 2, 5, 15)
        for theta in (0.05, 0.2, 0.5)
        for m in (k, k + 1, *(min(length - 1, m) for m in (40, 300, 20000)), length - 1, length)
    ]
    got = [
        -np.inf if value is None else value
        for value in call(explorer, [["tightLogTail", *point] for point in grid])
    ]
    *sizes, theta = np.array(grid).T
    wanted = frames.off_support_log_tail(*np.array(sizes, dtype=int), theta, "tight")
    assert wanted[np.isfinite(wanted)].min() < -1e3
    np.testing.assert_allclose(got, wanted, rtol=1e-7)


def test_the_law_of_max_margin_is_the_package_s(explorer):
    grid = [
        (max(1, int(share * absorption.threshold_dim(length, k))), length, k)
        for length in (17, 64, 256, 1024, 65536, 2**24)
        for k in (1, 2, 4, 16)
        for share in (0.9, 1, 1.3, 2, 3)
    ]
    got = call(explorer, [["logInfeasible", *point] for point in grid])
    got = [-np.inf if value is None else value for value in got]
    wanted = absorption.log_infeasible(*np.array(grid).T)
    assert wanted[np.isfinite(wanted)].min() < -100
    assert wanted.max() > -0.1
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-7)  # binomials at L = 2^24


def test_failure_probabilities_are_those_of_the_package(explorer):
    setting = {"length": 64, "rowNnz": 4, "maxRatio": 2, "ratioError": 0.5, "leak": 0.1}
    for row, dims in [
        ("interpolate", [1, 3, 4, 20, 100, 400]),
        ("tight", [1, 3, 4, 20, 50, 63, 64]),
        ("row_projection", [1, 10**5]),
    ]:
        got = call(explorer, [["failureProbability", m, setting | ROWS[row]] for m in dims])
        precision = {"max_ratio": 2, "ratio_error": 0.5, "leak": 0.1}
        wanted = jla.failure_probability(dims, 64, 4, **precision, **ROWS[row])
        np.testing.assert_allclose(got, wanted, rtol=1e-9)


# --- Random codes and constructions --------------------------------------------------------------


@pytest.mark.parametrize("dim", [3, 6, 20, 10**9])
def test_codes_have_the_law_of_gaussian_codes(explorer, dim):
    length, draws = 6, 500
    gram = np.array(
        explorer.evaluate(
            """([length, dim, draws]) => {
              const rng = JLExplorer.generator(5);
              const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
              return Array.from({length: draws}, () => {
                const codes = JLExplorer.drawCodes(length, dim, rng);
                return codes.map((x) => codes.map((y) => dot(x, y)));
              });
            }""",
            [length, dim, draws],
        )
    )
    pairs = [(i, j) for i in range(length) for j in range(i)]
    level = FALSE_FAILURE / (length + len(pairs))
    for i in range(length):
        assert stats.kstest(gram[:, i, i], stats.chi2(dim).cdf).pvalue > level
    for i, j in pairs:
        correlation = gram[:, i, j] / np.sqrt(gram[:, i, i] * gram[:, j, j])
        t = correlation * np.sqrt((dim - 1) / (1 - correlation**2))
        assert stats.kstest(t, stats.t(dim - 1).cdf).pvalue > level


def read_picture(page):
    """Return the picture's target A, queries Q, keys K and what it measured."""
    picture = page.evaluate(
        """() => {
          const {target, built, measured, theorem} = JLExplorer.picture();
          const list = (rows) => rows.map((row) => Array.from(row));
          return {
            target, theorem, Q: list(built.queries), K: list(built.keys),
            M: list(measured.rows.map(({row}) => row)),
            measured: [measured.ratioError, measured.leak, measured.totalVariation],
          };
        }"""
    )
    rows = picture["target"]
    indptr = np.cumsum([0, *(len(row["columns"]) for row in rows)])
    data, indices = (np.concatenate([r[name] for r in rows]) for name in ("weights", "columns"))
    A = sparse.csr_array((data, indices.astype(int), indptr), shape=(len(rows), len(rows)))
    arrays = {name: np.array(picture[name]) for name in "QKM"}
    return picture | arrays | {"A": jla.check_target(A)}


@pytest.mark.parametrize("pattern", ["random", "window", "blocks"])
@pytest.mark.parametrize("row", ["interpolate", "tight", *PROJECTIONS])
def test_the_picture_shows_the_construction_and_its_measurement(explorer, row, pattern):
    k, gamma, eps1, eps2 = 3, 5, 0.5, 0.05
    problem = {"L": 4096, "k": k, "gamma": gamma, "eps1": eps1, "eps2": eps2, "eta": 0.001}
    go_to(explorer, **problem, shown=row, pattern=pattern, size=64)
    method = ROWS[row]["method"]
    precision = {"max_ratio": gamma, "ratio_error": eps1, "leak": eps2, "failure_prob": 0.001}
    wanted = jla.required_dim(64, k, **precision, **ROWS[row])
    assert read_picture(explorer)["theorem"] == wanted
    verdicts = []
    for m in (5, 40, 300, wanted):  # fewer dimensions than tokens, more, the theorem's
        go_to(explorer, **problem, m=m)
        picture = read_picture(explorer)
        A, Q, K = (picture[name] for name in "AQK")
        assert jla.targets.row_ratios(A).max() == pytest.approx(gamma)
        assert jla.targets.row_counts(A).max() == jla.targets.column_counts(A).max() == k
        logits = Q @ K.T
        report = jla.measure(logits, A)
        measured = report.ratio_error, report.leak, report.total_variation
        np.testing.assert_allclose(picture["measured"], measured, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(picture["M"], softmax(logits, axis=1), atol=1e-12)
        verdicts.append("Precision met" in explorer.inner_text("#ex-met"))
        assert verdicts[-1] == report.meets(eps1, eps2)
        assert ("missed" in explorer.inner_text(".ex-readings")) != verdicts[-1]
        tau = jla.methods.get(method).default_logit_scale(eps1, eps2)
        B = jla.logits.target_logits(A, tau)
        if row == "tight":
            frame = K.T @ K
            np.testing.assert_allclose(frame, 64 * np.eye(len(frame)), atol=1e-9)
        if method == "interpolate":
            queries = jla.constructions.interpolating_queries(B, K)
            np.testing.assert_allclose(Q, queries, atol=1e-9 * np.abs(queries).max())
        elif method == "row_projection":
            np.testing.assert_allclose(Q, B @ K, atol=1e-12 * np.abs(Q).max())
    assert verdicts[0] is False
    assert verdicts[-1] is True


def test_svd_projection_starts_from_balanced_halves(explorer):
    # At so large an m the projection changes nothing: X1 X1^T = U Sigma U^T, X2 X2^T = V Sigma V^T.
    go_to(explorer, L=4096, k=4, shown="svd_projection", size=64)
    Q, K = explorer.evaluate(
        """() => {
          const {build} = JLExplorer.picture();
          const {queries, keys} = build(1e15, JLExplorer.generator(3));
          return [queries, keys].map((rows) => rows.map((row) => Array.from(row)));
        }"""
    )
    A = read_picture(explorer)["A"]
    B = jla.logits.target_logits(A, jla.logits.smallest_logit_scale(0.1, 0.01))
    U, sigma, Vt = np.linalg.svd(B.toarray())
    Q, K = np.array(Q), np.array(K)
    for product, wanted in [(Q @ K.T, B.toarray()), (Q @ Q.T, (U * sigma) @ U.T)]:
        np.testing.assert_allclose(product, wanted, atol=1e-5)
    np.testing.assert_allclose(K @ K.T, (Vt.T * sigma) @ Vt, atol=1e-5)


def test_the_theorem_holds_and_a_tiny_m_fails_in_many_draws(explorer):
    go_to(explorer, L=4096, k=2, eta=0.01, shown="interpolate", size=64)
    for m, most in [("theorem", 8), (None, 100)]:  # P(Binomial(100, 0.01) > 8) < 1e-5
        if m is None:
            explorer.locator("#ex-m").press("Home")
            explorer.locator("#ex-m").press("ArrowRight")
            settle(explorer)
        explorer.click("#ex-many")
        explorer.wait_for_function("document.getElementById('ex-share').textContent !== ''")
        failed = int(re.match(r"\d+", explorer.inner_text("#ex-share"))[0])
        assert failed <= most if m else failed == most


# --- Controls ------------------------------------------------------------------------------------


def read_table(page):
    """Return {row: (sharp, closed form or None)} as displayed."""
    rows = page.evaluate(
        """() => [...document.querySelectorAll("tr[id^=ex-row]")].map((row) => [
          row.id, ...[...row.querySelectorAll(".ex-number")].map((cell) => cell.textContent)])"""
    )
    return {
        row.removeprefix("ex-row-"): tuple(
            int(re.sub(r"[^0-9]", "", text)) if text else None for text in numbers
        )
        for row, *numbers in rows
    }


def expected_table(length, k, gamma, eps1, eps2, eta):
    precision = {"max_ratio": gamma, "ratio_error": eps1, "leak": eps2, "failure_prob": eta}

    def dims(row, given):
        closed = row not in ONE_NUMBER
        return (
            jla.required_dim(length, k, **precision, **given),
            jla.required_dim(length, k, bound="closed_form", **precision, **given)
            if closed
            else None,
        )

    table = {row: dims(row, given) for row, given in ROWS.items()}
    table["universal"] = tuple(
        jla.universal_dim(length, k, gamma, eps2, eta, bound=bound)
        for bound in ("sharp", "closed_form")
    )
    necessary = {"radon": {}, "packing": {"scale_ratio": 10.0}, "bits": {"bits": 16}}
    return table | {
        name: (jla.necessary_dim(length, k, name, **given), None)
        for name, given in necessary.items()
    }


def test_the_keyboard_moves_the_sliders_and_the_table_follows(explorer):
    values = {"L": 4096, "k": 4, "gamma": 2, "eps1": 0.1, "eps2": 0.01, "eta": 0.01}
    assert read_table(explorer) == expected_table(*values.values())
    choices = explorer.evaluate("JLExplorer.CHOICES")
    for name, key, times in [
        ("L", "ArrowRight", 6),
        ("k", "ArrowLeft", 2),
        ("gamma", "ArrowRight", 1),
        ("eps1", "End", 1),
        ("eps2", "ArrowRight", 2),
        ("eta", "ArrowLeft", 1),
        ("L", "Home", 1),
    ]:
        explorer.focus(f"#ex-{name}")
        for _ in range(times):
            explorer.keyboard.press(key)
        settle(explorer)
        step = int(explorer.input_value(f"#ex-{name}"))
        assert choices[name][step] != values[name]
        values[name] = choices[name][step]
        assert read_table(explorer) == expected_table(*values.values()), name
        shown = explorer.inner_text(f"#ex-{name}-value")
        assert explorer.get_attribute(f"#ex-{name}", "aria-valuetext") == shown
        assert float(re.sub(r"[\s,]", "", shown)) == values[name]


@pytest.mark.parametrize("method", [*ROWS, "universal"])
def test_the_headline_is_what_the_copied_call_returns(explorer, method):
    go_to(explorer, L=65536, k=3, gamma=1.5, eps1=1, eps2=0.05, eta=0.001, scale=6)
    explorer.focus("#ex-method")
    explorer.select_option("#ex-method", method)
    settle(explorer)
    explorer.click("#ex-copy")
    explorer.wait_for_function("document.getElementById('ex-copy').textContent !== 'Copy'")
    dim = eval(explorer.inner_text("#ex-code"), {"jla": jla})
    assert int(re.sub(r"[\s,]", "", explorer.inner_text("#ex-headline strong"))) == dim
    verdict = explorer.inner_text("#ex-verdict")
    assert ("Vacuous" in verdict) == (dim >= 65536)
    assert ("probability" in verdict) == (dim < 65536 and method != "moment_curve")


def test_vacuous_is_said_in_words_with_the_length_where_it_ends(explorer):
    go_to(explorer, L=512, k=2, gamma=1, eps1=1, eps2=0.5, eta=0.5, method="svd_projection")
    verdict = explorer.inner_text("#ex-verdict")
    assert "From about L = 10³ on" in verdict
    start = 1000
    for length, vacuous in [(start // 2, True), (2 * start, False)]:
        dim = jla.required_dim(length, 2, "svd_projection", 1, 1, 0.5, 0.5)
        assert (dim >= length) == vacuous


def test_the_controls_are_labelled_and_show_their_focus(explorer):
    for control in explorer.locator(".ex :is(input, select)").all():
        assert explorer.locator(f"label[for={control.get_attribute('id')}]").count() == 1
    explorer.evaluate("document.querySelector('.ex details').open = true")
    for control in explorer.locator(".ex :is(input, select, button, summary)").all():
        control.focus()
        explorer.keyboard.press("Shift")  # the focus ring is for readers who use the keyboard
        width, style = control.evaluate(
            "(e) => [getComputedStyle(e).outlineWidth, getComputedStyle(e).outlineStyle]"
        )
        assert (width, style) == ("2px", "solid"), control


def test_a_new_draw_changes_the_codes_only_and_a_seed_repeats(explorer):
    first = read_picture(explorer)
    explorer.click("#ex-draw")
    settle(explorer)
    second = read_picture(explorer)
    assert (first["A"] != second["A"]).nnz == 0
    assert np.abs(first["K"] - second["K"]).max() > 0.1
    go_to(explorer, L=4096, seed=1)
    np.testing.assert_array_equal(first["K"], read_picture(explorer)["K"])


def test_an_address_restores_the_state(explorer, visit, opened, noise):
    for name, key in [("L", "PageUp"), ("scale", "Home"), ("m", "ArrowLeft")]:
        explorer.evaluate("document.querySelector('.ex details').open = true")
        explorer.focus(f"#ex-{name}")
        explorer.keyboard.press(key)
        settle(explorer)
    state = explorer.evaluate("JLExplorer.state()")
    with visit(PAGE + explorer.evaluate("location.hash")) as again:
        assert again.page.evaluate("JLExplorer.state()") == state
        assert set(again.console) <= noise
    with visit(PAGE + "#L=17&k=0&m=-3&method=none&gamma=NaN") as damaged:
        assert damaged.page.evaluate("JLExplorer.state()") == opened[1]
        assert set(damaged.console) <= noise


def test_fewer_dimensions_than_a_support_are_called_impossible(explorer):
    go_to(explorer, L=4096, k=4, m=2)
    assert "Impossible" in explorer.inner_text("#ex-met")
    assert "promises nothing" in explorer.inner_text("#ex-theory")


# --- The page ------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(visit, theme, noise):
    with visit(PAGE, PHONE, theme) as visited:
        page = visited.page
        for settings in [{"L": 4096}, {"L": 2**24, "k": 32, "gamma": 20, "eps1": 0.01, "m": 7}]:
            for method in ("universal", "svd_projection"):
                go_to(page, **settings, method=method)
                assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
                wide = page.evaluate(
                    """() => [...document.querySelectorAll(".ex, .ex *")].filter((e) =>
                      e.getBoundingClientRect().right > innerWidth).map((e) => e.outerHTML)"""
                )
                assert wide == []
        assert set(visited.console) <= noise


def test_motion_is_reduced_where_asked(visit):
    with visit(PAGE, reduced_motion="reduce") as visited:
        bar = visited.page.locator(".ex-bar i").first
        assert bar.evaluate("(e) => getComputedStyle(e).transitionDuration") == "0s"


def test_without_javascript_the_page_has_the_numbers(visit):
    with visit(PAGE, PHONE, java_script_enabled=False) as visited:
        page = visited.page
        assert page.locator("noscript p").is_visible()
        for panel in page.locator(".ex").all():
            assert not panel.is_visible()
        table = page.locator("table").last
        wanted = jla.required_dim(1024, 2, "interpolate", 2, leak=0.01)
        cells = table.locator("tbody tr").first.locator("td").all_inner_texts()
        assert cells[1] == "2"
        assert int(cells[6]) == wanted
        assert int(cells[8]) == jla.required_dim(1024, 2, "max_margin")


def test_only_the_explorer_loads_its_scripts():
    for page in HTML.rglob("*.html"):
        assert ("explorer.js" in page.read_text("utf-8")) == (page == HTML / PAGE), page
