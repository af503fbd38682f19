"""Rows of JSON files: one array, parsed item by item, or one value a line.

Stricter than Python's parser where it would lose or change data without a word: a key twice in
one object, NaN and Infinity, numbers too large, half a surrogate pair.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from mfunc.data.sources.streams import LONGEST, excerpt, lines, open_text, too_long

BLOCK = 1 << 20  # characters read at once
SPACE = " \t\r\n"
START = re.compile(r"[ \t\r\n]*\[[ \t\r\n]*(?:(\])|(?=[^ \t\r\n]))")
NEXT = re.compile(r"[ \t\r\n]*(?:(\])|,[ \t\r\n]*(?=[^ \t\r\n]))")
BLANK = re.compile(r"[ \t\r\n]*")


def json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, value) of every item of an array, or of every line that is not blank."""
    with open_text(path) as stream:
        start = _first_character(stream)
    if not start:
        raise ValueError(f"read: {path} is empty")
    with open_text(path) as stream:
        yield from _array(stream, path) if start == "[" else _lines(stream, path)


def parse(text: str) -> Any:
    """The one JSON value of a text.

    Raises:
      ValueError: with the reason, if it is none or would lose data.

    Example:
      >>> parse('{"a": 1, "a": 2}')
      Traceback (most recent call last):
      ValueError: the key 'a' is there twice in one object
    """
    try:
        value, end = _value(text, _blank(text, 0))
    except (ValueError, RecursionError) as error:
        raise ValueError(_reason(error)) from error
    if _blank(text, end) < len(text):
        raise ValueError("Extra data")
    return value


def _first_character(stream: TextIO) -> str:
    """The first that is not white space; nothing in an empty file."""
    while block := stream.read(4096):
        if text := block.lstrip(SPACE):
            return text[0]
    return ""


def _lines(stream: TextIO, path: Path) -> Iterator[tuple[str, Any]]:
    """One JSON value per line."""
    for number, line in lines(stream, path):
        if _blank(line, 0) == len(line):
            continue
        try:
            value = parse(line)
        except ValueError as error:
            raise ValueError(
                f"read: {path} line {number} is not a JSON value ({error}): {excerpt(line)}"
            ) from error
        yield f"line {number}", value


def _array(stream: TextIO, path: Path) -> Iterator[tuple[str, Any]]:
    """The items of one JSON array; at most a block and an item of it are in memory."""
    rest, number, closed = "", 0, False
    while not closed:
        before = len(rest)
        rest += stream.read(max(BLOCK, before // 2))  # so that a long item is parsed seldom
        at, last = 0, len(rest) == before
        while not closed and (found := _item(rest, at, number, path, last=last)):
            at, value, closed = found
            if not closed:
                number += 1
                yield f"item {number}", value
                value = found = None  # an item may be large: not kept while more is read
        rest = rest[at:]
        if len(rest) >= LONGEST:
            raise too_long(path, f"item {number + 1}")
    while rest or (rest := stream.read(BLOCK)):
        if _blank(rest, 0) < len(rest):
            raise ValueError(f"read: {path} goes on after the end of its array: {excerpt(rest)}")
        rest = ""


def _item(
    text: str, at: int, number: int, path: Path, *, last: bool
) -> tuple[int, Any, bool] | None:
    """(end, value, array closed) of what follows item `number`; None if more text is needed."""
    mark = (NEXT if number else START).match(text, at)
    if mark and mark[1]:
        return mark.end(), None, True
    try:
        if mark:
            value, end = _value(text, mark.end())
            return end, value, False
        unfinished = text[at : at + BLOCK].strip(SPACE) in ("", "[", ",")
        reason = f"the array goes on with neither ',' nor ']' after item {number}"
    except (ValueError, RecursionError) as error:
        # The parser fails at the end of what it has, or a little before: at the start of a
        # literal, a number or an escape (at most "-Infinity"), or of a string that goes on.
        near = len(text.rstrip(SPACE)) if last else len(text) - 9
        unfinished = isinstance(error, json.JSONDecodeError) and (
            error.msg.startswith("Unterminated string") or error.pos >= near
        )
        reason = f"item {number + 1} is not a JSON value ({_reason(error)})"
    if not unfinished:
        raise ValueError(f"read: {path}: {reason}: {excerpt(text[at : at + 1000])}")
    if last:
        raise ValueError(f"read: {path} ends in the middle, after item {number}; is it cut off?")
    return None


def _value(text: str, at: int) -> tuple[Any, int]:
    """(value, end) of the JSON value that begins there."""
    value, end = DECODER.raw_decode(text, at)
    if text.find("\\ud", at, end) >= 0 or text.find("\\uD", at, end) >= 0:
        json.dumps(value, ensure_ascii=False).encode()  # fails on half a pair, which is no text
    return value, end


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of all pairs."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice in one object")
    return made


def _number(text: str) -> float:
    """A finite number."""
    if math.isinf(number := float(text)):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON, null is")


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_number, parse_constant=_constant)


def _blank(text: str, at: int) -> int:
    """Where the white space that begins there ends."""
    return BLANK.match(text, at).end()  # type: ignore[union-attr]  # it matches everywhere


def _reason(error: Exception) -> str:
    """What is wrong, in short."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeEncodeError):
        half = ascii(error.object[error.start])
        return f"{half} is half of a surrogate pair, not a character"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error).split(";")[0]
