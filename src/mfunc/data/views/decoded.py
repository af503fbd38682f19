"""A sample as one reads it: text, with what is trained and what is a special token marked."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from mfunc.data.columns import IGNORED_LABEL

TRAINED, SPECIAL, PLAIN = "\x1b[32m", "\x1b[7m", "\x1b[0m"  # green, inverse


def show(
    input_ids: Any,
    tokenizer: Any,
    *,
    labels: Any = None,
    segment_ids: Any = None,
    colour: bool = False,
) -> str:
    r"""Decode one row.

        ‹<s>›Q: Add 1, 2. A:⟦ 3‹</s>›⟧             ⟦trained⟧  ‹special token›

    With `colour` trained tokens are green and special ones inverse, and nothing stands around them.
    A special token is told from text that spells it. Segments stand apart, each under its number
    and size; padding is only counted.

    Args:
      input_ids: integers [S].
      tokenizer: has `decode`; special tokens are those of its `special_ids`, if it has that.
      labels: integers [S]; without them nothing is marked as trained.
      segment_ids: integers [S], 0 is padding; without them the row is one segment.
      colour: write the codes of a terminal.

    Returns:
      Some lines.

    Raises:
      ValueError: if labels or segments are not as many as the ids.

    Laws:
      without marks the text is what `decode` gives, segment by segment, and the special names.

    Example:
      >>> class Bytes:
      ...     special_ids = {0: "</s>"}
      ...     def decode(self, ids):
      ...         return bytes(i for i in ids if i).decode()
      >>> print(show([*b"Hi", *b"!", 0], Bytes(), labels=[-100, -100, 33, 0]))
      Hi⟦!‹</s>›⟧
    """
    ids = np.asarray(input_ids)
    trained = np.zeros(len(ids), bool) if labels is None else np.asarray(labels) != IGNORED_LABEL
    marks = np.ones(len(ids), np.int64) if segment_ids is None else np.asarray(segment_ids)
    if not len(ids) == len(trained) == len(marks):
        raise ValueError(
            f"show: {len(ids)} input_ids, {len(trained)} labels, {len(marks)} segment_ids; "
            "they must agree"
        )
    special = getattr(tokenizer, "special_ids", {})
    edges = np.flatnonzero(np.diff(marks, prepend=-1, append=-1)) if len(ids) else marks
    bounds = list(pairwise(edges.tolist()))
    lines = []
    for start, stop in bounds:
        part = slice(start, stop)
        count = f"{stop - start:,} tokens, {int(trained[part].sum()):,} trained"
        if marks[start] == 0:
            lines.append(f"── padding: {stop - start:,} places")
            continue
        if len(bounds) > 1:
            lines.append(f"── segment {marks[start]}: {count}")
        lines.append(_marked(ids[part].tolist(), trained[part], tokenizer, special, colour))
    return "\n".join(lines)


def _marked(
    ids: list[int], trained: np.ndarray, tokenizer: Any, special: dict[int, str], colour: bool
) -> str:
    """One segment. A run is decoded behind what is before it: its first space is else lost."""
    kinds = [(bool(t), i if i in special else None) for i, t in zip(ids, trained, strict=True)]
    changes = [n for n in range(1, len(ids)) if kinds[n] != kinds[n - 1] or ids[n] in special]
    edges = [0, *changes, len(ids)]
    out, before = [], ""
    inside = False
    for start, stop in pairwise(edges):
        learned, name = kinds[start]
        if learned != inside and not colour:
            out.append("⟦" if learned else "⟧")
        inside = learned
        text = tokenizer.decode(ids[:stop])
        run, before = text[len(before) :], text
        if name is not None:
            run = special[name] if colour else f"‹{special[name]}›"
        codes = TRAINED * learned + SPECIAL * (name is not None)
        out.append(f"{codes}{run}{PLAIN}" if colour and codes else run)
    return "".join(out) + "⟧" * (inside and not colour)
