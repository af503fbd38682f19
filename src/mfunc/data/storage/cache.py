"""A cache that cannot be stale: its key is made of all that the result depends on."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from toolz.functoolz import Compose

from mfunc.data.compose import Transform
from mfunc.data.storage.identity import plain
from mfunc.data.storage.sidecar import FORMAT
from mfunc.data.storage.whole import staged, sync

PathLike = str | os.PathLike[str]


def cache_key(*made_by: Any, files: PathLike | Sequence[PathLike]) -> str:
    """What a result depends on, as 32 hexadecimal digits.

    Made of the names and contents of the files; the settings of the transforms, and the source of
    the modules they are from; the source of this package; and the version of its file format. So
    no change of input, setting or code finds an old result. Where the files lie does not matter.

    Args:
      made_by: transforms, compositions of them, tokenizers, templates, plain data: see `plain`.
      files: a file, a folder (all of its files that are not hidden), or a list of them; read in
        blocks, about 1 GB/s.

    Raises:
      TypeError: for a setting without stable identity, such as a function.
      FileNotFoundError: if a file is missing.

    Example:
      >>> from mfunc.data import truncate
      >>> _ = Path("a.txt").write_text("hello")
      >>> key = cache_key(truncate(8, policy="drop"), files="a.txt")
      >>> key == cache_key(truncate(9, policy="drop"), files="a.txt")
      False
    """
    listed = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    told = {
        "format": FORMAT,
        "made_by": plain(made_by, "cache_key"),
        "code": [_digest(path) for path in sorted(_sources(made_by))],
        "files": [(path.name, _digest(path)) for f in listed for path in _files(Path(f))],
    }
    text = json.dumps(told, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def cached(key: str, folder: PathLike, make: Callable[[Path], object]) -> Path:
    """The folder `{folder}/{key}`: as it is, if it is there, else made.

    Args:
      key: from `cache_key`.
      folder: where results are kept.
      make: writes its files into the folder that it is given. That one is hidden, and gets its name
        in one step when `make` has returned: a killed process leaves nothing that is found again.

    Returns:
      The folder, to be read only.

    Example:
      >>> import numpy as np
      >>> from mfunc.data import indexed
      >>> columns = {"input_ids": np.array([[1, 2]])}
      >>> made = cached("0123abcd", "cache", lambda to: indexed.write(to / "x", columns))
      >>> indexed.read(made / "x")["input_ids"][0].tolist()
      [1, 2]
    """
    if not re.fullmatch(r"[0-9a-f]{8,}", key):
        raise ValueError(f"cached: key must be of cache_key(...), got {key!r}")
    place = Path(folder) / key
    if place.is_dir():
        return place
    with staged(place) as hidden:
        inner = hidden / key  # `hidden` itself is for this user only
        inner.mkdir()
        make(inner)
        made = [path for path in inner.rglob("*") if path.is_file()]
        if not made:
            raise ValueError("cached: make(folder) wrote no file into the folder")
        for path in made:
            sync(path)
        try:
            inner.rename(place)
        except OSError:
            if not place.is_dir():  # else another process was faster, with the same result
                raise
    return place


def _sources(value: Any) -> set[Path]:
    """This package's files, and those of the modules that transforms are from."""
    builders = {inspect.unwrap(found.builder) for found in _transforms(value)}
    theirs = {Path(inspect.getsourcefile(builder) or "") for builder in builders}
    return theirs | set(Path(__file__).parents[1].rglob("*.py"))


def _transforms(value: Any) -> Iterator[Transform]:
    """Every transform within."""
    if isinstance(value, Transform):
        yield value
        value = list(value.settings.values())
    if isinstance(value, Compose):
        value = (value.first, *value.funcs)
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _transforms(item)


def _files(path: Path) -> list[Path]:
    """The file itself, or those of a folder."""
    if path.is_dir():
        inside = sorted(path.rglob("*"))
        return [
            p
            for p in inside
            if p.is_file() and not any(s.startswith(".") for s in p.relative_to(path).parts)
        ]
    if not path.is_file():
        raise FileNotFoundError(f"cache_key: there is no file {path}")
    return [path]


def _digest(path: Path) -> str:
    hashed = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()
