"""A method is an object that owns its theorem; a further one is one class and one line."""

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import pytest

import jl_attention as jla
from jl_attention import methods
from jl_attention.codes import GivenCodes
from jl_attention.methods import Interpolate, MaxMargin, Method, RowProjection, SVDProjection

TARGET = jla.targets.regular(60, 3, 2.0, rng=0)
ASKED = {"ratio_error": 0.3, "leak": 0.1}


# --- A sixth method ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Factored(Method):
    """X1 = B, X2 = I: what m = L dimensions do for nothing."""

    name: ClassVar[str] = "factored"
    theorem: ClassVar[str] = "T0"
    hypotheses: ClassVar[str] = "None."

    logit_scale: float | None = None

    def default_logit_scale(self, ratio_error, leak):
        return 1 - np.log(leak)

    def least_dim(self, row_nnz):
        return np.ones_like(row_nnz)

    def log_failure(self, dim, asked, bound, scope):
        return np.where(dim >= asked.length, -np.inf, 0.0)

    def required_dim_for_target(self, target, precision, failure_prob=0.01):
        return target.shape[0]

    def build(self, B, dim, rng, dtype, *, keys=None, executor=None, progress=None):
        return B.toarray().astype(dtype), GivenCodes(np.eye(*B.shape, dtype=dtype))


def test_a_sixth_method_is_one_class_and_one_line(monkeypatch):
    monkeypatch.setitem(methods.METHODS, "factored", Factored)
    built = jla.construct(TARGET, "factored", leak=0.05)
    assert (built.method, built.dim) == ("factored", 60)
    assert built.meets(jla.measure(built, TARGET))
    assert jla.required_dim([5, 60], 3, "factored").tolist() == [5, 60]
    assert jla.failure_probability([59, 60], 60, 3, "factored").tolist() == [1, 0]
    assert jla.required_dim_for_target(TARGET, "factored") == 60
    assert jla.construct(TARGET, Factored(logit_scale=9.0)).logit_scale == 9


# --- Every method --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", methods.METHODS)
def test_strings_are_the_objects_with_default_settings(name):
    method = methods.get(name)
    assert method == methods.METHODS[name]()
    assert methods.get(method) is method
    assert str(method) == name
    by_name, by_object = (jla.construct(TARGET, m, **ASKED, rng=1) for m in (name, method))
    assert by_name == by_object
    assert jla.required_dim(500, 3, name, **ASKED) == method.required_dim(500, 3, **ASKED)


@pytest.mark.parametrize("kind", methods.METHODS.values())
def test_a_method_says_what_it_rests_on(kind):
    assert kind.theorem in {"T1", "T2", "T3", "T5", "T9"}
    assert len(kind.hypotheses) > 20
    assert kind().bounds[0] in {"sharp", "differences"}
    assert "logit_scale" in {field.name for field in fields(kind)}


def test_settings_are_named_and_refused():
    assert str(Interpolate("tight")) == "interpolate(codes='tight')"
    assert methods.get("interpolate", codes="tight") == Interpolate("tight")
    for call, message in [
        (lambda: methods.get("magic"), "method='magic'"),
        (lambda: methods.get("moment_curve", codes="tight"), "codes: not a setting"),
        (lambda: methods.get(Interpolate(), codes="tight"), "codes: settings of a method object"),
        (lambda: Interpolate("white"), "codes='white'"),
        (lambda: MaxMargin("white"), "codes='white'"),
        (lambda: RowProjection("white"), "projection='white'"),
        (lambda: jla.required_dim(9, 1, scope="every_support"), "scope='every_support'"),
        (lambda: jla.required_dim(9, 1, "max_margin", bound="closed_form"), "bound='closed_form'"),
    ]:
        with pytest.raises(jla.ParameterError, match=message):
            call()


# --- Codes and projections as settings -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["gaussian", "unit", "tight", "orthogonal"])
def test_interpolation_keeps_its_promise_on_every_kind_of_code(kind):
    # eta = 1e-9 makes this a statistical test with that false-failure rate.
    method = Interpolate(kind)
    built = jla.construct(TARGET, method, leak=0.1, failure_prob=1e-9, rng=2)
    report = jla.measure(built, TARGET)
    assert built.meets(report)
    assert report.leak <= 0.1
    if kind in ("tight", "orthogonal"):
        assert built.dim <= 60


def test_the_default_is_tight_in_batch_and_holds_for_a_stream_in_dimensions():
    built = jla.construct(TARGET, leak=0.1, rng=5)
    assert built == jla.construct(TARGET, Interpolate("tight"), leak=0.1, rng=5)
    assert jla.required_dim(1024, 4) == jla.required_dim(1024, 4, codes="gaussian") == 304
    assert jla.required_dim([128, 256, 1024], 4, codes="tight").tolist() == [90, 135, 239]


