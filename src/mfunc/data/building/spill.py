"""Samples on disk, and rows made of them: nothing is in memory but the lengths and one window.

The values are read, not mapped: a pack takes samples from all over the file, and the pages of a
map that have been looked at count as memory until the map is closed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from mfunc.data.columns import Columns
from mfunc.data.compose import Counts, Transform
from mfunc.data.packing.plan import Plan, pack_plan
from mfunc.data.packing.steps import rows
from mfunc.data.ragged import Ragged, offsets_of
from mfunc.data.storage import indexed

WINDOW = 1 << 19  # tokens of one column in a window
Windows = Iterator[tuple[Columns, Counts, int]]  # columns, what was counted, rows in all


def windows(folder: Path) -> Windows:
    """The samples of the set `{folder}/samples` as they are, some at a time."""
    counts, columns = _samples(folder)
    total = len(next(iter(columns.values())))
    ends = max((c.offsets for c in columns.values()), key=lambda offsets: offsets[-1])
    start = 0
    with _opened(folder, columns) as files:
        while start < total or not start:
            most = int(np.searchsorted(ends, ends[start] + WINDOW, side="right")) - 1
            stop = min(max(most, start + 1), total)
            made = {}
            for name, column in columns.items():
                offsets = column.offsets[start : stop + 1]
                values = _gather(files[name], offsets[:1], offsets[-1:] - offsets[:1])
                made[name] = Ragged(values, offsets - offsets[0])
            yield made, counts, total
            counts, start = {}, max(stop, 1)


def packed_windows(folder: Path, pack: Transform) -> Windows:
    """The rows that `pack` makes of the samples, some at a time; the plan is one for all."""
    counts, columns = _samples(folder)
    if "input_ids" not in columns:
        raise ValueError(f"pack: needs input_ids, got {', '.join(columns)}; pairs are not packed")
    given = pack.settings
    built = {name: given[name] for name in ("seq_length", "pad_id", "isolate")}
    planned = {n: given[n] for n in ("strategy", "max_segments", "segment_multiple", "seed")}
    ids, width = columns["input_ids"], given["seq_length"]
    plan = pack_plan(ids.lengths, capacity=given["capacity"] or width, **planned)
    counts = {
        **counts,
        "pack.samples": len(ids),
        "pack.empty": int((ids.lengths == 0).sum()),
        "pack.rows": len(plan),
        "pack.segments": len(plan.order),
        "pack.tokens": int(plan.lengths.sum()),
        "pack.slots": len(plan) * width,
    }
    step = max(1, WINDOW // width)
    with _opened(folder, columns) as files:
        for start in range(0, max(len(plan), 1), step):
            part, begins = _part(plan, ids.offsets, start, min(start + step, len(plan)))
            ends = offsets_of(part.lengths)
            pieces = {n: Ragged(_gather(f, begins, part.lengths), ends) for n, f in files.items()}
            yield rows(part, pieces, 0, len(part), **built), counts, len(plan)
            counts = {}


def _samples(folder: Path) -> tuple[Counts, dict[str, Ragged]]:
    """What was counted when they were made, and their columns."""
    told = indexed.sidecar(folder / "samples")
    names = [name for name in told["columns"] if name != "attention_mask"]
    return dict(told["counts"]), indexed.read(folder / "samples", columns=names)


@contextmanager
def _opened(folder: Path, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The files of some columns' values."""
    with ExitStack() as stack:
        paths = {name: indexed.files_of(folder / "samples", [name])[0] for name in names}
        yield {n: stack.enter_context(path.open("rb", buffering=0)) for n, path in paths.items()}


def _part(plan: Plan, offsets: np.ndarray, start: int, stop: int) -> tuple[Plan, np.ndarray]:
    """Some rows as a plan for their pieces alone, and where these begin in the file."""
    bounds = plan.row_starts[start : stop + 1]
    at = slice(bounds[0], bounds[-1])
    lengths, order = plan.lengths[at], np.arange(bounds[-1] - bounds[0])
    made = attrs.evolve(
        plan,
        order=order,
        row_starts=bounds - bounds[0],
        begins=np.zeros_like(order),
        lengths=lengths,
    )
    return made, offsets[plan.order[at]] + plan.begins[at]


def _gather(file: Any, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Stretches of the int32 values of a file, end to end."""
    out = np.empty(int(lengths.sum()), np.int32)
    view, at = out.data.cast("B"), 0
    for begin, size in zip((4 * begins).tolist(), (4 * lengths).tolist(), strict=True):
        if os.preadv(file.fileno(), [view[at : at + size]], begin) != size:
            raise ValueError(f"build_dataset: {file.name} was cut off while it was read")
        at += size
    return out
