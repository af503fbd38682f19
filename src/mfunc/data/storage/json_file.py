"""Rows to JSON files, whole or not at all: the other way of `read`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from mfunc.data.check import choice
from mfunc.data.columns import ORIGIN, Columns, num_rows, row_name
from mfunc.data.compose import counted_chunks
from mfunc.data.ragged import Ragged
from mfunc.data.storage.pair import PathLike
from mfunc.data.storage.whole import publish, staged

SUFFIXES = (".json", ".jsonl")


def write(path: PathLike, columns: Any) -> int:
    """Write rows to a JSON file: an array of objects, or an object per line.

        in   id ["1", "2"]  text ["a", "b"]
        out  [                                  (.json; in .jsonl the lines without [ , ])
             {"id": "1", "text": "a"},
             {"id": "2", "text": "b"}
             ]

    UTF-8, a row per line in either form. A killed writer leaves what stood there before.

    Args:
      path: the file, `*.json` or `*.jsonl`; its folder is made if it is missing.
      columns: columns of JSON values; Ragged and arrays become lists of numbers. Or an iterable of
        such columns, one in memory at a time. `_origin` is left out.

    Returns:
      How many rows were written.

    Raises:
      ValueError: for another suffix; naming the row, for what JSON cannot hold: NaN, an infinity,
        half of a surrogate pair, an object.

    Laws:
      `read(path)` gives back the rows; chunks written one by one equal them joined.

    Example:
      >>> write("ids.json", {"id": ["1"], "input_ids": Ragged.from_rows([[7, 8]])})
      1
      >>> print(Path("ids.json").read_text(), end="")
      [
      {"id": "1", "input_ids": [7, 8]}
      ]
    """
    path = Path(path)
    lines = choice("write", "the suffix of path", path.suffix, SUFFIXES) == ".jsonl"
    before, between, behind = ("", "\n", "\n") if lines else ("[\n", ",\n", "\n]\n")
    rows = 0
    with staged(path) as folder:
        with (folder / path.name).open("w", encoding="utf-8", newline="\n") as file:
            for chunk, _ in counted_chunks(columns):
                for text in _rows(chunk, rows):
                    file.write((between if rows else before) + text)
                    rows += 1
            file.write(behind if rows else before + behind.lstrip("\n"))
        publish(folder, path.parent, files=[path.name], marks=[])
    return rows


def _rows(columns: Columns, first: int) -> Iterator[str]:
    """The objects of a chunk whose first row has that number."""
    count = num_rows("write", columns)
    names = [name for name in columns if name != ORIGIN]
    lists = [_listed(columns[name]) for name in names]
    for i, values in enumerate(zip(*lists, strict=True) if lists else repeat((), count)):
        try:
            text = json.dumps(
                dict(zip(names, values, strict=True)), ensure_ascii=False, allow_nan=False
            )
            text.encode()
        except (ValueError, TypeError) as error:
            where = row_name(columns, i) if ORIGIN in columns else f"row {first + i}"
            raise ValueError(f"write: {where} cannot be JSON: {error}") from None
        yield text


def _listed(column: Any) -> Any:
    """A column's values as Python's own."""
    if isinstance(column, Ragged):
        return [row.tolist() for row in column]
    return column.tolist() if isinstance(column, np.ndarray) else column
