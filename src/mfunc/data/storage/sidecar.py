"""The sidecar: a JSON file beside token files that says what they hold and how they were made.

    {"format": 1, "rows": 2,
     "columns": {"input_ids": {"dtype": "int32", "values": 12, "digest": "..."}},
     "counts": {"pack.rows": 2}, "settings": {"tokenizer": {"digest": "..."}, "seq_length": 6}}

Files of other programs have none. Where there is one, readers hold the files to it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mfunc.data.ragged import Ragged
from mfunc.data.storage.identity import plain

FORMAT = 1


def describe(
    columns: Mapping[str, Mapping[str, Any]],
    rows: int,
    counts: Mapping[str, int],
    settings: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """A sidecar's content.

    Args:
      columns: of every column `dtype`, `values` and `digest`.
      rows: how many.
      counts: what `counted` tells.
      settings: how the data were made: plain data, transforms, templates, tokenizers.
    """
    return {
        "format": FORMAT,
        "rows": rows,
        "columns": {name: dict(column) for name, column in columns.items()},
        "counts": dict(counts),
        "settings": plain(dict(settings or {}), "settings"),
    }


def dump(path: Path, content: Mapping[str, Any]) -> None:
    """Write it."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path) -> dict[str, Any] | None:
    """Read it; None where there is none.

    Raises:
      ValueError: if it is not a sidecar of a format that is known.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); delete it, or write again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        seen = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} is of format {seen!r}, but {FORMAT} is known; write again")
    columns = content.get("columns")
    if not isinstance(columns, dict) or not all(isinstance(c, dict) for c in columns.values()):
        raise ValueError(f"{path} does not list its columns; delete it, or write again")
    return content


def check(
    path: Path, content: Mapping[str, Any], columns: Mapping[str, Ragged], *, verify: bool
) -> None:
    """Refuse columns that are not those of the sidecar.

    Args:
      path: of the sidecar, for errors.
      content: what it says.
      columns: what the files hold.
      verify: also digest all values, which reads them.

    Raises:
      ValueError: naming the column and what differs.
    """
    for name, told in content["columns"].items():
        column = columns[name]
        held = {"rows": len(column), "dtype": column.dtype.name, "values": len(column.flat)}
        expected = {"rows": content.get("rows"), **told}
        if verify:
            held["digest"] = digest(column)
        for what, seen in held.items():
            if expected.get(what) != seen:
                raise ValueError(
                    f"{path} tells of {what} {expected.get(what)!r} in {name!r}, but the files "
                    f"hold {seen!r}; they are not of one writing: write again, or delete the JSON"
                )


def digest(column: Ragged) -> str:
    """Of all values, then all lengths, as the files hold them."""
    hashed = hashlib.blake2b(digest_size=16)
    flat = column.flat
    for start in range(0, len(flat), 1 << 20):
        hashed.update(np.ascontiguousarray(flat[start : start + (1 << 20)]).data)
    hashed.update(column.lengths.astype("<i4").tobytes())
    return hashed.hexdigest()
