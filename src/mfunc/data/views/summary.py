"""A set of tokens in numbers: rows, samples, lengths, what is trained, how much is padding."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from mfunc.data.check import integer
from mfunc.data.columns import IGNORED_LABEL, Columns
from mfunc.data.compose import counted_chunks
from mfunc.data.ragged import Ragged
from mfunc.data.views.token_set import token_set

PERCENTILES = (50, 90, 99)


@attrs.frozen(eq=False)
class Statistics:
    """What `statistics` found; `str(statistics)` is a page.

    Args:
      lengths: tokens of every sample, int64 [samples]; a row is one sample, or as many as its mask
        tells apart.
      trained: those of them that are trained, int64 [samples].
      segments: samples in every row, int64 [rows].
      slots: places of all rows, padding among them.
    """

    lengths: np.ndarray
    trained: np.ndarray
    segments: np.ndarray
    slots: int

    @property
    def tokens(self) -> int:
        """Tokens of all samples."""
        return int(self.lengths.sum())

    @property
    def fill(self) -> float:
        """Tokens a place; 1 where there is no place."""
        return self.tokens / self.slots if self.slots else 1.0

    @property
    def trained_share(self) -> float:
        """Trained tokens a token."""
        return int(self.trained.sum()) / max(self.tokens, 1)

    def percentile(self, percent: float) -> int:
        """The length that so many percent of the samples do not exceed."""
        if not len(self.lengths):
            return 0
        return int(np.percentile(self.lengths, percent, method="inverted_cdf"))

    def __str__(self) -> str:
        rows, samples = len(self.segments), len(self.lengths)
        table = [
            ("rows", rows, ""),
            ("samples", samples, f"{samples / max(rows, 1):.2f} a row, {self._most()} at most"),
            ("tokens", self.tokens, f"{self.fill:.2%} of {self.slots:,} places"),
            ("trained", int(self.trained.sum()), f"{self.trained_share:.2%} of the tokens"),
        ]
        if untrained := int((self.trained == 0).sum()):
            table.append(("untrained", untrained, "samples without a trained token"))
        if empty := int((self.segments == 0).sum()):
            table.append(("empty", empty, "rows without a token"))
        width = max(len(f"{n:,}") for _, n, _ in table)
        lines = [f"{name:<10} {n:>{width},}  {note}".rstrip() for name, n, note in table]
        return "\n".join([*lines, f"{'length':<10} {self._spread()}"])

    def _most(self) -> int:
        return int(self.segments.max(initial=0))

    def _spread(self) -> str:
        lengths = self.lengths if len(self.lengths) else np.zeros(1, np.int64)
        parts = [f"shortest {lengths.min():,}", f"mean {lengths.mean():,.1f}"]
        parts += [f"{p} % within {self.percentile(p):,}" for p in PERCENTILES]
        return ", ".join([*parts, f"longest {lengths.max():,}"])


def statistics(columns: Any, *, pad_id: int | None = None) -> Statistics:
    """Count the samples of a set of tokens.

        input_ids     7 8 9 6    4 5 0 0        samples of 3, 1 and 2 tokens, in 2 rows;
        segment_ids   1 1 1 2    1 1 0 0        6 of 8 places are filled

    A place is padding where the mask is 0; and at the end of a row where `pad_id` stands and is not
    trained. Programs that pad without a mask are only understood with it.

    Args:
      columns: `input_ids`, and perhaps `labels` and `segment_ids` or `attention_mask`: Ragged or
        [n, S]; or an iterable of such columns, one in memory at a time. Without labels every token
        is trained. A mask of 0 and 1 makes a row one sample.
      pad_id: token of padding, if it is to be told by that.

    Returns:
      `Statistics`, 16 bytes a sample.

    Raises:
      ValueError: if there are no ids, or columns do not agree.

    Laws:
      the sum over chunks is that of the chunks joined; `tokens <= slots`; what `pack` made of
      samples has their lengths, in another order.

    Example:
      >>> packed = {"input_ids": np.array([[7, 8, 9, 6], [4, 5, 0, 0]]),
      ...           "segment_ids": np.array([[1, 1, 1, 2], [1, 1, 0, 0]])}
      >>> found = statistics(packed)
      >>> found.lengths.tolist(), found.segments.tolist(), found.fill
      ([3, 1, 2], [2, 1], 0.75)
    """
    if pad_id is not None:
        integer("statistics", "pad_id", pad_id, least=0)
    parts = [_count(chunk, pad_id) for chunk, _ in counted_chunks(columns)]
    none = np.zeros(0, np.int64)
    joined = [np.concatenate([none, *(part[i] for part in parts)]) for i in range(3)]
    return Statistics(joined[0], joined[1], joined[2], sum(part[3] for part in parts))


def segments(columns: Columns, pad_id: int | None = None) -> Ragged:
    """What `statistics` takes for samples: 1, 2, ... in a row; 0 is padding."""
    _, side = token_set("statistics", columns)
    ids, mask = side["ids"], side.get("mask")
    flat = np.ones(len(ids.flat), np.int64) if mask is None else mask.flat.astype(np.int64)
    offsets = ids.offsets - ids.offsets[0]
    if pad_id is not None:
        pads = ids.flat == pad_id
        if "labels" in side:
            pads &= side["labels"].flat == IGNORED_LABEL
        rows = np.repeat(np.arange(len(ids)), ids.lengths)
        kept = np.flatnonzero(~pads)
        ends = offsets[:-1].copy()  # behind the last token of every row that is no padding
        ends[rows[kept]] = kept + 1
        flat = np.where(np.arange(len(flat)) < ends[rows], flat, 0)
    return Ragged(flat, offsets)


def samples(columns: Columns, pad_id: int | None = None) -> Columns:
    """The samples alone, without padding: Ragged `input_ids`, and `labels` if there are any."""
    _, side = token_set("statistics", columns)
    marks = segments(columns, pad_id)
    starts, lengths = _runs(marks)
    real = marks.flat[starts] != 0
    names = {"ids": "input_ids", "labels": "labels"}
    return {
        name: Ragged.from_windows(side[key].flat, starts[real], lengths[real])
        for key, name in names.items()
        if key in side
    }


def _count(columns: Columns, pad_id: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Lengths and trained tokens of samples, samples of rows, places."""
    _, side = token_set("statistics", columns)
    marks = segments(columns, pad_id)
    starts, lengths = _runs(marks)
    rows = np.searchsorted(marks.offsets, starts, side="right") - 1
    labels = side["labels"].flat if "labels" in side else np.zeros(len(marks.flat))
    trained = labels != IGNORED_LABEL
    in_run = np.add.reduceat(trained, starts, dtype=np.int64) if len(starts) else starts
    real = marks.flat[starts] != 0
    in_row = np.bincount(rows[real], minlength=len(marks)).astype(np.int64)
    return lengths[real], in_run[real], in_row, len(marks.flat)


def _runs(marks: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of every run of one mark; rows end a run."""
    flat = marks.flat
    edge = np.ones(len(flat), bool)
    edge[1:] = flat[1:] != flat[:-1]
    edge[marks.starts[marks.lengths > 0]] = True
    starts = np.flatnonzero(edge)
    return starts, np.diff(starts, append=len(flat))
