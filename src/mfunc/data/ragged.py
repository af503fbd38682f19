"""Ragged: rows of different lengths in one flat array, and the fast copy that all of it rests on.

A flat array with offsets is what makes the data layer fast: no operation touches tokens one by
one, and none makes an index per token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import attrs
import numpy as np

# Windows of one length, several times; and all others.
Groups = tuple[list[tuple[int, np.ndarray]], np.ndarray | slice]


def _read_only(array: Any) -> np.ndarray:
    """A view through which the array cannot be written."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


@attrs.frozen(eq=False, repr=False)
class Ragged:
    """n rows of different lengths in one flat array; row i is `values[offsets[i]:offsets[i + 1]]`.

        values  [7 8 9 4 5]   offsets [0 3 3 5]   ->   rows [7 8 9] [] [4 5]

    Rows are read-only views. `r[2]` is a row, `r[2:5]` a Ragged that shares the values, and
    `r[[4, 0]]` (integers or a mask) a copy of the chosen rows.

    Args:
      values: one-dimensional array; not copied.
      offsets: n + 1 non-decreasing integers within `0..len(values)`; the first need not be 0.

    Raises:
      ValueError: if the offsets decrease or point outside the values.

    Example:
      >>> r = Ragged.from_rows([[7, 8, 9], [], [4, 5]])
      >>> r, r[0].tolist(), r.lengths.tolist()
      (Ragged(3 rows, 5 int32 values), [7, 8, 9], [3, 0, 2])
    """

    values: np.ndarray = attrs.field(converter=_read_only)
    offsets: np.ndarray = attrs.field(converter=_read_only)

    def __attrs_post_init__(self) -> None:
        values, offsets = self.values, self.offsets
        if values.ndim != 1:
            raise ValueError(f"Ragged: values must have one axis, got shape {values.shape}")
        if offsets.ndim != 1 or not len(offsets) or offsets.dtype.kind not in "iu":
            raise ValueError(
                "Ragged: offsets must be one axis of at least one integer, "
                f"got {offsets.dtype} of shape {offsets.shape}"
            )
        falls = offsets[1:] < offsets[:-1]
        if falls.any():
            raise ValueError(f"Ragged: offsets decrease after row {int(falls.argmax())}")
        if offsets[0] < 0 or offsets[-1] > len(values):
            raise ValueError(
                f"Ragged: offsets span {offsets[0]}..{offsets[-1]}, "
                f"but there are {len(values)} values"
            )

    @classmethod
    def from_rows(cls, rows: Iterable[Any], dtype: Any = None) -> Ragged:
        """Copy rows (arrays or sequences of numbers) into one Ragged.

        Args:
          rows: one sequence per row.
          dtype: type of a value; by default int32 for integers, else what NumPy makes of them.

        Raises:
          ValueError: if a value does not fit the type, or a row is not a sequence of numbers.

        Example:
          >>> Ragged.from_rows([[1.5], [2.5, 3.5]])
          Ragged(2 rows, 3 float64 values)
        """
        arrays = [np.asarray(row) for row in rows]
        for i, array in enumerate(arrays):
            if array.ndim != 1 or (len(array) and array.dtype.kind not in "iufb"):
                raise ValueError(f"Ragged.from_rows: row {i} is not a sequence of numbers")
        values = np.concatenate([np.zeros(0, np.int8), *(a for a in arrays if len(a))])
        target = np.dtype(dtype or (np.int32 if values.dtype.kind in "iu" else values.dtype))
        cast = values.astype(target, copy=False)
        if not np.array_equal(cast, values, equal_nan=values.dtype.kind == "f"):
            raise ValueError(f"Ragged.from_rows: {values.dtype} values do not fit {target}")
        return cls(cast, offsets_of([len(a) for a in arrays]))

    @classmethod
    def from_windows(cls, values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> Ragged:
        """Copy the windows `values[starts[i]:starts[i] + lengths[i]]`, in that order, to rows."""
        offsets = offsets_of(lengths)
        out = np.empty(offsets[-1], values.dtype)
        copy_windows(out, offsets[:-1], values, starts, lengths)
        return cls(out, offsets)

    @classmethod
    def from_arrow(cls, array: Any) -> Ragged:
        """View a pyarrow list array (List or LargeList, without nulls) as a Ragged; no copy."""
        arrow = import_pyarrow()
        lists = isinstance(array, (arrow.ListArray, arrow.LargeListArray))
        if not lists or array.null_count or array.values.null_count:
            raise ValueError(
                f"Ragged.from_arrow: needs a list array without nulls, got {array.type} "
                f"with {array.null_count} null rows"
            )
        values = array.values.to_numpy(zero_copy_only=True)
        return cls(values, array.offsets.to_numpy(zero_copy_only=True))

    def to_arrow(self) -> Any:
        """View as a pyarrow ListArray (LargeListArray if the offsets are int64); no copy."""
        arrow = import_pyarrow()
        wide = self.offsets.dtype.itemsize == 8
        kind = arrow.LargeListArray if wide else arrow.ListArray
        return kind.from_arrays(arrow.array(self.offsets), arrow.array(self.values))

    @property
    def lengths(self) -> np.ndarray:
        """Length of every row, int64 [n]."""
        return np.diff(self.offsets).astype(np.int64, copy=False)

    @property
    def starts(self) -> np.ndarray:
        """Where every row begins in `values`, int64 [n]."""
        return self.offsets[:-1].astype(np.int64, copy=False)

    @property
    def flat(self) -> np.ndarray:
        """All rows end to end: a view."""
        return self.values[self.offsets[0] : self.offsets[-1]]

    @property
    def dtype(self) -> np.dtype:
        """Type of one value."""
        return self.values.dtype

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.values[a:b] for a, b in pairwise(self.offsets.tolist()))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return Ragged(self.values, self.offsets[start : max(start, stop) + 1])
            index = np.arange(start, stop, step)
        if np.ndim(index) == 0:
            row = range(len(self))[index]
            return self.values[self.offsets[row] : self.offsets[row + 1]]
        rows = np.arange(len(self))[np.asarray(index, None if len(index) else np.int64)]
        return Ragged.from_windows(self.values, self.starts[rows], self.lengths[rows])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ragged):
            return NotImplemented
        same_lengths = np.array_equal(self.lengths, other.lengths)
        return same_lengths and np.array_equal(self.flat, other.flat)

    __hash__ = None  # type: ignore[assignment]  # equal by content, and the content may be large

    def __repr__(self) -> str:
        return f"Ragged({len(self)} rows, {len(self.flat)} {self.dtype} values)"


