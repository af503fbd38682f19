"""Pad a batch of samples to one length."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mfunc.data.check import integer, nearest
from mfunc.data.columns import (
    IGNORED_LABEL,
    Columns,
    num_rows,
    row_name,
    token_columns,
)
from mfunc.data.compose import Apply, transform
from mfunc.data.ragged import Ragged, copy_windows
from mfunc.dynamic import Dim


@transform
def pad_to_divisor(
    divisor: int | Dim,
    *,
    remainder: int = 0,
    max_length: int | None = None,
    pad_id: int = 0,
    ignore_id: int = IGNORED_LABEL,
    pads: Mapping[str, float] | None = None,
) -> Apply:
    """Pad samples to one length L', the smallest `divisor * k + remainder` that holds them all.

        in   input_ids [7 8 9] [4]                  divisor 4
        out  input_ids [7 8 9 0] [4 0 0 0]          labels padded with -100, others with 0
             segment_ids [1 1 1 0] [1 0 0 0]        position_ids [0 1 2 0] [0 0 0 0]

    Few distinct lengths mean few compilations of a step, or one with a dynamic length. On batches
    (`map(pad_to_divisor(2, remainder=1), batch(8)(samples))`) these are dynamic batches: each is as
    long as its longest sample. `batch_by_length` puts samples of like length together.

    Args:
      divisor: L' is a multiple of it, plus `remainder`; `divisor == max_length` is a fixed length.
        Or the `Dim` that a step is compiled for, with its remainder, least and largest size: then
        data and graph are of one object and cannot disagree.
      remainder: 0..divisor - 1; 1 suits models that take S + 1 tokens.
      max_length: refuse longer samples; itself of the form `divisor * k + remainder`.
      pad_id: token written where `segment_ids` is 0.
      ignore_id: label of untrained tokens and of padding, for programs in which it is not -100. All
        of mfunc takes -100.
      pads: what to write into further columns, `{"weights": 1}`; others get 0.

    Returns:
      A transform to arrays [n, L'] with the names that `pack` gives: the Ragged columns, and
      `segment_ids`, `position_ids` int32. Columns without Ragged ones are returned as they are.

    Raises:
      ValueError: when built, for a setting out of range, or one that the `Dim` has; on a sample
        longer than `max_length`, a column of `pads` that is absent, or a pad that its type cannot
        hold.

    Laws:
      idempotent; L' is minimal; the tokens of a row are its sample, then padding.

    Example:
      >>> from mfunc.data import Ragged
      >>> padded = pad_to_divisor(4)({"input_ids": Ragged.from_rows([[7, 8, 9], [4]])})
      >>> padded["input_ids"].tolist(), padded["segment_ids"].tolist()
      ([[7, 8, 9, 0], [4, 0, 0, 0]], [[1, 1, 1, 0], [1, 0, 0, 0]])

    Source:
      MindFormers 1.3 dynamic shape (`divisor`, `remainder`, `pad_token_id` of `train_dataset`,
      `ignore_token_id`), which pads labels with 0 and does not round at all for remainder 0.
    """
    length = _length(divisor, remainder, max_length)
    integer("pad_to_divisor", "pad_id", pad_id, least=0, most=2**31 - 1)
    integer("pad_to_divisor", "ignore_id", ignore_id, least=-(2**31), most=2**31 - 1)
    fills = {"input_ids": pad_id, "labels": ignore_id, **_further(pads or {})}

    def apply(columns: Columns) -> Columns:
        num_rows("pad_to_divisor", columns)
        if columns and not any(isinstance(column, Ragged) for column in columns.values()):
            return dict(columns)
        ragged = token_columns("pad_to_divisor", columns)
        lengths = ragged["input_ids"].lengths
        longest = int(lengths.max(initial=0))
        if length.max is not None and longest > length.max:
            row = row_name(columns, int(lengths.argmax()))
            raise ValueError(
                f"pad_to_divisor: {row} has {longest} tokens but max_length={length.max}; "
                "put truncate(...) before it"
            )
        # Samples without a token take no place, unless a graph has a least size.
        shared = isinstance(divisor, Dim)
        width = length.at_least(longest) if longest or shared else remainder
        return _padded(columns, _relabelled(ragged, ignore_id), width, fills)

    return apply


def _length(divisor: int | Dim, remainder: int, max_length: int | None) -> Dim:
    """The sizes that a batch may have."""
    where = "pad_to_divisor"
    if isinstance(divisor, Dim):
        if remainder or max_length is not None:
            raise ValueError(f"{where}: {divisor} has its own remainder and max; leave them out")
        if divisor.max is not None and not divisor.fits(divisor.max):
            raise ValueError(f"{where}: max={divisor.max} is not a size of {divisor}")
        return divisor
    integer(where, "divisor", divisor, least=1)
    integer(where, "remainder", remainder, least=0, most=divisor - 1)
    if max_length is not None:
        integer(where, "max_length", max_length, least=1)
        if max_length % divisor != remainder:
            raise ValueError(
                f"{where}: max_length={max_length} is not {divisor} * k + {remainder}; "
                f"the next below is {(max_length - remainder) // divisor * divisor + remainder}"
            )
    return Dim(divisor=divisor, remainder=remainder, max=max_length)


def _further(pads: Mapping[str, float]) -> Mapping[str, float]:
    """Pads of columns that have no setting of their own."""
    for name, value in pads.items():
        own = {"input_ids": "pad_id", "labels": "ignore_id"}.get(name)
        if own:
            raise ValueError(f"pad_to_divisor: the pad of {name!r} is the setting {own}")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"pad_to_divisor: the pad of {name!r} must be a number, got {value!r}")
    return pads


def _relabelled(ragged: dict[str, Ragged], ignore_id: int) -> dict[str, Ragged]:
    """The columns with another label for what is not trained."""
    if ignore_id == IGNORED_LABEL or "labels" not in ragged:
        return ragged
    labels = ragged["labels"]
    values = np.where(labels.values == IGNORED_LABEL, np.int32(ignore_id), labels.values)
    return {**ragged, "labels": Ragged(values, labels.offsets)}


def fill_value(name: str, pad_id: int) -> int:
    """What padding is in a column: `pad_id` for tokens, the ignored label, 0 for all else."""
    return {"input_ids": pad_id, "labels": IGNORED_LABEL}.get(name, 0)


def _padded(
    columns: Columns, ragged: dict[str, Ragged], width: int, fills: Mapping[str, float]
) -> Columns:
    """Arrays [n, width] in place of the Ragged columns."""
    made = {"segment_ids", "position_ids"}
    if clash := made & columns.keys():
        raise ValueError(
            f"pad_to_divisor: it makes column {min(clash)!r} itself; rename or remove it"
        )
    if absent := sorted(fills.keys() - ragged.keys() - {"labels"}):
        raise ValueError(
            f"pad_to_divisor: pads names {absent[0]!r}, but the Ragged columns are "
            f"{', '.join(ragged)}{nearest(absent[0], ragged)}"
        )
    out = dict(columns)
    lengths = ragged["input_ids"].lengths
    at = np.arange(len(lengths)) * width
    for name, column in ragged.items():
        fill = fills.get(name, 0)
        if not _holds(column.dtype, fill):
            raise ValueError(
                f"pad_to_divisor: {name!r} is {column.dtype}, which cannot hold {fill}"
            )
        array = np.full((len(lengths), width), fill, column.dtype)
        copy_windows(array.reshape(-1), at, column.values, column.starts, lengths)
        out[name] = array
    places = np.arange(width, dtype=np.int32)
    real = places < lengths[:, None]
    return {**out, "segment_ids": real.astype(np.int32), "position_ids": places * real}


def _holds(dtype: np.dtype, value: float) -> bool:
    """Whether a type has this very number, or, if it is of fractions, one near it."""
    if dtype.kind == "f":
        return True
    if dtype.kind == "b":
        return value in (0, 1)
    limits = np.iinfo(dtype)
    return limits.min <= value <= limits.max and value == int(value)
