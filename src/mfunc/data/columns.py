"""Columns: the one container of the data layer.

A batch of n samples is a plain dict of columns, all of n rows. A column is
- a `Ragged`: rows of different lengths in one flat array (`input_ids`, `labels`, ...),
- an `ndarray` whose first axis is the samples (`segment_ids` [n, S], ...),
- a `list` of n Python values (texts, raw JSON fields, pieces).

The column `_origin` (list of str) says where a row came from, `alpaca.json row 17`. `read` writes
it, errors quote it, and `pack` leaves it out, as a packed row has many origins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mfunc.data.check import nearest
from mfunc.data.ragged import Ragged, offsets_of

Columns = dict[str, Any]
ORIGIN = "_origin"
IGNORED_LABEL = -100


def num_rows(where: str, columns: Mapping[str, Any]) -> int:
    """The one length of all columns.

    Raises:
      TypeError: if this is not a dict of Ragged, ndarray and list columns.
      ValueError: if the columns differ in length.

    Example:
      >>> num_rows("pack", {"text": ["a", "b"], "input_ids": Ragged.from_rows([[1]])})
      Traceback (most recent call last):
      ValueError: pack: columns differ in length: text 2, input_ids 1
    """
    if not isinstance(columns, Mapping):
        raise TypeError(f"{where}: needs a dict of columns, got {type(columns).__name__}")
    for name, column in columns.items():
        if isinstance(column, np.ndarray) and not column.ndim:
            raise TypeError(f"{where}: column {name!r} is an array without a sample axis")
        if not isinstance(column, (Ragged, np.ndarray, list)):
            raise TypeError(
                f"{where}: column {name!r} is a {type(column).__name__}; "
                "allowed are Ragged, ndarray, list"
            )
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(f"{where}: columns differ in length: {listed}")
    return next(iter(counts.values()), 0)


def row_name(columns: Mapping[str, Any], row: int) -> str:
    """How an error calls a row: by number, and by origin where it is known."""
    origin = columns.get(ORIGIN)
    return f"row {row}" if origin is None else f"row {row} ({origin[row]})"


def origin_of(columns: Mapping[str, Any]) -> Columns:
    """The column of origins, if there is one: what transforms that make new columns carry on."""
    return {name: column for name, column in columns.items() if name == ORIGIN}


def value_at(where: str, columns: Mapping[str, Any], name: str, row: int) -> Any:
    """The value of a column that must exist.

    Example:
      >>> value_at("sft", {"content": ["a"]}, "contents", 0)
      Traceback (most recent call last):
      ValueError: sft: row 0 has no 'contents'; did you mean 'content'?; columns are content
    """
    if name not in columns:
        have = [column for column in columns if column != ORIGIN]
        raise ValueError(
            f"{where}: {row_name(columns, row)} has no {name!r}{nearest(name, have)}; "
            f"columns are {', '.join(have)}"
        )
    return columns[name][row]


def text_at(
    where: str, columns: Mapping[str, Any], name: str, row: int, *, optional: bool = False
) -> str:
    """A text of a column; if optional, "" where the column lacks or holds None."""
    if optional and (name not in columns or columns[name][row] is None):
        return ""
    value = value_at(where, columns, name, row)
    if not isinstance(value, str):
        seen = "is missing" if value is None else f"is {value!r} ({type(value).__name__})"
        raise ValueError(f"{where}: {row_name(columns, row)}: {name!r} {seen}, but must be text")
    return value


def map_columns(columns: Mapping[str, Any], change: Callable[[Any], Any]) -> Columns:
    """A new dict with every column changed."""
    return {name: change(column) for name, column in columns.items()}


def take_rows(columns: Mapping[str, Any], index: np.ndarray | slice) -> Columns:
    """The rows at integers, at a mask, or in a slice (which copies nothing but lists)."""
    if isinstance(index, slice):
        return map_columns(columns, lambda column: column[index])
    rows = np.flatnonzero(index) if index.dtype == bool else index
    listed = rows.tolist()
    return map_columns(
        columns, lambda c: [c[i] for i in listed] if isinstance(c, list) else c[rows]
    )


def token_columns(where: str, columns: Mapping[str, Any]) -> dict[str, Ragged]:
    """The Ragged columns, `input_ids` among them; in every row all have one length.

    Ids and labels come back as int32, whatever integers they were.

    Raises:
      ValueError: if there is no Ragged `input_ids`, or a row has, say, fewer labels than ids.
    """
    num_rows(where, columns)
    if not isinstance(columns.get("input_ids"), Ragged):
        raise ValueError(
            f"{where}: needs a Ragged column 'input_ids', got {kinds(columns)}; "
            "put tokenize(...) before it"
        )
    ragged = {
        name: _as_int32(where, name, column) if name in ("input_ids", "labels") else column
        for name, column in columns.items()
        if isinstance(column, Ragged)
    }
    lengths = ragged["input_ids"].lengths
    for name, column in ragged.items():
        wrong = np.flatnonzero(column.lengths != lengths)
        if len(wrong):
            row = int(wrong[0])
            raise ValueError(
                f"{where}: {row_name(columns, row)} has {lengths[row]} input_ids "
                f"but {column.lengths[row]} {name}; token columns must agree in every row"
            )
    return ragged


def concat(parts: Sequence[Mapping[str, Any]]) -> Columns:
    """Join batches of columns by rows.

    Args:
      parts: batches with the same columns of the same kinds.

    Returns:
      Columns with the rows of all parts in order; `{}` for no parts.

    Raises:
      ValueError: if the parts differ in their column names or kinds.

    Laws:
      `f(concat(parts)) == concat(map(f, parts))` for every row-by-row transform f.

    Example:
      >>> concat([{"text": ["a"]}, {"text": ["b", "c"]}])
      {'text': ['a', 'b', 'c']}
    """
    parts = list(parts)
    for part in parts:
        num_rows("concat", part)
        if kinds(part) != kinds(parts[0]):
            raise ValueError(f"concat: a part has {kinds(part)} but the first {kinds(parts[0])}")
    return {name: _join([part[name] for part in parts]) for name in (parts[0] if parts else {})}


def kinds(columns: Mapping[str, Any]) -> str:
    """The columns as an error lists them."""
    listed = ", ".join(f"{name} ({type(c).__name__})" for name, c in sorted(columns.items()))
    return listed or "no columns"


def _as_int32(where: str, name: str, column: Ragged) -> Ragged:
    """The same integers, four bytes each."""
    if column.dtype == np.int32:
        return column
    cast = column.values.astype(np.int32)
    if column.dtype.kind not in "iu" or not np.array_equal(cast, column.values):
        raise ValueError(f"{where}: {name} holds {column.dtype}, not all 32-bit integers")
    return Ragged(cast, column.offsets)


def _join(columns: list[Any]) -> Any:
    """One column from several of one kind."""
    if isinstance(columns[0], list):
        return [value for column in columns for value in column]
    if isinstance(columns[0], np.ndarray):
        return np.concatenate(columns)
    lengths = np.concatenate([column.lengths for column in columns])
    return Ragged(np.concatenate([column.flat for column in columns]), offsets_of(lengths))
