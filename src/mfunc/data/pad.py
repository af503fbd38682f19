"""Pad a batch of samples to one length."""

from __future__ import annotations

import numpy as np

from mfunc.data.check import integer
from mfunc.data.columns import (
    IGNORED_LABEL,
    Columns,
    num_rows,
    row_name,
    token_columns,
)
from mfunc.data.compose import Apply, transform
from mfunc.data.ragged import Ragged, copy_windows


@transform
def pad_to_divisor(
    divisor: int, *, remainder: int = 0, max_length: int | None = None, pad_id: int = 0
) -> Apply:
    """Pad samples to one length L', the smallest `divisor * k + remainder` that holds them all.

        in   input_ids [7 8 9] [4]                  divisor 4
        out  input_ids [7 8 9 0] [4 0 0 0]          labels padded with -100, others with 0
             segment_ids [1 1 1 0] [1 0 0 0]        position_ids [0 1 2 0] [0 0 0 0]

    Few distinct lengths mean few compilations of a step, or one with a dynamic length.

    Args:
      divisor: L' is a multiple of it, plus `remainder`.
      remainder: 0..divisor - 1; 1 suits models that take S + 1 tokens.
      max_length: refuse longer samples; itself of the form `divisor * k + remainder`.
      pad_id: token written where `segment_ids` is 0.

    Returns:
      A transform to arrays [n, L'] with the names that `pack` gives: the Ragged columns, and
      `segment_ids`, `position_ids` int32. Columns without Ragged ones are returned as they are.

    Raises:
      ValueError: when built, for a setting out of range; on a sample longer than `max_length`.

    Laws:
      idempotent; L' is minimal; the tokens of a row are its sample, then padding.

    Example:
      >>> from mfunc.data import Ragged
      >>> padded = pad_to_divisor(4)({"input_ids": Ragged.from_rows([[7, 8, 9], [4]])})
      >>> padded["input_ids"].tolist(), padded["segment_ids"].tolist()
      ([[7, 8, 9, 0], [4, 0, 0, 0]], [[1, 1, 1, 0], [1, 0, 0, 0]])

    Source:
      MindFormers 1.3 dynamic shape (`divisor`, `remainder` of `train_dataset`).
    """
    integer("pad_to_divisor", "divisor", divisor, least=1)
    integer("pad_to_divisor", "remainder", remainder, least=0, most=divisor - 1)
    integer("pad_to_divisor", "pad_id", pad_id, least=0)
    if max_length is not None:
        integer("pad_to_divisor", "max_length", max_length, least=1)
        if max_length % divisor != remainder:
            raise ValueError(
                f"pad_to_divisor: max_length={max_length} is not {divisor} * k + {remainder}; "
                f"the next below is {(max_length - remainder) // divisor * divisor + remainder}"
            )

    def apply(columns: Columns) -> Columns:
        num_rows("pad_to_divisor", columns)
        if columns and not any(isinstance(column, Ragged) for column in columns.values()):
            return dict(columns)
        ragged = token_columns("pad_to_divisor", columns)
        lengths = ragged["input_ids"].lengths
        longest = int(lengths.max(initial=0))
        if max_length is not None and longest > max_length:
            row = row_name(columns, int(lengths.argmax()))
            raise ValueError(
                f"pad_to_divisor: {row} has {longest} tokens but max_length={max_length}; "
                "put truncate(...) before it"
            )
        width = longest + (remainder - longest) % divisor
        return _padded(columns, ragged, width, pad_id)

    return apply


def fill_value(name: str, pad_id: int) -> int:
    """What padding is in a column: `pad_id` for tokens, the ignored label, 0 for all else."""
    return {"input_ids": pad_id, "labels": IGNORED_LABEL}.get(name, 0)


def _padded(columns: Columns, ragged: dict[str, Ragged], width: int, pad_id: int) -> Columns:
    """Arrays [n, width] in place of the Ragged columns."""
    made = {"segment_ids", "position_ids"}
    if clash := made & columns.keys():
        raise ValueError(
            f"pad_to_divisor: it makes column {min(clash)!r} itself; rename or remove it"
        )
    out = dict(columns)
    lengths = ragged["input_ids"].lengths
    at = np.arange(len(lengths)) * width
    for name, column in ragged.items():
        array = np.full((len(lengths), width), fill_value(name, pad_id), column.dtype)
        copy_windows(array.reshape(-1), at, column.values, column.starts, lengths)
        out[name] = array
    places = np.arange(width, dtype=np.int32)
    real = places < lengths[:, None]
    return {**out, "segment_ids": real.astype(np.int32), "position_ids": places * real}
