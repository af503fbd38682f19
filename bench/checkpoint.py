"""Checkpoints in numbers: a save beside writing the same bytes, and what of it a step waits for.

python bench/checkpoint.py [--megabytes 500] [--rounds 3] [--folder runs]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

import mfunc as mf


def state_of(megabytes: int, leaves: int = 60) -> dict[str, Any]:
    """A state of training of about this size: parameters, and twice as much of AdamW."""
    rows = max(1, megabytes * 1_000_000 // (leaves * 4 * 1024))
    rng = np.random.default_rng(0)
    made = [ms.Tensor(rng.standard_normal((rows, 1024), np.float32)) for _ in range(leaves)]
    third = leaves // 3
    moments = {"mean": tuple(made[:third]), "square": tuple(made[third : 2 * third])}
    return {"params": tuple(made[2 * third :]), "optimizer": moments}


def plain_write(folder: Path, blocks: list[memoryview]) -> None:
    """The same bytes into one file, and on to the disk: what `dd conv=fsync` does."""
    path = folder / "plain"
    with path.open("wb") as file:
        for block in blocks:
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of a call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def save_times(megabytes: int, rounds: int, folder: Path) -> dict[str, float]:
    """Medians of runs that alternate, in seconds; the size in MB.

    `write` is the plain write; `save` the whole save; `wait` the part of a save in the background
    that a step waits for; `restore` a restore.
    """
    state = state_of(megabytes)
    blocks = [memoryview(leaf.asnumpy()).cast("B") for leaf in mf.tree.leaves(state)]
    run = mf.Checkpointer(folder / "checkpoints", keep_last=1)
    times: dict[str, list[float]] = {"write": [], "save": [], "wait": [], "restore": []}
    for i in range(rounds):
        step = {"step": 2 * i + 1}
        times["write"].append(seconds(lambda: plain_write(folder, blocks)))
        times["save"].append(seconds(lambda: mf.checkpoint.save_state(run, state, step)))  # noqa: B023
        times["restore"].append(seconds(lambda: mf.checkpoint.restore(run, state)))
        with mf.checkpoint.background(run) as save:
            times["wait"].append(seconds(lambda: save(state, {"step": 2 * i + 2})))  # noqa: B023
    size = sum(block.nbytes for block in blocks) / 1e6
    return {"megabytes": size} | {name: statistics.median(mine) for name, mine in times.items()}


def table(measured: dict[str, float]) -> None:
    """Print what `save_times` found."""
    size = measured["megabytes"]
    print(f"\n{size:,.0f} MB of state   (median seconds, MB/s, beside a plain write)")
    for name, text in (
        ("write", "plain write and fsync"),
        ("save", "save, checksummed"),
        ("wait", "in the background: a step waits"),
        ("restore", "restore, checked"),
    ):
        took = measured[name]
        ratio = took / measured["write"]
        print(f"{text:>34} {took:>8.2f} {size / took:>9,.0f} {ratio:>7.2f} x")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; by default a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        table(save_times(given.megabytes, given.rounds, Path(folder)))
