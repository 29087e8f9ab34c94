"""The book's table of what kvpress keeps of the planted keys, on a stock Llama layer.

``python -m jl_attention_book.presses -o TABLE.csv`` recomputes it; it needs the extra ``kvpress``.

The layer is that of `transformers`, with its RMSNorm and its rotary positions, and
`jl_attention.blocks.embed` finds the input that gives it a workload's queries and keys. So what a
press sees is a prompt whose attention is known, and what it leaves in the cache can be compared
with the truth.
"""

import argparse
from itertools import product

import numpy as np

from jl_attention import blocks
from jl_attention.workloads import make, score

from .tables import write_table

LENGTH, HEAD_DIM, HEADS, SEED = 2048, 128, 4, 0
ROPE_THETA = 10_000.0

WORKLOADS = {
    "asked at the end": ("mid_prompt", {"needles": 64, "asking": 32, "at": 1.0}),
    "asked in mid-prompt": ("mid_prompt", {"needles": 64, "asking": 32}),
    "vertical-slash": ("vertical_slash", {}),
    "heavy hitters": ("heavy_hitters", {}),
}
"""Name in the table, pattern and its options."""

GEOMETRIES = ("random", "outlier")
KEPT = (0.5, 0.25, 0.1)
PRESSES = (
    "RandomPress",
    "KnormPress",
    "KeyDiffPress",
    "LagKVPress",
    "LeverageScorePress",
    "CURPress",
    "ExpectedAttentionPress",
    "ObservedAttentionPress",
    "NonCausalAttnPress",
    "CompactorPress",
    "SnapKVPress",
    "TOVAPress",
    "StreamingLLMPress",
)
"""Presses of kvpress that need neither training nor more than one layer, with their defaults."""


def workload(name, geometry):
    """Return the workload of a row of the table: four query heads on one key head."""
    pattern, options = WORKLOADS[name]
    return make(
        pattern, LENGTH, head_dim=HEAD_DIM, heads=HEADS, geometry=geometry, rng=SEED, **options
    )


def stock_layer(workload, seed=1):
    """Return a stock Llama of one layer, and the input that has the workload's attention in it.

    Parameters
    ----------
    workload : jl_attention.workloads.Workload
    seed : int, optional
        Of the value projection, which is as the model initialises it.

    Returns
    -------
    model : transformers.LlamaForCausalLM
    inputs_embeds : torch.Tensor, shape (1, L, hidden)
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    heads, kv_heads, dim = workload.heads, workload.kv_heads, workload.head_dim
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=(heads + kv_heads) * dim + 1,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=dim,
        max_position_embeddings=workload.length,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM._from_config(config, attn_implementation="eager").eval()
    built = blocks.embed(blocks.from_config(config), workload.Q, workload.K)
    built.load_into(model)
    return model, torch.tensor(built.inputs_embeds[None], dtype=torch.float32)


def kept_keys(press, model, inputs_embeds, workload):
    """Return which keys a press leaves in the cache, bool of shape (KV, L).

    A key in the cache is the one of the workload that it is nearest to.
    """
    import torch
    from transformers import DynamicCache

    torch.manual_seed(SEED)
    cache = DynamicCache()
    with torch.no_grad(), press(model):
        model.model(inputs_embeds=inputs_embeds, past_key_values=cache)
    kept = np.zeros((workload.kv_heads, workload.length), dtype=bool)
    for head, left in enumerate(cache.layers[0].keys[0].numpy()):
        K = workload.K[head]
        distance = (left**2).sum(1)[:, None] + (K**2).sum(1) - 2 * left @ K.T
        nearest = distance.argmin(axis=1)
        assert np.abs(left - K[nearest]).max() < 1e-2 * np.abs(K).max()
        kept[head, nearest] = True
    return kept


def solve(name, geometry, presses=PRESSES, shares=KEPT):
    """Yield the rows of the table for one workload: dicts."""
    import kvpress

    known = workload(name, geometry)
    model, inputs_embeds = stock_layer(known)
    group = known.heads // known.kv_heads
    for press, share in product(presses, shares):
        chosen = getattr(kvpress, press)(compression_ratio=1 - share)
        kept = kept_keys(chosen, model, inputs_embeds, known)
        found = score([_always(kept[head // group]) for head in range(known.heads)], known)
        yield {
            "workload": name,
            "geometry": geometry,
            "press": press.removesuffix("Press"),
            "kept": f"{share:g}",
            "recall": f"{found.recall:.3f}",
            "mass": f"{found.mass:.3f}",
        }


def _always(keys):
    """Return a selection that keeps the same keys for every row, and each row's own."""

    def keep(rows):
        return keys | (np.arange(len(keys)) == rows[:, None])

    return keep


def main(arguments=None):
    """Recompute the table of the book: ``python -m jl_attention_book.presses -o TABLE.csv``."""
    parser = argparse.ArgumentParser(
        prog="python -m jl_attention_book.presses", description=main.__doc__
    )
    parser.add_argument("-o", "--output", required=True, help="the table, written atomically")
    options = parser.parse_args(arguments)
    rows = [row for problem in product(WORKLOADS, GEOMETRIES) for row in solve(*problem)]
    write_table(options.output, rows)


if __name__ == "__main__":
    main()
