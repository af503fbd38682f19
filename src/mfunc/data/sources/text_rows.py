"""Rows of plain text files: tables of cells (csv, tsv), and one text a line (txt)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mfunc.data.sources.streams import LONGEST, excerpt, lines, open_text, too_long


def txt_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The column `text`: every line without its end. A blank line is the row ""."""
    number = 0
    with open_text(path) as stream:
        for number, line in lines(stream, path):
            _no_nul(line, path, number)
            yield f"line {number}", {"text": line.rstrip("\r\n")}
    if not number:
        raise ValueError(f"read: {path} is empty")


def table_rows(
    path: Path, *, delimiter: str, header: Sequence[str] | None, quotes: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a table as texts by RFC 4180: as many cells in each as names in the header.

    An empty cell, quoted or not, is None. Blank lines between rows are skipped.
    """
    names, number = header, 0
    with open_text(path) as stream:
        for number, row in _records(lines(stream, path), path, quotes):
            where = f"read: {path} line {number}"
            plain = not quotes or '"' not in row
            cells = row.split(delimiter) if plain else _quoted(row, delimiter, where)
            if names is None:
                names = check_names(where, cells)
            elif len(cells) != len(names):
                raise ValueError(
                    f"{where} has {len(cells)} cells, but the header {len(names)} names "
                    f"({', '.join(names)}): {excerpt(row)}"
                )
            else:
                cell_of = zip(names, cells, strict=True)
                yield f"line {number}", {name: cell or None for name, cell in cell_of}
    if not number:
        raise ValueError(f"read: {path} is empty")


def check_names(where: str, names: Sequence[str]) -> Sequence[str]:
    """The names of a table's columns: each there, and there once."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{where}: header must be a list of names, got {names!r}")
    fault = "no name" if not names else "an empty name" if "" in names else ""
    for at, name in enumerate(names):
        if name in names[:at]:
            fault = f"the name {name!r} twice"
    if fault:
        raise ValueError(
            f"{where}: the header has {fault}, but every column needs a name of its own: "
            f"{', '.join(map(repr, names))}; for a file without a header give header=(names)"
        )
    return tuple(names)


def _records(
    numbered: Iterator[tuple[int, str]], path: Path, quotes: bool
) -> Iterator[tuple[int, str]]:
    """(number of the first line, text without its end) of every row.

    A quoted cell may go over lines; as quotes inside are doubled, a row is whole when the number
    of its quotes is even.
    """
    for number, line in numbered:
        parts, length = [line], len(line)
        odd = quotes and line.count('"') % 2
        while odd and (following := next(numbered, None)):
            parts.append(following[1])
            length += len(following[1])
            if length >= LONGEST:
                raise too_long(path, f"line {number}, with a quoted cell that does not end,")
            odd ^= following[1].count('"') % 2
        row = "".join(parts)
        _no_nul(row, path, number)
        if odd:
            raise ValueError(
                f"read: {path} line {number} has a quote that is not closed: {excerpt(row)}{ADVICE}"
            )
        if row := row.rstrip("\r\n"):
            yield number, row


def _quoted(row: str, delimiter: str, where: str) -> list[str]:
    """The cells of a row with an even number of quotes."""
    cells, at = [], 0
    while True:
        if row.startswith('"', at):
            end = _closing(row, at + 1)
            cells.append(row[at + 1 : end].replace('""', '"'))
            end += 1
            stray = row[end : end + 1] not in ("", delimiter)
        else:
            found = row.find(delimiter, at)
            end = len(row) if found < 0 else found
            cells.append(row[at:end])
            stray = '"' in cells[-1]
        if stray:
            shown = excerpt(row[at : at + 1000])
            raise ValueError(f"{where} has a quote in the middle of a cell: {shown}{ADVICE}")
        if end == len(row):
            return cells
        at = end + 1


ADVICE = (
    "; put a cell with quotes in quotes and double those inside, "
    "or give quotes=False if quotes are like other characters"
)


def _closing(row: str, at: int) -> int:
    """The next quote that is not one of two; there is one, as their number is even."""
    while True:
        at = row.find('"', at)
        if not row.startswith('"', at + 1):
            return at
        at += 2


def _no_nul(text: str, path: Path, number: int) -> None:
    if "\0" in text:
        raise ValueError(f"read: {path} line {number} has a NUL byte, so it is not text")
