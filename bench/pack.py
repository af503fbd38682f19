"""Packing in numbers: seconds of CPU time, and ratios to two simple things in the same run.

    python bench/pack.py [--rows 51000] [--seq-length 2048]
    python bench/pack.py --data alpaca.json tokenizer.model

Without data the lengths are drawn as Alpaca's are (lognormal).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import mfunc.data as md
from mfunc.data.plan import STRATEGIES


def drawn_samples(count: int, seq_length: int) -> dict[str, md.Ragged]:
    """Random ids, the first half of each sample untrained; mean length about 120."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(4.65, 0.5, count), 30, seq_length).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.integers(3, 32_000, offsets[-1], np.int32)
    place = np.arange(len(ids)) - np.repeat(offsets[:-1], lengths)
    labels = np.where(place < np.repeat(lengths // 2, lengths), -100, ids).astype(np.int32)
    return {"input_ids": md.Ragged(ids, offsets), "labels": md.Ragged(labels, offsets)}


def read_samples(data: str, tokenizer: str, seq_length: int) -> dict[str, Any]:
    """A file of alpaca rows through the whole pipeline."""
    rows = md.concat(list(md.read(data)))
    prepare = md.compose(
        md.truncate(seq_length, policy="source_first"),
        md.tokenize(md.sentencepiece(tokenizer)),
        md.chat(style="alpaca", template="alpaca"),
    )
    return prepare(rows)


def naive_next_fit(ids: list, labels: list, size: int) -> list:
    """What one writes first: Python lists, the next sample into the open row or a new one."""
    packed: list = [([], [], [], [])]
    for one, label in zip(ids, labels, strict=True):
        if len(packed[-1][0]) + len(one) > size:
            packed.append(([], [], [], []))
        segments = packed[-1][2]
        parts = one, label, [1 + (segments[-1] if segments else 0)] * len(one), range(len(one))
        for column, part in zip(packed[-1], parts, strict=True):
            column.extend(part)
    for row in packed:
        for column, fill in zip(row, (0, -100, 0, 0), strict=True):
            column.extend([fill] * (size - len(column)))
    return packed


def seconds(function: Callable[[], Any], repeat: int = 3) -> tuple[float, Any]:
    """The least CPU time of some calls, and the result."""
    best = float("inf")
    for _ in range(repeat):
        begin = time.process_time()
        result = function()
        best = min(best, time.process_time() - begin)
    return best, result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=51_000)
    parser.add_argument("--seq-length", type=int, default=2048)
    parser.add_argument("--data", nargs=2, metavar=("FILE", "TOKENIZER"))
    args = parser.parse_args()
    size = args.seq_length
    samples = read_samples(*args.data, size) if args.data else drawn_samples(args.rows, size)
    lengths = samples["input_ids"].lengths
    lists = [[row.tolist() for row in samples[name]] for name in ("input_ids", "labels")]
    naive, made = seconds(lambda: naive_next_fit(*lists, size), repeat=1)
    print(f"{len(lengths)} samples, {lengths.sum()} tokens; >= {-(-lengths.sum() // size)} rows")
    print(f"naive lists, next-fit: {len(made)} rows, {naive:.3f} s")
    print("strategy               rows   fill %  plan s  build s  pack s  x naive  x copy")
    for strategy in STRATEGIES:
        plan_s, plan = seconds(partial(md.pack_plan, lengths, capacity=size, strategy=strategy))
        build_s, packed = seconds(partial(md.rows, plan, samples, 0, len(plan)))
        copy_s, _ = seconds(lambda made=packed: [column.copy() for column in made.values()])
        pack_s, _ = seconds(partial(md.pack(size, strategy=strategy), samples))
        print(
            f"{strategy:21s} {len(plan):6d}  {100 * plan.fill:7.3f}  {plan_s:6.3f}  {build_s:7.3f}"
            f"  {pack_s:6.3f}  {naive / pack_s:7.1f}  {pack_s / copy_s:6.1f}"
        )


if __name__ == "__main__":
    main()
