"""Files that are there whole or not at all, whenever the process that writes them is killed.

They are written in a hidden folder beside their place, on the same disk, and then renamed. Where
several files are one thing, some of them are its marks: without every mark nobody reads the rest.
The old marks go first and the new ones come last.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A hidden folder beside `target`, whose folder is made if need be; removed at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(
    folder: Path,
    into: Path,
    *,
    files: Sequence[str],
    marks: Sequence[str],
    stale: Iterable[str] = (),
) -> None:
    """Move what was staged to its place.

    Args:
      folder: where the files and the marks are.
      into: where they go, over what has their names.
      files: names of the files.
      marks: names of the files that are missing while anything is unfinished.
      stale: names in `into` that do not belong to the new whole; removed.
    """
    for name in (*files, *marks):
        sync(folder / name)
    for name in (*marks, *stale):
        (into / name).unlink(missing_ok=True)
    for name in (*files, *marks):
        (folder / name).replace(into / name)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    A name must not outlive what it names.
    """
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
