"""Reading: the only way in. Files of JSON rows to columns, in chunks of bounded memory.

A file is read as a stream. A JSON array is parsed item by item, so that a chunk of a huge array
costs as much memory as a chunk of JSON lines.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from mfunc.data.check import integer, nearest
from mfunc.data.columns import ORIGIN, Columns

SUFFIXES = (".json", ".jsonl")
BLOCK = 1 << 20  # characters read at once
START = re.compile(r"\s*\[\s*(?:(\])|(?=\S))")
NEXT = re.compile(r"\s*(?:(\])|,\s*(?=\S))")

PathLike = str | os.PathLike[str]


def read(
    path: PathLike | Sequence[PathLike],
    *,
    fields: Mapping[str, str] | None = None,
    chunk_rows: int = 8192,
) -> Iterator[Columns]:
    """Read rows of JSON files into columns, chunk by chunk.

        {"instruction": "Add 1 and 2.", "output": "3"}
        {"instruction": "Say hi.", "output": "hi", "note": "x"}

        {"instruction": ["Add 1 and 2.", "Say hi."], "output": ["3", "hi"], "note": [None, "x"],
         "_origin": ["maths.jsonl line 1", "maths.jsonl line 2"]}

    `.json` is an array of objects or one object per line, `.jsonl` one object per line; UTF-8, with
    or without a byte order mark. Blank lines are skipped. A value is kept as JSON gives it; a field
    that a row lacks is None. The column `_origin` says where each row came from.

    Args:
      path: a file; a folder, read in the order of its file names, hidden ones apart; or a list of
        files and folders.
      fields: which fields to take, and their new names: `{"instruction": "question"}` makes the
        column `instruction` of the field `question`. By default all, under their own names.
      chunk_rows: rows in a chunk; the last may have fewer.

    Returns:
      Iterator of columns. No rows (`[]`) give no chunk.

    Raises:
      FileNotFoundError: at once, if a path is missing.
      ValueError: at once, for a folder with other or mixed files; while reading, with file and line
        or item, for an empty file, text that is not UTF-8 or not JSON, a row that is not an object,
        or a field of `fields` that is in no row of a file.

    Laws:
      the chunks, joined, do not depend on `chunk_rows`.

    Example:
      >>> import pathlib
      >>> _ = pathlib.Path("maths.jsonl").write_text('{"q": "1 + 2?", "a": "3"}')
      >>> next(read("maths.jsonl", fields={"instruction": "q", "output": "a"}))
      {'instruction': ['1 + 2?'], 'output': ['3'], '_origin': ['maths.jsonl line 1']}
    """
    integer("read", "chunk_rows", chunk_rows, least=1)
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    files = [file for each in paths for file in _files(Path(each))]
    if not files:
        raise ValueError("read: got no paths")
    chosen = None if fields is None else dict(fields)
    rows = (row for file in files for row in _rows(file, chosen))
    return _chunks(rows, chosen, chunk_rows)


def _chunks(
    rows: Iterator[tuple[str, dict[str, Any]]], fields: Mapping[str, str] | None, size: int
) -> Iterator[Columns]:
    """Columns of so many rows at a time, none read ahead."""
    while chunk := list(islice(rows, size)):
        yield _columns(chunk, fields)


def _files(path: Path) -> list[Path]:
    """The file itself, or those of a folder."""
    if path.is_dir():
        inside = sorted(p for p in path.iterdir() if not p.name.startswith("."))
        suffixes = {p.suffix.lower() for p in inside if _supported(p)}
        odd = [p.name for p in inside if not _supported(p)]
        if odd or len(suffixes) != 1:
            what = f"has {', '.join(odd or sorted(p.name for p in inside)) or 'no files'}"
            raise ValueError(
                f"read: folder {path} {what}; it must hold files of one kind only, "
                f"{' or '.join(SUFFIXES)}; or pass a list of files"
            )
        return inside
    if not path.exists():
        raise FileNotFoundError(f"read: there is no file {path}")
    if not _supported(path):
        raise ValueError(
            f"read: {path} is of kind {path.suffix or 'none'!r}; "
            f"supported are {', '.join(SUFFIXES)}"
        )
    return [path]


def _supported(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


def _rows(path: Path, fields: Mapping[str, str] | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(origin, row) of one file, checked to be objects that hold the wanted fields somewhere."""
    seen: set[str] = set()
    count = 0
    for place, row in _values(path):
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


