"""Metrics of named entities: tags of tokens, read as chunks."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from mfunc.metrics.classes import IGNORED, choices
from mfunc.metrics.pairs import listed, needed

TagRows = Sequence[Sequence[str]]
TAG = re.compile(r"[BIES]-.+", re.DOTALL)


def entities(predictions: TagRows, references: TagRows) -> dict[str, float]:
    """Return precision, recall and F1 of entities; type and both ends must be right.

    Tags are BIO, BIOS or BIOES: `B-x` begins an entity of type x, `I-x` goes on, `S-x` is one by
    itself. `B-x` alone is an entity of one token. `I-x` where no x is open begins one, as in
    CoNLL's own script.

    Args:
      predictions: n rows of tags, such as `["B-PER", "I-PER", "O"]`.
      references: n rows of tags, as long as the predictions.

    Returns:
      `precision, recall, f1` over all entities (micro), and `precision/x, recall/x, f1/x` for each
      type x that was predicted or is right. Percent; 0 where nothing was predicted, or was there to
      be found.

    Raises:
      ValueError: rows do not match, a tag is none of the above, or the references hold no entity.
      ImportError: without the extra `metrics`.

    Example:
      >>> found = entities([["B-PER", "O", "S-LOC"]], [["B-PER", "O", "B-ORG"]])
      >>> found["f1"], found["f1/PER"], found["recall/ORG"]
      (50.0, 100.0, 0.0)

    Source:
      seqeval 1.2 in its default mode, which is conlleval's.
    """
    said, wanted = _rows("predictions", predictions), _rows("references", references)
    if len(said) != len(wanted):
        raise ValueError(f"entities: {len(said)} rows of predictions but {len(wanted)} references")
    for row, (a, b) in enumerate(zip(said, wanted, strict=True)):
        if len(a) != len(b):
            raise ValueError(
                f"entities: row {row} has {len(a)} predicted tags but {len(b)} references"
            )
    types = {tag[2:] for row in wanted for tag in row} - {""}
    if not types:
        raise ValueError("entities: the references hold no entity; nothing can be measured")
    types |= {tag[2:] for row in said for tag in row} - {""}
    count = needed("entities", "seqeval.metrics.sequence_labeling").precision_recall_fscore_support
    micro = count(wanted, said, average="micro", zero_division=0)
    each = count(wanted, said, average=None, zero_division=0)  # in the order of sorted types
    names = ["", *(f"/{type_}" for type_ in sorted(types))]
    return {
        f"{kind}{name}": 100.0 * float(share)
        for kind, total, shares in zip(("precision", "recall", "f1"), micro, each, strict=False)
        for name, share in zip(names, [total, *shares], strict=True)
    }


def tags(predictions: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> list[list[str]]:
    """Return the tags of the tokens that count, for `entities`.

    Args:
      predictions: float [B, S, K] scores or int [B, S] classes; the labels themselves for the
        references.
      labels: int [B, S]; -100 (padding, special tokens, the rest of a word) leaves a token out.
      names: K tags, that of each class.

    Returns:
      B lists of tags.

    Raises:
      ValueError: as `accuracy`; or a class without a name.

    Example:
      >>> names, labels = ["O", "B-PER", "I-PER"], [[-100, 1, 2, -100]]
      >>> tags([[0, 1, 0, 0]], labels, names), tags(labels, labels, names)
      ([['B-PER', 'O']], [['B-PER', 'I-PER']])
    """
    chosen, right = choices("tags", predictions, labels)
    if right.ndim != 2:
        raise ValueError(f"tags: labels must be [rows, tokens], got {right.shape}")
    counted = right != IGNORED
    unknown = chosen[counted & ((chosen < 0) | (chosen >= len(names)))]
    if unknown.size:
        raise ValueError(f"tags: class {unknown[0]} has no name; there are {len(names)} names")
    named = np.asarray([*names], dtype=object)
    return [named[row[keep]].tolist() for row, keep in zip(chosen, counted, strict=True)]


def _rows(name: str, rows: TagRows) -> list[list[str]]:
    """Lists of tags, as seqeval wants them, each tag one that it can read."""
    found = [
        listed("entities", f"row {i} of {name}", row)
        for i, row in enumerate(listed("entities", name, rows))
    ]
    if not found:
        raise ValueError(f"entities: no {name}; nothing can be measured")
    known = {"O"}
    for i, row in enumerate(found):
        for tag in row:
            if not isinstance(tag, str) or not (tag in known or TAG.fullmatch(tag)):
                raise ValueError(
                    f"entities: tag {tag!r} in row {i} of {name} must be 'O', or 'B-', 'I-', 'E-' "
                    "or 'S-' and a type"
                )
            known.add(tag)
    return found
