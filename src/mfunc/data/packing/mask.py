"""Attention masks, positions and kernel boundaries of packed rows.

All are functions of `segment_ids` alone (0 is padding, documents are 1, 2, ... in row order) and
never of token ids: an eos inside a chat template is not a boundary.

    segment_ids   1 1 1 2 2 0        mask   1 . . . . .      the zigzag: causal within each
    position_ids  0 1 2 0 1 0               1 1 . . . .      document, nothing across
    actual_seq_len  3 5 6                   1 1 1 . . .
                                            . . . 1 . .
                                            . . . 1 1 .
                                            . . . . . 1
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfunc.data.ragged import offsets_of


def segment_mask(segment_ids: Any) -> np.ndarray:
    """Which key every query may attend to: the same segment, not later than itself.

    Padding is one more segment: it attends to itself, so that no row of the mask is empty (a
    softmax over nothing is NaN) and the mask equals what `actual_seq_len` tells a kernel.

    Args:
      segment_ids: integers [..., S].

    Returns:
      bool [..., S, S], True at [..., query, key] where attention is allowed.

    Laws:
      equals `(segment[q] == segment[k]) & (k <= q)` at every place; block-diagonal.

    Example:
      >>> segment_mask([1, 1, 2, 0]).astype(int).tolist()
      [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]

    Source:
      MindSpeed-LLM v2.1.0, multi-sample pack fine-tuning ("zigzag" mask).
    """
    segments = segments_array("segment_mask", segment_ids)
    size = segments.shape[-1]
    flat = segments.reshape(-1, size)
    mask = np.zeros((len(flat), size, size), bool)
    starts, lengths = runs(flat)
    triangle = np.tri(int(lengths.max(initial=0)), dtype=bool)
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        row, a = divmod(start, size)
        mask[row, a : a + length, a : a + length] = triangle[:length, :length]
    return mask.reshape(*segments.shape, size)


zigzag_mask = segment_mask


def position_ids(segment_ids: Any) -> np.ndarray:
    """The place of every token within its own document; 0 in padding.

    Args:
      segment_ids: integers [..., S].

    Returns:
      int32 [..., S].

    Laws:
      equals the number of earlier tokens of the same document, at every token.

    Example:
      >>> position_ids([1, 1, 1, 2, 2, 0, 0]).tolist()
      [0, 1, 2, 0, 1, 0, 0]
    """
    segments = segments_array("position_ids", segment_ids)
    starts, lengths = runs(segments.reshape(-1, segments.shape[-1]))
    positions = np.arange(segments.size, dtype=np.int32)
    positions -= np.repeat(starts.astype(np.int32), lengths)
    padding = segments.reshape(-1)[starts] == 0
    for start, length in zip(starts[padding].tolist(), lengths[padding].tolist(), strict=True):
        positions[start : start + length] = 0
    return positions.reshape(segments.shape)


def actual_seq_len(segment_ids: Any) -> np.ndarray:
    """Cumulative ends of the segments, as kernels for variable lengths (TND layout) take them.

    Rows are laid end to end, so the ends of row b are offset by b * S. The padding of a row is at
    most one segment, after its documents; it is never one segment per token.

    Args:
      segment_ids: integers [S] or [B, S], padding only behind the documents of a row.

    Returns:
      int32 [segments], increasing; the last is the number of all tokens.

    Raises:
      ValueError: if padding stands before a document, or a document is in two places of a row.

    Example:
      >>> actual_seq_len([1, 1, 2, 2, 2, 0, 0]).tolist()
      [2, 5, 7]
      >>> actual_seq_len([[1, 1, 2, 0], [1, 1, 1, 1]]).tolist()
      [2, 3, 4, 8]

    Source:
      MindSpeed-LLM v2.1.0 `actual_seq_len`, with its padding merged into one segment.
    """
    segments = segments_array("actual_seq_len", segment_ids)
    flat = segments.reshape(-1, segments.shape[-1])
    later, earlier = flat[:, 1:], flat[:, :-1]
    wrong = (later != earlier) & (later != 0) & ((later < earlier) | (earlier == 0))
    if wrong.any():
        row, at = np.argwhere(wrong)[0].tolist()
        raise ValueError(
            f"actual_seq_len: row {row} has segment {later[row, at]} after {earlier[row, at]} at "
            f"position {at + 1}; documents must be 1, 2, ... in order, then padding (0)"
        )
    starts, lengths = runs(flat)
    return (starts + lengths).astype(np.int32)


def runs(segment_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start (in the flat array) and length of every run of one segment id; rows end a run."""
    edge = np.empty(segment_ids.shape, bool)
    edge[:, :1] = True
    np.not_equal(segment_ids[:, 1:], segment_ids[:, :-1], out=edge[:, 1:])
    starts = np.flatnonzero(edge)
    return starts, np.diff(starts, append=segment_ids.size)


def segments_of(lengths: np.ndarray, in_row: np.ndarray, width: int) -> dict[str, np.ndarray]:
    """`segment_ids` and `position_ids` of rows, int32 [rows, width], from the segments' lengths.

    Segments are numbered 1, 2, ... in their row; what is left of a row is 0, and so its positions.
    `in_row` says how many segments a row has.
    """
    bounds = offsets_of(in_row)
    padding = bounds[1:] + np.arange(len(in_row))  # the last run of every row is its padding
    ends = offsets_of(lengths)
    used = np.diff(ends[bounds])
    filled = np.insert(lengths, bounds[1:], width - used)
    first = np.repeat(padding - in_row, in_row + 1)
    numbers = np.arange(1, len(filled) + 1) - first
    numbers[padding] = 0
    begins = offsets_of(filled)[:-1] - np.repeat(np.arange(len(in_row)) * width, in_row + 1)
    shape = (len(in_row), width)
    segment_ids = np.repeat(numbers.astype(np.int32), filled).reshape(shape)
    position_ids = np.repeat(begins.astype(np.int32), filled).reshape(shape)
    np.subtract(np.arange(width, dtype=np.int32), position_ids, out=position_ids)
    for row in np.flatnonzero(used < width).tolist():
        position_ids[row, used[row] :] = 0
    return {"segment_ids": segment_ids, "position_ids": position_ids}


def segments_array(where: str, segment_ids: Any) -> np.ndarray:
    """As an integer array with a position axis of at least one."""
    segments = np.asarray(segment_ids)
    if not segments.ndim or segments.dtype.kind not in "iu" or not segments.shape[-1]:
        raise ValueError(
            f"{where}: segment_ids must be integers [..., S], S >= 1, "
            f"got {segments.dtype} of shape {segments.shape}"
        )
    return segments