@pytest.mark.parametrize("kind", [SVDProjection, RowProjection])
@pytest.mark.parametrize("projection", list(jla.projections.FAMILIES))
def test_every_projection_plugs_in(kind, projection):
    B = jla.logits.target_logits(TARGET, 3.0)
    draws = []
    for seed in range(60):
        queries, keys = kind(projection).build(B, 40, seed, np.dtype(float))
        draws.append(queries @ keys.array().T)
    # E <Px, Py> = <x, y>: each entry's mean is within 8 of its own standard errors.
    errors = (np.mean(draws, axis=0) - B.toarray()) / (np.std(draws, axis=0) / np.sqrt(60) + 1e-12)
    assert np.abs(errors).max() < 8 if projection == "gaussian" else np.abs(errors).mean() < 1.2


def test_an_orthogonal_projection_never_needs_more_than_the_length():
    for name in ("svd_projection", "row_projection"):
        options = {"ratio_error": 0.1, "leak": 0.01, "projection": "orthogonal"}
        lengths = np.array([64, 1024])
        assert (jla.required_dim(lengths, 4, name, **options) == lengths).all()
        assert jla.required_dim(10**9, 1, name, **options) < 10**9
        assert (jla.failure_probability(lengths, lengths, 4, name, **options) == 0).all()


def test_projections_without_a_proof_need_a_dimension():
    with pytest.raises(jla.ParameterError, match="no dimension is proved"):
        jla.required_dim(64, 2, "row_projection", ratio_error=1.0, projection="srht")
    signs = {"ratio_error": 1.0, "leak": 0.5, "projection": "rademacher"}
    gaussian = jla.required_dim(1024, 2, "row_projection", ratio_error=1.0, leak=0.5)
    assert gaussian < jla.required_dim(1024, 2, "row_projection", **signs) < 3 * gaussian
    with pytest.raises(jla.ParameterError, match="bound='sharp'"):
        jla.required_dim(1024, 2, "row_projection", bound="sharp", **signs)
    built = jla.construct(TARGET, RowProjection("srht"), ratio_error=1.0, dim=50, rng=0)
    assert built.dim == 50


# --- No dimension above the length ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["interpolate", "svd_projection", "row_projection", "max_margin"])
def test_dense_causal_attention_needs_no_more_than_the_length(name):
    causal = np.tril(np.ones((64, 64))) / np.arange(1, 65)[:, None]
    built = jla.construct(causal, name, ratio_error=1e-3, leak=1e-3, rng=0)
    assert built.dim <= 64
    assert built.meets(jla.measure(built, causal))


def test_a_uniform_row_takes_the_zero_query():
    target = jla.targets.causal_window(512, 2, rng=0).tolil()
    target[7] = 1 / 512
    built = jla.construct(target, leak=0.1, rng=0)
    assert built.dim < 256
    assert not built.queries[7].any()
    assert built.meets(jla.measure(built, target))


def test_a_tiny_entry_costs_no_more_than_the_length():
    row = [5e-324, 0.5, 0.5]
    built = jla.construct([row, [0, 1, 0], [0, 0, 1]], rng=0)
    assert built.dim <= 3


# --- Total variation -----------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [0.3, 0.01, 1e-4])
def test_total_variation_is_what_is_met(wanted):
    built = jla.construct(TARGET, total_variation=wanted, rng=0)
    report = jla.measure(built, TARGET)
    assert built.total_variation == wanted
    assert report.total_variation <= wanted
    assert built.meets(report)
    # The leak comes from T8: a hundred times as much would not do.
    worse = jla.construct(TARGET, leak=min(0.9, 100 * built.leak), dim=20, rng=0)
    assert jla.measure(worse, TARGET).total_variation > wanted / 100
    with pytest.raises(jla.ParameterError, match="not both"):
        jla.construct(TARGET, total_variation=wanted, leak=0.1)
    with pytest.raises(jla.ParameterError, match="ratios alone"):
        jla.construct(TARGET, "row_projection", ratio_error=3.0, total_variation=0.1)


# --- Max-margin: a theorem -----------------------------------------------------------------------


def test_max_margin_dimensions_are_a_theorems():
    assert jla.required_dim(1024, 4, "max_margin") == 52
    assert jla.required_dim(1024, 4, "max_margin", scope="every_support") == 74
    assert jla.failure_probability(28, 256, 4, "max_margin") == 1
    assert jla.expected_failures(28, 256, 4, "max_margin") == pytest.approx(3.12, abs=0.005)
    assert jla.failure_probability(52, 1024, 4, "max_margin") == pytest.approx(0.0067, abs=5e-5)


def test_max_margin_answers_for_given_keys():
    keys = jla.codes.draw("gaussian", 60, 8, rng=0)
    result = MaxMargin().queries(TARGET, keys, leak=0.1)
    assert len(result.found) + len(result.infeasible) + len(result.unresolved) == 60
    assert len(result.infeasible) > 0
    assert not len(result.unresolved)
    for row in result.infeasible:
        certificate = result.certificates[row]
        ours = certificate.coefficients @ keys[certificate.support]
        theirs = certificate.weights @ keys[certificate.competitors]
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
        assert certificate.contradiction > 0
