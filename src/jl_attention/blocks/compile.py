"""From attention patterns to the input of a real block: `compile`, and what it returns.

For each key head: draw codes c_1..c_L; for each of its query heads solve for the queries
(`queries.capped_queries`); then undo the block from the inside out. Softcap: the wanted logit b
becomes c atanh(b/c). Scale: divide by s. ALiBi: add what it will take. Rotation: R_i^(-1).
QK-norm: a coordinate that no key uses makes up the queries' length. Bias: subtract it. Then U is
what the projections turn into these queries and keys, and X is U with the length, and the mean, that
the norm asks for.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import linalg, sparse

from ..errors import ConstructionError, ParameterError, check_int
from ..logits import check_precision, target_logits
from ..targets import check_target
from . import reference
from .bounds import check_floor
from .queries import capped_queries
from .spec import BlockSpec

LEVELS = (3.0, 6.0, 12.0, 24.0)
"""Logit scales that are tried for a row, the first that works, in units of log(1/leak)."""

FREE_LEVEL = 10.0
"""A coordinate of every code, in units of their length, that stands for a shift of a row's logits.

With QK-norm queries have to be short, and the shortest one finds its level itself.
"""

GAP_MARGIN = 0.01
"""By how much the gap exceeds log(1/leak), for rounding."""

LARGEST_CAPPED = 0.999
"""Share of the softcap that a wanted logit may reach: atanh(0.999) is 3.8."""

RANK_TOLERANCE = 1e-10
"""Pivots of the projections' rows below this share of the largest: linearly dependent."""

ROWS = 4096
"""Tokens whose vectors are computed together."""

BLOCK_BYTES = 2**26
"""Memory for one block of rows of an attention matrix."""


def draw_codes(length, dim, rng):
    """Draw the key codes of one key head: independent standard normal, shape (L, dim)."""
    return rng.standard_normal((length, dim))


@dataclass(frozen=True)
class BlockReport:
    """How well one head of a block shows its pattern; scalars are the worst over the rows.

    Attributes
    ----------
    ratio_error, leak : float
        Smallest eps1 and eps2 for which (P1) and (P2) hold.
    total_variation : float
        Largest total variation distance of a row, what goes to a sink included.
    sink : float
        Largest share of a row that goes to the sink.
    row_leak, row_total_variation : ndarray, shape (L,)
    """

    ratio_error: float
    leak: float
    total_variation: float
    sink: float
    row_leak: np.ndarray = field(repr=False)
    row_total_variation: np.ndarray = field(repr=False)


def measure_rows(M, target):
    """Measure rows of an attention matrix against rows of a target, where M may lose to a sink.

    Parameters
    ----------
    M : ndarray, shape (n, L)
        Rows that sum to at most 1.
    target : scipy.sparse.csr_array, shape (n, L)

    Returns
    -------
    ratio_error, leak, total_variation, sink : ndarray, shape (n,)
        A weight on the support that underflowed to 0 makes the first two infinite.
    """
    M = np.array(M, dtype=np.float64)
    start, counts = target.indptr[:-1], np.diff(target.indptr)
    at = np.repeat(np.arange(len(counts)), counts), target.indices
    lost = np.maximum(1 - M.sum(axis=1), 0)
    on = M[at]
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = on / target.data
        ratio = np.maximum.reduceat(deviation, start) / np.minimum.reduceat(deviation, start) - 1
        M[at] = 0
        leak = np.where(M.max(axis=1) > 0, M.max(axis=1) / np.minimum.reduceat(on, start), 0.0)
    moved = np.add.reduceat(np.abs(on - target.data), start) + M.sum(axis=1) + lost
    return np.where(np.isnan(ratio), np.inf, ratio), leak, moved / 2, lost


