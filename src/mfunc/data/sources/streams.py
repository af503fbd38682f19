"""Files as streams of bytes, text and lines: unpacked as they are read, never whole in memory."""

from __future__ import annotations

import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, TextIO

PACKINGS = (".gz", ".zst")
LONGEST = 1 << 28  # characters of one row: a bound for files that are not what their name says


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, of `.gz` and `.zst` those inside; damage is a ValueError."""
    opener, errors = _unpacker(path.suffix.lower())
    try:
        with opener(path) as stream:
            yield stream
    except errors as error:
        raise ValueError(f"read: {path} is cut off or damaged ({error})") from error


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    r"""The UTF-8 text of a file, without byte order mark; ends of lines (`\n \r\n \r`) are kept."""
    with open_bytes(path) as stream:
        try:
            with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
                yield text
        except UnicodeDecodeError as error:
            raise ValueError(
                f"read: {path} is not UTF-8 text ({error.reason}, byte "
                f"{error.object[error.start]:#04x}); convert it to UTF-8"
            ) from error


@contextmanager
def on_disk(path: Path) -> Iterator[str]:
    """The name of the file; of `.gz` and `.zst`, of a temporary file with what is inside."""
    if path.suffix.lower() not in PACKINGS:
        yield str(path)
        return
    with tempfile.NamedTemporaryFile() as unpacked:
        with open_bytes(path) as stream:
            shutil.copyfileobj(stream, unpacked)
        unpacked.flush()
        yield unpacked.name


def lines(stream: TextIO, path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line with its end)."""
    for number, line in enumerate(iter(partial(stream.readline, LONGEST), ""), start=1):
        if len(line) >= LONGEST:
            raise too_long(path, f"line {number}")
        yield number, line


def too_long(path: Path, place: str) -> ValueError:
    """For a row that would take the whole memory."""
    return ValueError(
        f"read: {path} {place} has {LONGEST:,} characters or more; "
        "is it of the kind that its name says?"
    )


def excerpt(text: str) -> str:
    """The beginning of the text in question."""
    start = text[:1000].strip()
    return repr(start[:60] + "..." if len(start) > 60 else start)


def _unpacker(suffix: str) -> tuple[Callable[[Path], Any], tuple[type[Exception], ...]]:
    """How to open such a file, and what it raises when damaged."""
    if suffix == ".gz":
        return gzip.open, (EOFError, gzip.BadGzipFile, zlib.error)
    if suffix == ".zst":
        try:
            from backports import zstd  # the `compression.zstd` of Python 3.14
        except ImportError as error:
            raise ImportError(
                ".zst files need backports.zstd, which is not installed: pip install 'mfunc[zst]'"
            ) from error
        return zstd.open, (EOFError, zstd.ZstdError)
    return partial(open, mode="rb"), ()
