"""What packing is made of: samples that fit, a plan of them, and rows built from the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mfunc.data.check import integer
from mfunc.data.columns import ORIGIN, Columns, row_name, token_columns
from mfunc.data.compose import Counts
from mfunc.data.packing.cut import truncate
from mfunc.data.packing.mask import segments_of
from mfunc.data.packing.pad import fill_value
from mfunc.data.packing.plan import Plan, pack_plan, round_up, usable
from mfunc.data.ragged import Ragged, copy_windows, group, offsets_of

MADE = ("segment_ids", "position_ids", "token_mask")
OVERLONG = {"error": "error", "drop": "drop", "truncate": "tail", "split": "split"}


class Packing(NamedTuple):
    """What `pack` does, step by step.

    Attributes:
      shorten: columns -> samples that fit into a row, and what was cut.
      plan: the lengths of samples -> a plan.
      build: (plan, samples, start, stop) -> these rows.
    """

    shorten: Callable[[Columns], tuple[Columns, Counts]]
    plan: Callable[[np.ndarray], Plan]
    build: Callable[[Plan, Columns, int, int], Columns]


def packing(
    seq_length: int,
    *,
    strategy: str,
    overlong: str,
    max_segments: int | None,
    pad_id: int,
    capacity: int | None,
    isolate: bool,
    segment_multiple: int,
    seed: Any,
) -> Packing:
    """Take `pack` apart for who builds only some of its rows; its settings, already checked."""
    most = seq_length if capacity is None else capacity
    limit = usable("pack", most, segment_multiple)
    whole = strategy != "concat"
    cut = truncate(limit, policy=OVERLONG[overlong]) if whole and overlong != "error" else None

    def shorten(columns: Columns) -> tuple[Columns, Counts]:
        given = _packable(columns)
        if whole and overlong == "error":
            _refuse_overlong(columns, limit, seq_length)
        return cut.with_counts(given) if cut else (given, {})

    def plan(lengths: np.ndarray) -> Plan:
        return pack_plan(
            lengths, capacity=most, strategy=strategy, max_segments=max_segments,
            segment_multiple=segment_multiple, seed=seed,
        )  # fmt: skip

    def build(plan: Plan, samples: Columns, start: int, stop: int) -> Columns:
        built: dict[str, Any] = {"seq_length": seq_length, "pad_id": pad_id, "isolate": isolate}
        return rows(plan, samples, start, stop, **built)

    return Packing(shorten, plan, build)


def rows(
    plan: Plan,
    columns: Mapping[str, Any],
    start: int,
    stop: int,
    *,
    seq_length: int | None = None,
    pad_id: int = 0,
    isolate: bool = True,
) -> Columns:
    """Build some rows of a plan: a batch costs only itself, however large the data.

    Args:
      plan: from `pack_plan` on the lengths of these columns.
      columns: the samples; their Ragged columns are built, others are left out.
      start: first row.
      stop: the row after the last.
      seq_length: S, tokens in a built row; by default the plan's capacity.
      pad_id: token written where there is no sample.
      isolate: a segment per sample, or if false one per row.

    Returns:
      Columns [stop - start, S] as `pack` gives them.

    Raises:
      ValueError: if the plan has no such rows, or is not of these columns.

    Laws:
      `rows(plan, x, 0, len(plan))` is the concatenation of `rows(plan, x, i, i + 1)`.

    Example:
      >>> from mfunc.data import Ragged
      >>> samples = {"input_ids": Ragged.from_rows([[1, 2], [3, 4, 5], [6]])}
      >>> plan = pack_plan(samples["input_ids"].lengths, capacity=3)
      >>> rows(plan, samples, 1, 2)["input_ids"].tolist()
      [[1, 2, 6]]
    """
    width = plan.capacity if seq_length is None else seq_length
    integer("rows", "seq_length", width, least=plan.capacity)
    if not 0 <= start <= stop <= len(plan):
        raise ValueError(f"rows: {start}..{stop} is not within the plan's {len(plan)} rows")
    _refuse_made("rows", columns)
    ragged = {name: column for name, column in columns.items() if isinstance(column, Ragged)}
    bounds = plan.row_starts[start : stop + 1]
    pieces = slice(bounds[0], bounds[-1])
    samples, begins, lengths = plan.order[pieces], plan.begins[pieces], plan.lengths[pieces]
    starts = {n: _starts(plan, samples, begins, lengths, n, c) for n, c in ragged.items()}
    in_row, row_ends = np.diff(bounds), bounds - bounds[0]
    places = round_up(lengths, plan.segment_multiple)
    ends = offsets_of(places)
    at = ends[:-1] + np.repeat(np.arange(len(in_row)) * width - ends[row_ends[:-1]], in_row)
    padded = np.diff(offsets_of(lengths)[row_ends]) < width
    groups = group(lengths)

    def windows(values: np.ndarray, starts: np.ndarray, fill: int) -> np.ndarray:
        out = np.empty((len(in_row), width), values.dtype)
        out[padded] = fill
        copy_windows(out.reshape(-1), at, values, starts, lengths, groups)
        return out

    built = {n: windows(c.values, starts[n], fill_value(n, pad_id)) for n, c in ragged.items()}
    if plan.segment_multiple > 1:
        ones = np.ones(lengths.max(initial=0), np.int32)
        built["token_mask"] = windows(ones, np.zeros_like(lengths), 0)
    if not isolate:
        places, in_row = np.diff(ends[row_ends]), np.ones_like(in_row)
    return {**built, **segments_of(places, in_row, width)}


def _packable(columns: Mapping[str, Any]) -> dict[str, Ragged]:
    """The token columns, if there is nothing else that packing would lose."""
    ragged = token_columns("pack", columns)
    _refuse_made("pack", columns)
    for name in columns:
        if name not in ragged and name != ORIGIN:
            raise ValueError(
                f"pack: column {name!r} ({type(columns[name]).__name__}) has one value per "
                "sample and cannot be packed; remove it, or make it a Ragged, one value per token"
            )
    return ragged


def _refuse_made(where: str, columns: Mapping[str, Any]) -> None:
    """A column of a name that packing writes itself would be lost."""
    for name in MADE:
        if name in columns:
            raise ValueError(f"{where}: pack makes column {name!r} itself; rename or remove it")


def _refuse_overlong(columns: Mapping[str, Any], limit: int, seq_length: int) -> None:
    lengths = columns["input_ids"].lengths
    if len(lengths) and lengths.max() > limit:
        row = int((lengths > limit).argmax())
        bound = f"seq_length={seq_length}" if limit == seq_length else f"capacity={limit}"
        raise ValueError(
            f"pack: {row_name(columns, row)} has {lengths[row]} tokens but {bound}; "
            'put truncate(...) before pack or pass overlong="drop", "truncate" or "split"'
        )


def _starts(
    plan: Plan,
    samples: np.ndarray,
    begins: np.ndarray,
    lengths: np.ndarray,
    name: str,
    column: Ragged,
) -> np.ndarray:
    """Where the pieces begin in a column's values, all of which it must hold."""
    if len(samples) and (
        samples.max() >= len(column)
        or (column.offsets[samples] + begins + lengths > column.offsets[samples + 1]).any()
    ):
        raise ValueError(f"rows: {plan!r} was made for other samples than {name!r} {column!r}")
    return column.offsets[samples] + begins
