"""Attention of packed rows by blocks, against dense rows with a mask: time and memory.

    python bench/attention.py [--lengths 512 1024 2048 4096] [--rounds 5]

One row of S tokens, 4 heads of 64, value and gradients; segments as long as Alpaca's samples
(median 110, one in a hundred above 360). Each is measured in a process of its own. The last column
is what `attention.choose` calls DEARER: the cost of a score in blocks, in dense scores.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np
from measure import high_water, in_turn, run_one

HEADS, WIDTH = 4, 64


def segments_of(length: int) -> np.ndarray:
    """Segment ids [1, S] of segments with lengths like Alpaca's."""
    rng = np.random.default_rng(0)
    sizes = np.clip(np.exp(rng.normal(np.log(110), 0.45, length)), 42, 1304).astype(int)
    return np.repeat(np.arange(1, length + 1), sizes)[:length][None].astype(np.int32)


def measure(way: str, length: int, block: int, rounds: int) -> dict[str, float]:
    """Milliseconds of a call, and how much more memory the process needs for it."""
    import mfunc as mf
    import mfunc.data as md
    from mfunc.nn import block_attention, dense_attention

    segments = segments_of(length)
    blocks = md.attention_blocks(segments, block=block, multiple=1)
    shape = (1, HEADS, length, WIDTH) if way == "dense" else (-1, HEADS, block, WIDTH)
    rng = np.random.default_rng(1)
    numbers = [
        rng.standard_normal(HEADS * length * WIDTH).astype(np.float32).reshape(shape)
        for _ in range(4)
    ]

    def dense(q, k, v, weight, segment_ids, blocks):  # type: ignore[no-untyped-def]
        bias = dense_attention.causal_bias(segment_ids, HEADS)
        return (dense_attention.attend(q, k, v, bias) * weight).sum()

    def sparse(q, k, v, weight, segment_ids, blocks):  # type: ignore[no-untyped-def]
        seen = block_attention.see(segment_ids, blocks, HEADS)
        return (block_attention.attend(q, k, v, seen) * weight).sum()

    fast = mf.jit(mf.value_and_grad(dense if way == "dense" else sparse, (0, 1, 2)))

    def call() -> None:
        _, gradients = fast(*numbers, segments, blocks)
        for x in gradients:
            x.asnumpy()

    before = high_water(reset=True)
    (milliseconds,) = in_turn([call], rounds)
    return {"ms": milliseconds, "mb": high_water() - before, "pairs": len(blocks["pairs"])}


def main() -> None:
    """Print the table, or measure one way and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("one", nargs="*")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--block", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.one:
        _, way, length = options.one
        found = measure(way, int(length), options.block, options.rounds)
        print(json.dumps(found))
        return
    print("    S   pairs   dense ms  blocks ms  times faster   dense MB  blocks MB  share  a score")
    more = ("--block", str(options.block), "--rounds", str(options.rounds))
    for length in options.lengths:
        dense, sparse = (
            run_one(sys.argv[0], way, str(length), *more) for way in ("dense", "blocks")
        )
        faster, scores = dense["ms"] / sparse["ms"], sparse["pairs"] * options.block**2
        print(
            f"{length:5} {sparse['pairs']:7.0f} {dense['ms']:10.1f} {sparse['ms']:10.1f} "
            f"{faster:13.1f} {dense['mb']:10.0f} {sparse['mb']:10.0f} "
            f"{sparse['mb'] / dense['mb']:6.2f} {length**2 / scores / faster:8.2f}"
        )


if __name__ == "__main__":
    main()
