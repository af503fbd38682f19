"""Which blocks of keys each block of queries has to look at, so that attention computes no others.

Rows are laid end to end and cut into blocks of positions. A block of queries needs the blocks from
the start of the segment of its first token up to itself; what only holds other segments, or
padding, is in no pair.

    segment_ids   1 1 1 2 | 2 2 2 0 | 0 0 0 0        first   0 0 2
    block            0         1         2           pairs   (0 0) (1 0) (1 1)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfunc.data.check import integer
from mfunc.data.columns import Columns
from mfunc.data.compose import Apply, transform
from mfunc.data.packing.mask import runs, segments_array

SHORTEST = 512  # rows below gained nothing (bench/attention.py)
BLOCK = 64  # faster than 128 and 256 for Alpaca in rows of 2,048 (bench/attention.py --block)


def pays_by_blocks(seq_length: int) -> bool:
    """Tell whether rows of a length gain by attention by blocks, and can be cut into them.

    Example:
      >>> pays_by_blocks(2048), pays_by_blocks(256), pays_by_blocks(1000)
      (True, False, False)
    """
    return seq_length >= SHORTEST and seq_length % BLOCK == 0


def attention_blocks(
    segment_ids: Any, *, block: int = BLOCK, multiple: int | None = None, most: int | None = None
) -> dict[str, np.ndarray]:
    """Say which pairs of blocks hold a query and a key of one segment.

    Args:
      segment_ids: integers [..., S], each segment in one piece; 0 is padding.
      block: positions in a block, C. The number of all positions is a multiple of it.
      multiple: the number of pairs is rounded up to a multiple of it, so that a step is compiled
        for few numbers only; by default to 2, 3, 4, 6, 8, 12, 16, 24, ...
      most: the number of pairs is exactly this, so that a step is compiled once.

    Returns:
      `pairs` int32 [P, 2], (query block, key block), sorted; those that fill up are (0, -1).
      `first` int32 [blocks], the first block of keys that each block of queries needs.

    Raises:
      ValueError: the positions are no multiple of `block`; there are more than `most` pairs; a
        segment is in two places of a row.

    Laws:
      every allowed (query, key) is in exactly one pair; a block of padding is in none.

    Example:
      >>> row = [1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0, 0]
      >>> attention_blocks(row, block=4, multiple=1)["pairs"].tolist()
      [[0, 0], [1, 0], [1, 1]]
    """
    _check_settings("attention_blocks", block, multiple, most)
    segments = segments_array("attention_blocks", segment_ids)
    rows = segments.reshape(-1, segments.shape[-1])
    if rows.size % block:
        raise ValueError(
            f"attention_blocks: {rows.shape[0]} rows of {rows.shape[1]} are {rows.size} positions, "
            f"no multiple of block={block}; choose a block that divides them"
        )
    starts, lengths = runs(rows)
    _check_whole(rows, starts)
    own = np.repeat(starts, lengths).reshape(-1, block)  # where the segment of a token begins
    real = rows.reshape(-1, block) > 0
    count = len(own)
    here = np.arange(count)
    begins = own[here, real.argmax(axis=1)] // block
    first = np.where(real.any(axis=1), begins, here)
    each = np.where(real.any(axis=1), here - first + 1, 0)
    query = np.repeat(here, each)
    key = np.arange(len(query)) - np.repeat(np.cumsum(each) - each - first, each)
    pairs = np.stack([query, key], axis=1).astype(np.int32)
    wanted = _wanted(len(pairs), multiple, most)
    filling = np.tile(np.array([[0, -1]], np.int32), (wanted - len(pairs), 1))
    return {"pairs": np.concatenate([pairs, filling]), "first": first.astype(np.int32)}


def _check_whole(rows: np.ndarray, starts: np.ndarray) -> None:
    """Refuse a segment in two pieces: the first would not be seen from the second."""
    row, number = starts // rows.shape[1], rows.reshape(-1)[starts]
    real = number > 0
    found, counts = np.unique(np.stack([row[real], number[real]]), axis=1, return_counts=True)
    if (counts > 1).any():
        at, segment = found[:, counts.argmax()].tolist()
        raise ValueError(
            f"attention_blocks: row {at} has segment {segment} in {counts.max()} places; a segment "
            "is one piece"
        )


def _check_settings(where: str, block: int, multiple: int | None, most: int | None) -> None:
    """Refuse settings out of range, and two that exclude each other."""
    integer(where, "block", block, least=1)
    for name, value in (("multiple", multiple), ("most", most)):
        if value is not None:
            integer(where, name, value, least=1)
    if multiple is not None and most is not None:
        raise ValueError(f"{where}: multiple and most are given; give one of them")


def _wanted(pairs: int, multiple: int | None, most: int | None) -> int:
    """How many pairs there will be with those that fill up; never none."""
    if most is None:
        step = multiple or 2 ** max((pairs - 1).bit_length() - 2, 0)  # two between powers of two
        return max(-(-pairs // step), 1) * step
    if pairs > most:
        raise ValueError(
            f"attention_blocks: the batch has {pairs} pairs of blocks, but most={most}; "
            "give a larger number, or leave it out"
        )
    return most


@transform
def with_attention_blocks(
    block: int = BLOCK, *, multiple: int | None = None, most: int | None = None
) -> Apply:
    """Add `attention_blocks` to a batch, the last step before the model.

    Args:
      block: positions in a block.
      multiple: as for `attention_blocks`.
      most: as for `attention_blocks`.

    Returns:
      A transform of batches with `segment_ids` [B, S]. Its new entry belongs to the whole batch,
      not to rows: rows are taken and joined before.

    Raises:
      ValueError: there are no `segment_ids`, or as `attention_blocks`.

    Example:
      >>> batch = {"segment_ids": np.int32([[1, 1, 2, 0]])}
      >>> with_attention_blocks(2, multiple=1)(batch)["attention_blocks"]["pairs"].tolist()
      [[0, 0], [1, 1]]
    """
    _check_settings("with_attention_blocks", block, multiple, most)

    def apply(columns: Columns) -> Columns:
        if "segment_ids" not in columns:
            raise ValueError(
                "with_attention_blocks: no column 'segment_ids'; put pack(...) or "
                f"pad_to_divisor(...) before it; the columns are {', '.join(columns) or 'none'}"
            )
        found = attention_blocks(columns["segment_ids"], block=block, multiple=multiple, most=most)
        return {**columns, "attention_blocks": found}

    return apply