def _values(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, value) for every value of one file."""
    with path.open(encoding="utf-8-sig") as stream:
        try:
            start = _first_character(stream)
            if not start:
                raise ValueError(f"read: {path} is empty")
            stream.seek(0)
            array = start == "[" and path.suffix.lower() == ".json"
            yield from _array(stream, path) if array else _lines(stream, path)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"read: {path} is not UTF-8 text ({error.reason}, byte "
                f"{error.object[error.start]:#04x}); convert it to UTF-8"
            ) from error


def _first_character(stream: TextIO) -> str:
    """The first that is not white space; nothing in an empty file."""
    while block := stream.read(4096):
        if text := block.lstrip():
            return text[0]
    return ""


def _lines(stream: TextIO, path: Path) -> Iterator[tuple[str, Any]]:
    """One JSON value per line."""
    for number, line in enumerate(stream, start=1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise ValueError(
                    f"read: {path} line {number} is not a JSON value ({_reason(error)}): "
                    f"{_excerpt(line)}"
                ) from error


def _array(stream: TextIO, path: Path) -> Iterator[tuple[str, Any]]:
    """The items of one JSON array; at most a block and an item of it are in memory."""
    rest, number, closed = "", 0, False
    while not closed:
        block = stream.read(max(BLOCK, len(rest)))  # for a long item twice as much every time
        text, at = rest + block, 0
        while not closed and (found := _item(text, at, number, path, last=not block)):
            at, value, closed = found
            if not closed:
                number += 1
                yield f"item {number}", value
        rest = text[at:]
    if (rest + stream.read(BLOCK)).strip():
        raise ValueError(f"read: {path} goes on after the end of its array: {_excerpt(rest)}")


def _item(
    text: str, at: int, number: int, path: Path, *, last: bool
) -> tuple[int, Any, bool] | None:
    """(end, value, array closed) of what follows item `number`; None if more text is needed."""
    mark = (NEXT if number else START).match(text, at)
    if mark and mark[1]:
        return mark.end(), None, True
    try:
        if mark:
            value, end = json.JSONDecoder().raw_decode(text, mark.end())
            return end, value, False
        unfinished = text[at:].strip() in ("", "[", ",")
        reason = f"the array goes on with neither ',' nor ']' after item {number}"
    except (json.JSONDecodeError, RecursionError) as error:
        # The parser fails at the end of what it has, or a little before: at the start of a
        # literal, a number or an escape (at most "-Infinity"), or of a string that goes on.
        near = len(text.rstrip()) if last else len(text) - 9
        unfinished = isinstance(error, json.JSONDecodeError) and (
            error.msg.startswith("Unterminated string") or error.pos >= near
        )
        reason = f"item {number + 1} is not a JSON value ({_reason(error)})"
    if not unfinished:
        raise ValueError(f"read: {path}: {reason}: {_excerpt(text[at:])}")
    if last:
        raise ValueError(f"read: {path} ends in the middle, after item {number}; is it cut off?")
    return None


def _columns(
    rows: Sequence[tuple[str, dict[str, Any]]], fields: Mapping[str, str] | None
) -> Columns:
    """A list of values for every field of any row."""
    if fields is None:
        fields = {name: name for _, row in rows for name in row}
    columns: Columns = {name: [row.get(field) for _, row in rows] for name, field in fields.items()}
    return {**columns, ORIGIN: [origin for origin, _ in rows]}


def _reason(error: Exception) -> str:
    """What the JSON parser says, in short."""
    return error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"


def _excerpt(text: str) -> str:
    """The beginning of the text in question."""
    text = text.strip()
    return repr(text[:60] + "..." if len(text) > 60 else text)
