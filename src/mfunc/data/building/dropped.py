"""Which rows a transform dropped, and why: for people to look at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from toolz.functoolz import Compose

from mfunc.data.columns import ORIGIN, Columns, num_rows, take_rows
from mfunc.data.compose import Transform
from mfunc.data.dialogue.messages import RowError


class Dropped(NamedTuple):
    """A row that is no sample: its number from 0, where it came from, the reason in a word."""

    row: int
    origin: str
    reason: str
    seen: str


def strict_form(function: Callable[[Columns], Any]) -> Transform | None:
    """The first step, if it drops invalid rows, as one that raises instead."""
    first = function.first if isinstance(function, Compose) else function
    if isinstance(first, Compose):
        return strict_form(first)
    if not isinstance(first, Transform) or first.settings.get("invalid") != "drop":
        return None
    return first.builder(**{**first.settings, "invalid": "error"})


def dropped_rows(
    strict: Transform, columns: Columns, kept: Iterable[str], first: int = 0
) -> list[Dropped]:
    """What `strict` says of the rows that are not among those kept.

    Args:
      strict: from `strict_form`.
      columns: rows, with their origins.
      kept: the origins of rows that became samples.
      first: number of the first row.

    Example:
      >>> from mfunc.data import conversations
      >>> rows = {"instruction": ["Add."], "output": [None], "_origin": ["a.json item 1"]}
      >>> dropped_rows(strict_form(conversations(style="alpaca", invalid="drop")), rows, [])
      [Dropped(row=0, origin='a.json item 1', reason='missing_answer',
               seen="'output' is missing, but must be text")]
    """
    there, found = set(kept), []
    for i in range(num_rows("dropped_rows", columns)):
        origin = columns[ORIGIN][i]
        if origin in there:
            continue
        try:
            strict(take_rows(columns, np.array([i])))
        except ValueError as error:
            if not isinstance(error.__cause__, RowError):
                raise
            found.append(Dropped(first + i, origin, error.__cause__.reason, str(error.__cause__)))
    return found


def dump(path: Path, dropped: Iterable[Dropped]) -> None:
    """Write them, a JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(d._asdict(), ensure_ascii=False) + "\n" for d in dropped)
