"""Reading: the only way in. Files of rows to columns, in chunks of bounded memory.

A file is read as a stream, also a packed one; a JSON array is parsed item by item. What a format
is, its own module says: `json_rows`, `text_rows`, `arrow_rows`; each gives (place, row) pairs.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from mfunc.data.check import flag, integer, nearest
from mfunc.data.columns import ORIGIN, Columns
from mfunc.data.sources.arrow_rows import arrow_rows, parquet_rows
from mfunc.data.sources.json_rows import json_rows
from mfunc.data.sources.streams import PACKINGS
from mfunc.data.sources.text_rows import check_names, table_rows, txt_rows

FORMATS = (".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet", ".arrow")
TABLES = {".csv": ",", ".tsv": "\t"}

PathLike = str | os.PathLike[str]


def read(
    path: PathLike | Sequence[PathLike],
    *,
    fields: Mapping[str, str] | None = None,
    chunk_rows: int = 8192,
    header: Sequence[str] | None = None,
    quotes: bool = True,
) -> Iterator[Columns]:
    """Read rows of files into columns, chunk by chunk.

        {"instruction": "Add 1 and 2.", "output": "3"}
        {"instruction": "Say hi.", "output": "hi", "note": "x"}

        {"instruction": ["Add 1 and 2.", "Say hi."], "output": ["3", "hi"], "note": [None, "x"],
         "_origin": ["maths.jsonl line 1", "maths.jsonl line 2"]}

    The name says the format, in capitals or not; each may be packed, as in `maths.jsonl.gz`:
    - `.json`, `.jsonl`: an array of objects or an object per line, whichever it is. Values as JSON
      has them. Refused are a key twice in one object, NaN, Infinity, half a surrogate pair.
    - `.csv`, `.tsv`: a header and rows of as many cells, all of them text; an empty cell is None.
      Quoted cells hold delimiters, doubled quotes and newlines.
    - `.txt`: the column `text`, a row per line. A blank line is a row too, the text "".
    - `.parquet`, `.arrow` (IPC file or stream): need the extra `arrow`.
    - `.gz`, and `.zst`, which needs the extra `zst`. They are unpacked while they are read; a
      parquet or arrow file inside goes to a temporary file.

    Text is UTF-8, with or without a byte order mark, with lines that end in any of the three ways;
    blank lines of JSON and tables are skipped. A field that a row lacks is None. The column
    `_origin` says where each row came from.

    Args:
      path: a file; a folder, read in the order of its file names, hidden ones apart; a pattern,
        `data/part-*.jsonl`, likewise; or a list of these. A folder and a pattern hold one format.
      fields: which fields to take, and their new names: `{"instruction": "question"}` makes the
        column `instruction` of the field `question`. By default all, under their own names.
      chunk_rows: rows in a chunk; the last may have fewer.
      header: names of the columns of tables without a header line.
      quotes: whether quotes in tables have a meaning; False for files where they are characters
        like any other.

    Returns:
      Iterator of columns. No rows (`[]`) give no chunk.

    Raises:
      FileNotFoundError: at once, if a path is missing or a pattern matches nothing.
      ValueError: at once, for an unknown format, a folder or pattern of other or mixed files; while
        reading, with file and line, item or row, for an empty, damaged or cut off file, text that
        is not UTF-8 or not of its format, a row that is not an object or too long for memory, or
        a field of `fields` that is in no row of a file.
      ImportError: while reading, if the format needs an extra that is not installed.

    Laws:
      the chunks, joined, do not depend on `chunk_rows` (with `fields`, or if all rows have the same
      fields); what a format can hold, written by other programs, comes back as it was.

    Example:
      >>> import pathlib
      >>> _ = pathlib.Path("maths.jsonl").write_text('{"q": "1 + 2?", "a": "3"}')
      >>> next(read("maths.jsonl", fields={"instruction": "q", "output": "a"}))
      {'instruction': ['1 + 2?'], 'output': ['3'], '_origin': ['maths.jsonl line 1']}
    """
    integer("read", "chunk_rows", chunk_rows, least=1)
    flag("read", "quotes", quotes)
    names = None if header is None else check_names("read", header)
    chosen = None if fields is None else _checked_fields(fields)
    files = files_of(path)
    if (header or not quotes) and not any(_kind(file) in TABLES for file in files):
        raise ValueError(f"read: header and quotes are for .csv and .tsv, but got {files[0]}")
    rows_of = partial(_rows_of, chunk_rows=chunk_rows, header=names, quotes=quotes)
    rows = (row for file in files for row in _checked_rows(file, rows_of(file), chosen))
    return _chunks(rows, chosen, chunk_rows)


def files_of(path: PathLike | Sequence[PathLike]) -> list[Path]:
    """The files that `read` reads, in its order; it raises as `read` does at once."""
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    files = [file for each in paths for file in _files(os.fspath(each))]
    if not files:
        raise ValueError("read: got no paths")
    return files


def _rows_of(
    path: Path, *, chunk_rows: int, header: Sequence[str] | None, quotes: bool
) -> Iterator[tuple[str, Any]]:
    """(place, row) of a file of any format."""
    kind = _kind(path)
    if kind in TABLES:
        return table_rows(path, delimiter=TABLES[kind], header=header, quotes=quotes)
    if kind == ".parquet":
        return parquet_rows(path, chunk_rows=chunk_rows)
    if kind == ".arrow":
        return arrow_rows(path, chunk_rows=chunk_rows)
    return txt_rows(path) if kind == ".txt" else json_rows(path)


def _chunks(
    rows: Iterator[tuple[str, dict[str, Any]]], fields: Mapping[str, str] | None, size: int
) -> Iterator[Columns]:
    """Columns of so many rows at a time, none read ahead."""
    while chunk := list(islice(rows, size)):
        columns = _columns(chunk, fields)
        del chunk  # it may be large: held once, and not while the next is read
        yield columns
        del columns


def _files(path: str) -> list[Path]:
    """The file itself, or those of a folder or pattern."""
    if not path:
        raise ValueError("read: got an empty path")
    if os.path.isdir(path):
        inside = [p for p in Path(path).iterdir() if not p.name.startswith(".")]
        return _of_one_kind(f"folder {path}", sorted(inside))
    if not os.path.exists(path):
        matches = [Path(p) for p in glob.glob(path, recursive=True)]
        if matches:
            return _of_one_kind(f"pattern {path}", sorted(matches))
        what = "file that matches" if glob.has_magic(path) else "file"
        raise FileNotFoundError(f"read: there is no {what} {path}")
    if not _supported(Path(path)):
        raise ValueError(
            f"read: {path} is of kind {''.join(Path(path).suffixes) or 'none'!r}; {SUPPORTED}"
        )
    return [Path(path)]


SUPPORTED = f"supported are {', '.join(FORMATS)}, each also with {' or '.join(PACKINGS)}"


def _of_one_kind(where: str, paths: list[Path]) -> list[Path]:
    """The paths, if all are files of one format, packed in one way."""
    kinds = Counter("".join(_suffixes(p)) for p in paths if _supported(p))
    kind = max(kinds, key=lambda k: kinds[k]) if kinds else ""
    odd = [p for p in paths if not _supported(p) or "".join(_suffixes(p)) != kind]
    if not kind or odd:
        holds = f"{kinds[kind]} of kind {kind}, but also " if kind else "" if odd else "no files"
        shown = ", ".join(p.name for p in odd[:10]) + f" and {len(odd) - 10} more" * (len(odd) > 10)
        raise ValueError(
            f"read: {where} has {holds}{shown}; it must hold files of one kind only; "
            f"{SUPPORTED}; or pass a list of files"
        )
    return paths


def _suffixes(path: Path) -> tuple[str, str]:
    """('.jsonl', '.gz'), in small letters; '' for what is not there."""
    *_, before, last = ["", "", *map(str.lower, path.suffixes)]
    return (before, last) if last in PACKINGS else (last, "")


def _kind(path: Path) -> str:
    return _suffixes(path)[0]


def _supported(path: Path) -> bool:
    return path.is_file() and _kind(path) in FORMATS


def _checked_rows(
    path: Path, rows: Iterator[tuple[str, Any]], fields: Mapping[str, str] | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(origin, row) of one file, checked to be objects that hold the wanted fields somewhere."""
    seen: set[str] = set()
    count = 0
    for place, row in rows:
        if not isinstance(row, dict):
            raise ValueError(
                f"read: {path} {place} is a {type(row).__name__}, but a row must be an object "
                '{"field": value, ...}'
            )
        if fields is None and ORIGIN in row:
            raise ValueError(f"read: {path} {place} has a field {ORIGIN!r}, which read itself adds")
        seen.update(row)
        count += 1
        yield f"{path} {place}", row
    for name, field in (fields or {}).items():
        if count and field not in seen:
            raise ValueError(
                f"read: {path} has no field {field!r} (wanted as {name!r}) in any of its {count} "
                f"rows{nearest(field, seen)}; fields are {', '.join(sorted(seen))}"
            )


def _checked_fields(fields: Mapping[str, str]) -> dict[str, str]:
    """The mapping, if it is one of names to names."""
    pairs = fields.items() if isinstance(fields, Mapping) else ()
    if not pairs or not all(isinstance(text, str) for pair in pairs for text in pair):
        raise TypeError(f"read: fields must map new names to names in the files, got {fields!r}")
    if ORIGIN in fields:
        raise ValueError(f"read: fields has a column {ORIGIN!r}, which read itself adds")
    return dict(fields)


def _columns(
    rows: Sequence[tuple[str, dict[str, Any]]], fields: Mapping[str, str] | None
) -> Columns:
    """A list of values for every field of any row."""
    if fields is None:
        fields = {name: name for _, row in rows for name in row}
    columns: Columns = {name: [row.get(field) for _, row in rows] for name, field in fields.items()}
    return {**columns, ORIGIN: [origin for origin, _ in rows]}