@dataclass(frozen=True, eq=False)
class CompiledBlock:
    """An input that makes a block with fixed weights show given attention patterns.

    Attributes
    ----------
    spec : BlockSpec
    inputs_embeds : ndarray, shape (L, d)
        X, the hidden states that enter the block.
    weights : dict of ndarray
        The fixed parameters, as a linear layer stores them, (out, in): ``q_proj.weight``,
        ``k_proj.weight``, and where the block has them ``q_proj.bias``, ``k_proj.bias``,
        ``input_layernorm.weight``, ``input_layernorm.bias``, ``q_norm.weight``,
        ``k_norm.weight``, ``sinks``. They depend on the spec alone (or were given).
    patterns : list of scipy.sparse.csr_array or None, length H
    dim : int
        Coordinates of a head that are used.
    leak : float
        eps2, as asked.
    corrected : int
        Rows whose query is not Theorem T3's: tokens had to be held at the ceiling.
    """

    spec: BlockSpec
    inputs_embeds: np.ndarray = field(repr=False)
    weights: dict = field(repr=False)
    patterns: list = field(repr=False)
    dim: int
    leak: float
    corrected: int

    @property
    def length(self):
        """L, the number of tokens."""
        return len(self.inputs_embeds)

    def attention(self, head, rows=slice(None)):
        """Return rows of a head's attention matrix, by the NumPy reference; shape (n, L).

        Costs O(n L m) and a pass over X; `measure` does whole heads block by block.
        """
        return reference.attention(self.spec, self.weights, self.inputs_embeds, head, rows)

    def logits(self, head, rows=slice(None)):
        """Return rows of a head's logits, minus infinity where the mask hides a token."""
        return reference.logits(self.spec, self.weights, self.inputs_embeds, head, rows)

    def measure(self, head):
        """Measure a head against its pattern, streaming over blocks of rows.

        Returns
        -------
        BlockReport

        Raises
        ------
        ParameterError
            The head has no pattern.
        """
        head = check_int("head", head, minimum=0, maximum=self.spec.query_heads - 1)
        if self.patterns[head] is None:
            raise ParameterError(f"head={head}: was left free, it has no pattern")
        U = reference.normed(self.spec, self.weights, self.inputs_embeds)
        size = max(1, BLOCK_BYTES // (8 * self.length))
        parts = []
        for start in range(0, self.length, size):
            rows = slice(start, min(start + size, self.length))
            M = reference.attention(self.spec, self.weights, None, head, rows, U=U)
            parts.append(measure_rows(M, self.patterns[head][rows]))
        ratio, leak, moved, lost = (np.concatenate(part) for part in zip(*parts, strict=True))
        return BlockReport(
            float(ratio.max()),
            float(leak.max()),
            float(moved.max()),
            float(lost.max()),
            leak,
            moved,
        )

    def astype(self, dtype):
        """Return the same with inputs and weights in another floating-point dtype."""
        weights = {name: array.astype(dtype) for name, array in self.weights.items()}
        return replace(self, inputs_embeds=self.inputs_embeds.astype(dtype), weights=weights)

    def output(self, W_V, W_O):
        """Return what the attention adds to X: sum over h of M_h U W_V^T W_O^T, shape (L, d).

        Parameters
        ----------
        W_V, W_O : ndarray
            ``v_proj.weight`` and ``o_proj.weight`` of the block, whatever they are.
        """
        return reference.output(self.spec, self.weights, self.inputs_embeds, W_V, W_O)

    def target_output(self, W_V, W_O):
        """Return the same with the patterns in place of the attention, and a bound on the error.

        |(M V - A V)_ip| <= TV_i (max_j V_jp - min_j V_jp) for every head (Theorem T8 with the
        range in place of the maximum), added up over the heads.

        Returns
        -------
        output, bound : ndarray, shape (L, d)
        """
        U = reference.normed(self.spec, self.weights, self.inputs_embeds)
        total = np.zeros_like(self.inputs_embeds)
        bound = np.zeros_like(self.inputs_embeds)
        for head, values in enumerate(reference.head_values(self.spec, U, W_V, W_O)):
            if self.patterns[head] is None:
                raise ParameterError(f"head={head}: was left free, it has no pattern")
            total += self.patterns[head] @ values
            moved = self.measure(head).row_total_variation
            low, high = np.minimum(values.min(axis=0), 0), np.maximum(values.max(axis=0), 0)
            if self.spec.sink is False:
                low, high = values.min(axis=0), values.max(axis=0)
            bound += moved[:, None] * (high - low)
        return total, bound

    def load_into(self, module):
        """Copy the weights into a PyTorch attention, layer or model; see `families.load_into`."""
        from .families import load_into

        return load_into(self, module)

    def save(self, path):
        """Write ``inputs_embeds`` and the weights to a .safetensors file (extra ``files``).

        The metadata holds the spec as JSON. What is written are the arrays' own dtypes.
        """
        from .files import save

        save(self, path)


def compile(
    spec,
    patterns,
    leak=0.01,
    rng=None,
    *,
    dim=None,
    logit_scale=None,
    weights=None,
    dtype=np.float64,
):
    """Find the input for which a block's attention heads show these patterns.

    Parameters
    ----------
    spec : BlockSpec
    patterns : list of array_like or sparse array, or None for a head left free
        One a query head, each (L, L) and right-stochastic, see `targets.check_target`.
    leak : float, optional
        eps2 in (0, 1): no token off a row's support gets more than this share of what the weakest
        on it gets. Ratios on the support are exact up to rounding.
    rng : int or numpy.random.Generator, optional
        Seed or generator of the key codes.
    dim : int, optional
        Coordinates of a head to use; as many as the hidden size has room for if None.
    logit_scale : float, optional
        tau for every row; if None, 3 log(1/leak), and more for rows that need it.
    weights : dict of ndarray, optional
        The block's own parameters, as `CompiledBlock.weights`, where they are given; if None they
        are chosen, by the spec alone.
    dtype : {numpy.float64, numpy.float32}, optional
        Of what is returned; it is computed in float64.

    Returns
    -------
    CompiledBlock

    Raises
    ------
    ConstructionError
        The block cannot show the patterns: a bound of `bounds` forbids it, the mask hides a token
        of a support, the hidden size is too small, or there is no query for a row with these codes.
    TargetError, ParameterError
        A pattern is not right-stochastic; an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from jl_attention import blocks, targets
    >>> spec = blocks.BlockSpec(160, query_heads=2, kv_heads=1, head_dim=32, rope=blocks.Rope())
    >>> window = targets.causal_window(64, 2)
    >>> first = np.zeros((64, 64)); first[:, 0] = 1
    >>> built = blocks.compile(spec, [window, first], rng=0)
    >>> built.inputs_embeds.shape
    (64, 160)
    >>> built.attention(0, [9]).round(2)[0, 7:10]
    array([0. , 0.5, 0.5])
    """
    patterns = check_patterns(spec, patterns)
    heads = [head for head, pattern in enumerate(patterns) if pattern is not None]
    leak = check_precision("interpolate", 0.0, leak, logit_scale)[1]
    dtype = np.dtype(dtype)
    if dtype not in (np.float64, np.float32):
        raise ParameterError(f"dtype={dtype}: expected float64 or float32")
    dim = _check_dim(spec, dim, heads, patterns)
    for kv_head in sorted({head // spec.group for head in heads}):
        mine = [head for head in heads if head // spec.group == kv_head]
        check_floor(spec, [patterns[head] for head in mine], mine, leak)
    length = patterns[heads[0]].shape[0]
    rng = np.random.default_rng(rng)
    wanted, corrected = {}, 0
    for kv_head in sorted({head // spec.group for head in heads}):
        codes = draw_codes(length, dim - bool(spec.qk_norm), rng)
        if spec.qk_norm:
            codes *= spec.qk_length / np.linalg.norm(codes, axis=1, keepdims=True)
        wanted["k", kv_head] = codes
        for head in heads:
            if head // spec.group == kv_head:
                wanted["q", head], count = _queries(
                    spec, codes, patterns[head], head, leak, logit_scale
                )
                corrected += count
    given = weights is not None
    weights = check_weights(spec, weights) if given else default_weights(spec, dim, heads)
    hint = "other weights" if given else "a larger BlockSpec.radius"
    X = _input(spec, weights, wanted, dim, hint)
    built = CompiledBlock(spec, X, weights, patterns, dim, leak, corrected)
    return built if dtype == np.float64 else built.astype(dtype)


def check_patterns(spec, patterns):
    """Return the patterns checked, or raise; one a query head."""
    if sparse.issparse(patterns) or len(patterns) != spec.query_heads:
        count = 1 if sparse.issparse(patterns) else len(patterns)
        raise ParameterError(
            f"patterns: {count} of them, expected one for each of query_heads={spec.query_heads} "
            "(None leaves a head free)"
        )
    patterns = [
        None if pattern is None else check_target(pattern, name=f"patterns[{head}]")
        for head, pattern in enumerate(patterns)
    ]
    shapes = {pattern.shape for pattern in patterns if pattern is not None}
    if len(shapes) != 1:
        raise ParameterError(f"patterns: shapes {sorted(shapes)}; expected one and the same")
    ((length, _),) = shapes
    if spec.causal:
        first = spec.first_visible(np.arange(length))
        for head, pattern in enumerate(patterns):
            if pattern is None:
                continue
            rows = np.repeat(np.arange(length), np.diff(pattern.indptr))
            hidden = (pattern.indices > rows) | (pattern.indices < first[rows])
            if hidden.any():
                at = int(np.argmax(hidden))
                row, column = int(rows[at]), int(pattern.indices[at])
                sees = f"tokens {first[row]} to {row}"
                raise ConstructionError(
                    f"head {head}, row {row}: wants token {column}, but sees only {sees}: its weight "
                    "there is 0 for every input"
                )
    return patterns


def _check_dim(spec, dim, heads, patterns):
    """Return the coordinates of a head to use, or raise with the sizes."""
    largest = spec.largest_dim(heads)
    if dim is not None:
        dim = check_int("dim", dim, maximum=spec.head_dim)
        if spec.usable(dim) != dim:
            raise ParameterError(f"dim={dim}: would split a rotary pair; use {spec.usable(dim)}")
        needed = spec.needed_hidden_size(dim, heads)
        if needed > spec.hidden_size:
            raise ConstructionError(
                f"hidden_size={spec.hidden_size}: {len(heads)} query heads and their key heads "
                f"with dim={dim} need {needed}, {spec.spare} of it for the norm; at most "
                f"dim={largest} fits"
            )
        largest = dim
    codes = largest - bool(spec.qk_norm)
    if codes < 1:
        raise ConstructionError(
            f"hidden_size={spec.hidden_size}: leaves {max(largest, 0)} coordinates for a head, too "
            "few for any pattern"
        )
    for head in heads:
        counts = np.diff(patterns[head].indptr)
        row = int(np.argmax(np.where(_free_rows(spec, patterns[head], codes), 0, counts)))
        if counts[row] > codes and not _free_rows(spec, patterns[head], codes)[row]:
            raise ConstructionError(
                f"head {head}, row {row}: its support of {counts[row]} tokens needs as many code "
                f"dimensions, but hidden_size={spec.hidden_size} and head_dim={spec.head_dim} leave "
                f"{codes}"
            )
    return largest


def _free_rows(spec, pattern, dim):
    """Return where the zero query does: more tokens than dimensions, all that the row sees, equal."""
    counts, start = np.diff(pattern.indptr), pattern.indptr[:-1]
    equal = np.maximum.reduceat(pattern.data, start) <= np.minimum.reduceat(pattern.data, start) * (
        1 + 1e-12
    )
    whole = counts == spec.visible_counts(pattern.shape[0])
    return (counts > dim) & whole & equal & (not spec.alibi)


def _queries(spec, codes, pattern, head, leak, logit_scale):
    """Return the queries of one head in code space, and how many rows are not T3's."""
    length, dim = codes.shape
    gap = -math.log(leak) + GAP_MARGIN
    free = _free_rows(spec, pattern, dim)
    if free.any() and math.exp(spec.sink_logit) > leak:
        row = int(np.argmax(free))
        raise ConstructionError(
            f"head {head}, row {row}: attends equally to all {length} tokens it sees, more than "
            f"dim={dim}, so its logits are 0, and a sink of logit {spec.sink_logit:g} leaks more than {leak:g}"
        )
    if spec.qk_norm and spec.softcap is None and not spec.sink:
        return _shortest_queries(spec, codes, pattern, head, gap, free, leak)
    queries = np.zeros((length, dim))
    corrected = np.zeros(length, dtype=bool)
    left = np.nonzero(~free)[0]
    levels = LEVELS if logit_scale is None else (logit_scale / gap,)
    for level in levels:
        tau = max(level * gap, spec.sink_logit + gap)
        wanted = target_logits(pattern, tau)[left]
        fits = np.ones(len(left), dtype=bool)
        if spec.softcap is not None:
            largest = np.maximum.reduceat(wanted.data, wanted.indptr[:-1])
            fits = largest <= LARGEST_CAPPED * spec.softcap
        rows, certain = left[fits], level == levels[-1]
        found, more = capped_queries(
            *_raw(spec, codes, wanted[fits], rows, head, tau - gap), certain=certain
        )
        good = np.isfinite(found[:, 0])
        queries[rows[good]], corrected[rows[good]] = found[good], more[good]
        left = np.setdiff1d(left, rows[good])
        if not len(left):
            return queries, int(corrected.sum())
    raise _no_query(spec, head, left, length, dim, leak, fits.any())


def _shortest_queries(spec, codes, pattern, head, gap, free, leak):
    """Return what `_queries` does, at the level where a row's query is shortest: for QK-norm."""
    level = FREE_LEVEL * spec.qk_length
    rows = np.nonzero(~free)[0]
    queries = np.zeros(codes.shape)
    wanted = target_logits(pattern, 1.0)[rows]
    wanted.data -= 1.0
    _, wanted, ceiling = _raw(spec, codes, wanted, rows, head, -gap)
    lifted = np.column_stack([codes, np.full(len(codes), level)])
    found, corrected = capped_queries(lifted, wanted, ceiling)
    queries[rows] = found[:, :-1]
    lengths = np.linalg.norm(queries, axis=1)
    lost = np.nonzero(~(lengths <= spec.qk_length))[0]
    if not len(lost):
        return queries, int(corrected.sum())
    row = lost[np.argmax(np.nan_to_num(lengths[lost], nan=np.inf))]
    if np.isnan(lengths[row]):
        raise _no_query(
            spec, head, np.nonzero(np.isnan(lengths))[0], len(codes), codes.shape[1], leak, True
        )
    raise ConstructionError(
        f"head {head}, row {row}: needs |q| |k| scale = "
        f"{spec.logit_factor * lengths[row] * spec.qk_length:.4g} with these codes, but qk_norm makes "
        f"it at most {spec.logit_factor * spec.qk_length**2:.4g}; {len(lost)} of {len(codes)} rows "
        f"ask for too much: leak={leak:g} is too small, or head_dim={spec.head_dim}"
    )


def _raw(spec, codes, wanted, rows, head, ceiling):
    """Return (codes, wanted, ceiling) for <q, c> itself: before ALiBi, softcap and scale."""
    length = len(codes)
    slope = spec.slopes[head]
    inner = wanted.copy()
    where = np.repeat(rows, np.diff(wanted.indptr))
    inner.data = _uncapped(spec, inner.data + slope * (where - inner.indices)) / spec.logit_factor

    def below(some):
        some = rows[some]
        distance = some[:, None] - np.arange(length)
        level = _uncapped(spec, ceiling + slope * distance) / spec.logit_factor
        return np.where(reference.visible(spec, some, length), level, np.inf)

    return codes, inner, below


def _uncapped(spec, z):
    """Return the logit that the softcap turns into z: c atanh(z/c); infinite beyond the cap."""
    if spec.softcap is None:
        return z
    share = z / spec.softcap
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = spec.softcap * np.arctanh(np.clip(share, -1, 1))
    return raw


def _no_query(spec, head, lost, length, dim, leak, fits):
    """Return the error for rows without a query."""
    if not fits:
        return ConstructionError(
            f"head {head}, row {lost[0]}: softcap={spec.softcap:g} has no room for logits of "
            f"{LEVELS[0]:g} log(1/leak) = {-LEVELS[0] * math.log(leak):.3g} and more above 0; ask for a "
            "larger leak, or give a smaller logit_scale"
        )
    return ConstructionError(
        f"head {head}, row {lost[0]}: no query of {dim} dimensions separates its support from the "
        f"other tokens it sees with leak={leak:g}; {len(lost)} of {length} rows have none with these "
        "codes: more dimensions (hidden_size, head_dim) or another seed may do"
    )


# --- Weights and input ---------------------------------------------------------------------------


def weight_shapes(spec):
    """Return the names and shapes of a block's parameters that its attention depends on."""
    d, m = spec.hidden_size, spec.head_dim
    shapes = {"q_proj.weight": (spec.query_heads * m, d), "k_proj.weight": (spec.kv_heads * m, d)}
    if spec.norm:
        shapes["input_layernorm.weight"] = (d,)
    if spec.norm == "layer":
        shapes["input_layernorm.bias"] = (d,)
    if spec.bias:
        shapes |= {"q_proj.bias": (spec.query_heads * m,), "k_proj.bias": (spec.kv_heads * m,)}
    if spec.qk_norm:
        shapes |= {"q_norm.weight": (m,), "k_norm.weight": (m,)}
    if spec.sink is not False:
        shapes["sinks"] = (spec.query_heads,)
    return shapes


def default_weights(spec, dim, heads=None):
    """Return the fixed parameters: projections that pick coordinates of X, times one gain.

    Query head h takes coordinates h m' to (h+1) m' - 1, m' = `dim`, key head g the same after all
    query heads. The gain is a power of 2, exact in every format, and depends on the spec alone: it
    allows s |q| |k| up to `BlockSpec.radius` where X's length is fixed by a norm.
    """
    heads = range(spec.query_heads) if heads is None else heads
    blocks = [("q", head) for head in heads]
    blocks += [("k", head) for head in sorted({head // spec.group for head in heads})]
    weights = {name: np.zeros(shape) for name, shape in weight_shapes(spec).items()}
    gain = 1.0
    if spec.qk_norm:  # the blocks of U have mean square 1/2 in a head: half of U's length
        gain = max(1.0, math.sqrt(len(blocks) * spec.head_dim / spec.hidden_size))
    elif spec.norm:
        gain = math.sqrt(2 * spec.radius / (spec.logit_factor * spec.hidden_size))
    gain = 2.0 ** math.ceil(math.log2(gain))
    at = spec.coordinates(dim)
    for place, (name, head) in enumerate(blocks):
        columns = np.arange(place * dim, (place + 1) * dim)
        weights[f"{name}_proj.weight"][head * spec.head_dim + at, columns] = gain
    if spec.norm:
        weights["input_layernorm.weight"][:] = 1
    if spec.qk_norm:
        weights["q_norm.weight"][:] = weights["k_norm.weight"][:] = spec.qk_gain
    if spec.sink is not False:
        weights["sinks"][:] = spec.sink_logit
    return weights


def check_weights(spec, weights):
    """Return given parameters as float64 arrays, or raise `ParameterError`."""
    checked = {}
    for name, shape in weight_shapes(spec).items():
        if name not in weights:
            raise ParameterError(f"weights: {name} is missing")
        array = np.asarray(weights[name], dtype=np.float64)
        if array.shape != shape:
            raise ParameterError(f"weights: {name} of shape {array.shape}, expected {shape}")
        if not np.isfinite(array).all():
            raise ParameterError(f"weights: {name} has an entry that is not finite")
        checked[name] = array
    for name in ("q_norm.weight", "k_norm.weight"):
        if name in checked and not np.allclose(checked[name], spec.qk_gain, rtol=1e-6):
            raise ParameterError(
                f"weights: {name} must be {spec.qk_gain:g} throughout, the spec's qk_norm"
            )
    if "input_layernorm.weight" in checked and not checked["input_layernorm.weight"].all():
        raise ParameterError("weights: input_layernorm.weight has a zero")
    if "sinks" in checked and not np.allclose(checked["sinks"], spec.sink_logit, rtol=1e-6):
        raise ParameterError(f"weights: sinks must be {spec.sink_logit:g}, the spec's sink")
    return checked


def _input(spec, weights, wanted, dim, hint):
    """Return the X whose queries and keys are those wanted.

    U has to solve W U = T - bias for the rows W of the projections that matter; what is left free
    is one number along a vector orthogonal to them, which makes up U's length.
    """
    length = len(next(iter(wanted.values())))
    norm_weight = weights.get("input_layernorm.weight", np.ones(spec.hidden_size))
    norm_bias = weights.get("input_layernorm.bias", np.zeros(spec.hidden_size))
    system, offset, places = _system(spec, weights, wanted, dim)
    offset = offset + system @ norm_bias
    system = system * norm_weight
    if spec.norm == "layer":
        system = np.vstack([system, np.ones(spec.hidden_size)])
    extra = 1 if spec.norm else 0
    if len(system) + extra > spec.hidden_size:
        raise ConstructionError(
            f"hidden_size={spec.hidden_size}: these projections leave {len(system)} conditions on a "
            f"token's vector{' and one for its length' if extra else ''}"
        )
    basis, factor = linalg.qr(system.T, mode="economic", check_finite=False)
    pivots = np.abs(np.diag(factor))
    if pivots.min() <= RANK_TOLERANCE * pivots.max():
        raise ConstructionError(
            "weights: the projections' rows are linearly dependent: queries and keys cannot be "
            "chosen freely"
        )

    def solved(rows, name):
        """Return the coordinates in `basis` of what one kind of head asks of U, for some rows."""
        right = np.zeros((len(system), len(rows)))
        for (kind, head), at in places.items():
            if kind == name:
                part = _projection(spec, wanted[kind, head][rows], kind, dim, rows)
                right[at.start : at.start + dim] = part.T
        return linalg.solve_triangular(factor, right, trans="T", check_finite=False)

    constant = np.zeros((len(system), 1))
    constant[: len(offset), 0] = -offset
    constant = linalg.solve_triangular(factor, constant, trans="T", check_finite=False)
    blocks = [np.arange(a, min(a + ROWS, length)) for a in range(0, length, ROWS)]
    balance = 1.0
    if spec.norm and not spec.qk_norm:
        q, k = (
            max((solved(rows, name) ** 2).sum(axis=0).max() for rows in blocks) for name in "qk"
        )
        balance = (q / k) ** 0.25
    X = np.empty((length, spec.hidden_size))
    fixed_length = spec.hidden_size / (1 + spec.norm_eps)
    free = None
    if spec.norm:
        free = np.random.default_rng(0).standard_normal(spec.hidden_size)
        free -= basis @ (basis.T @ free)
        free /= np.linalg.norm(free)
    for rows in blocks:
        inner = solved(rows, "q") / balance + solved(rows, "k") * balance + constant
        X[rows] = (basis @ inner).T
        if free is None:
            continue
        left = fixed_length - (inner**2).sum(axis=0)
        if (left < 0).any():
            at = int(np.argmin(left))
            share = 1 - left[at] / fixed_length
            raise ConstructionError(
                f"row {rows[at]}: the norm fixes the length of a token's vector, and its queries and "
                f"keys alone are {math.sqrt(share):.3g} times as long: the block needs {hint}, or "
                "the patterns shorter supports or a larger leak"
            )
        X[rows] += np.sqrt(left)[:, None] * free
    return X * math.sqrt(1 + spec.norm_eps) if spec.norm else X


def _projection(spec, vectors, kind, dim, rows):
    """Return what a projection has to give for these queries or keys, shape (n, dim).

    With QK-norm the query's last coordinate, where keys are 0, makes up its length, and the
    projection gets a mean square of 1/2.
    """
    if spec.qk_norm:
        spare = np.zeros(len(vectors))
        if kind == "q":
            spare = np.sqrt(np.maximum(spec.qk_length**2 - (vectors**2).sum(axis=1), 0))
        vectors = np.column_stack([vectors, spare])
    used = spec.coordinates(dim)
    head = np.zeros((len(vectors), spec.head_dim))
    head[:, used] = vectors
    if spec.rope:
        head = spec.rope.unrotate(head, rows)
    if spec.qk_norm:
        head *= (
            math.sqrt(spec.head_dim / 2) * (spec.rope.factor if spec.rope else 1.0) / spec.qk_length
        )
    return head[:, used]


def _system(spec, weights, wanted, dim):
    """Return the rows of the projections that matter, their biases, and which head has which.

    Of a key head all coordinates matter: those not used must be zero. Of a query head only those
    used do, unless its own norm sees the others. Rows of zeros need no care.
    """
    rows, offset, places, start = [], [], {}, 0
    used = spec.coordinates(dim)
    rest = np.setdiff1d(np.arange(spec.head_dim), used)
    for kind, head in wanted:
        weight = weights[f"{kind}_proj.weight"][head * spec.head_dim : (head + 1) * spec.head_dim]
        bias = weights.get(f"{kind}_proj.bias")
        bias = (
            np.zeros(spec.head_dim)
            if bias is None
            else bias[head * spec.head_dim :][: spec.head_dim]
        )
        also = rest[weight[rest].any(axis=1) | (bias[rest] != 0)]
        at = np.append(used, also) if kind == "k" or spec.qk_norm else used
        rows.append(weight[at])
        offset.append(bias[at])
        places[kind, head] = slice(start, start + len(at))
        start += len(at)
    return np.vstack(rows), np.concatenate(offset), places