def offsets_of(lengths: Any) -> np.ndarray:
    """0 and the running sum: int64 [n + 1]."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def copy_windows(
    out: np.ndarray,
    at: np.ndarray,
    values: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    groups: Groups | None = None,
) -> None:
    """`out[at[i]:at[i] + lengths[i]] = values[starts[i]:starts[i] + lengths[i]]` for every i.

    Windows of equal length are moved together, each as one item of an overlapping view: 5 times
    faster than an index per token, and without its memory. Lengths that are rare, and small
    calls (one batch), are sliced one by one. Who copies several columns alike gives `groups`,
    made once by `group(lengths)`.
    """
    equal, left = groups or group(lengths)
    for length, rows in equal:
        _copy_equal(out, at[rows], values, starts[rows], length)
    slices = zip(at[left].tolist(), starts[left].tolist(), lengths[left].tolist(), strict=True)
    for to, start, length in slices:
        out[to : to + length] = values[start : start + length]


def group(lengths: np.ndarray) -> Groups:
    """Which windows have one length, where these are many; and which are left."""
    if len(lengths) < 512:
        return [], slice(None)
    narrow = lengths.astype(np.uint16) if lengths.max() < 65_536 else lengths  # sorts by radix
    order = np.argsort(narrow, kind="stable")
    edges = np.flatnonzero(np.diff(lengths[order], prepend=-1, append=-1))
    common = np.diff(edges) >= 16
    bounds = zip(edges[:-1][common].tolist(), edges[1:][common].tolist(), strict=True)
    equal = [(int(lengths[order[a]]), order[a:b]) for a, b in bounds]
    return [pair for pair in equal if pair[0]], order[np.repeat(~common, np.diff(edges))]


def _copy_equal(
    out: np.ndarray, at: np.ndarray, values: np.ndarray, starts: np.ndarray, length: int
) -> None:
    """Windows of one length; in blocks, so that what is gathered stays in the cache."""
    block = max(1, 65_536 // length)
    into, source = _sliding(out, length), _sliding(values, length)
    for i in range(0, len(at), block):
        into[at[i : i + block]] = source[starts[i : i + block]]


def _sliding(values: np.ndarray, length: int) -> np.ndarray:
    """Every window of that length, as one opaque item of overlapping views."""
    values = np.ascontiguousarray(values)
    item = np.dtype((np.void, length * values.itemsize))
    return np.ndarray(len(values) - length + 1, item, values, strides=values.strides)


def import_pyarrow() -> Any:
    """The optional dependency, or how to get it."""
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            "Arrow data needs pyarrow, which is not installed: pip install 'mfunc[arrow]'"
        ) from error
    return pyarrow
