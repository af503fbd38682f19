"""Packing in numbers: medians of runs that alternate, and ratios to simple things among them.

    python bench/pack.py [--rows 51000] [--seq-length 2048] [--peers-python python]
    python bench/pack.py --data alpaca.json tokenizer.model

Without data the lengths are drawn as Alpaca's are. `x fresh` and `x warm` are the times of copying
the result to new memory and to memory in use. TRL is measured if the Python of the peers has it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measure import in_turn
from peers.pack_lists import next_fit
from samples import drawn_lengths, drawn_samples, read_samples

import mfunc.data as md
from mfunc.data.packing.plan import STRATEGIES


def peers(python: str, samples: dict[str, Any], size: int) -> dict[str, Any]:
    """What the peer's process prints, or nothing where it does not start."""
    flat = {name: samples[name].flat for name in ("input_ids", "labels")}
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        np.savez(file, offsets=samples["input_ids"].offsets, **flat)
        file.flush()
        script = Path(__file__).parent / "peers/pack_trl.py"
        command = [python, script, file.name, str(size), "3"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {} if done.returncode else json.loads(done.stdout.splitlines()[-1])


def one_strategy(samples: dict[str, Any], size: int, strategy: str) -> float:
    """A line of the table; the milliseconds of `pack`."""
    plan_of = partial(md.pack_plan, samples["input_ids"].lengths, capacity=size, strategy=strategy)
    plan = plan_of()
    made = md.rows(plan, samples, 0, len(plan))
    kept = [column.copy() for column in made.values()]
    fresh, warm, planned, packed, batch = in_turn(
        [
            lambda: [column.copy() for column in made.values()],
            lambda: [np.copyto(to, c) for to, c in zip(kept, made.values(), strict=True)],
            plan_of,
            partial(md.pack(size, strategy=strategy), samples),
            partial(md.rows, plan, samples, max(0, len(plan) - 8), len(plan)),
        ],
        15,
    )
    numbers = (100 * plan.fill, planned, packed, packed / fresh, packed / warm, batch)
    print(f"{strategy:21s}{len(plan):6d}" + "".join(f"{number:9.2f}" for number in numbers))
    return packed


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=51_000)
    parser.add_argument("--seq-length", type=int, default=2048)
    parser.add_argument("--data", nargs=2, metavar=("FILE", "TOKENIZER"))
    parser.add_argument("--peers-python", default=sys.executable)
    args = parser.parse_args()
    size = args.seq_length
    samples = read_samples(*args.data, size) if args.data else drawn_samples(args.rows, size)
    lengths = samples["input_ids"].lengths
    print(f"{len(lengths)} samples, {lengths.sum()} tokens; >= {-(-lengths.sum() // size)} rows")
    print("strategy               rows   fill %  plan ms  pack ms  x fresh   x warm   8 rows")
    ours = {strategy: one_strategy(samples, size, strategy) for strategy in STRATEGIES}["tightest"]
    lists = [[row.tolist() for row in samples[name]] for name in ("input_ids", "labels")]
    (naive,) = in_turn([lambda: next_fit(*lists, size)], 1)
    print(f"\n{'pack beside':21s}  ms        x")
    print(f"{'naive lists, next-fit':21s}{naive:8.0f} {naive / ours:8.1f}")
    for name, found in peers(args.peers_python, samples, size).items():
        print(f"{name:21s}{found['ms']:8.0f} {found['ms'] / ours:8.1f}   {found['rows']} rows")

    print("\nplan alone, n samples      ms       MB")
    for count in (args.rows, 20 * args.rows):
        plan_of = partial(md.pack_plan, drawn_lengths(count, size), capacity=size)
        (planned,) = in_turn([plan_of], 3)
        tracemalloc.start()
        plan = plan_of()
        kept = tracemalloc.get_traced_memory()[0] / 1e6
        tracemalloc.stop()
        print(f"{len(plan.order):21d}{planned:8.1f} {kept:8.1f}")


if __name__ == "__main__":
    main()
