"""Why two rows of tokens differ: a name where one mistake explains all of it, else "unknown".

Every rule undoes a mistake and compares the whole row: without bos tokens, say, both must be equal.
Nothing is named because it looks likely.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from mfunc.data.columns import IGNORED_LABEL
from mfunc.data.packing.mask import runs

UNKNOWN = "unknown"


class Row(NamedTuple):
    """One row of one side; `mask` is segment ids or an attention mask."""

    ids: np.ndarray
    labels: Any = None
    mask: Any = None


class Special(NamedTuple):
    """Ids of special tokens, as far as they are known."""

    bos: int | None = None
    eos: int | None = None
    pad: int | None = None


class Change(NamedTuple):
    """Where two rows begin to differ, and what stands there up to where their ends agree."""

    at: int
    a: tuple[int, ...]
    b: tuple[int, ...]


def change(a: np.ndarray, b: np.ndarray) -> Change:
    """The longest common beginning, and behind it the longest common end, taken away.

    Example:
      >>> change(np.array([1, 2, 3, 9]), np.array([1, 5, 9]))
      Change(at=1, a=(2, 3), b=(5,))
    """
    at = _common(a, b)
    end = _common(a[at:][::-1], b[at:][::-1])
    return Change(at, tuple(a[at : len(a) - end].tolist()), tuple(b[at : len(b) - end].tolist()))


def ids_cause(a: Row, b: Row, special: Special, tokenizer: Any, common: set[Change]) -> str:
    """Why the ids of two rows differ.

    Args:
      a: a row.
      b: the row in its place; other ids.
      special: ids of special tokens.
      tokenizer: has `decode`, or None.
      common: changes that several rows share: of the system text.
    """
    x, y = content(a, special), content(b, special)
    if named := _padding(a, b, x, y):
        return named
    if named := _special_tokens(x, y, special):
        return named
    if tokenizer is not None and (named := _spaces(x, y, tokenizer)):
        return named
    if change(x, y) in common:
        return "system text differs"
    for longer, shorter, name in ((a, b, "b"), (b, a, "a")):
        if named := _missing(longer, shorter, special):
            return f"{named} in {name}"
    return UNKNOWN


def labels_cause(a: Row, b: Row, special: Special) -> str:
    """Why the labels of two rows of the same ids differ."""
    if a.labels is None or b.labels is None or len(a.labels) != len(b.labels):
        return UNKNOWN
    trained_a, trained_b = a.labels != IGNORED_LABEL, b.labels != IGNORED_LABEL
    for one, other in ((a, b), (b, a)):
        if np.array_equal(one.labels[1:], other.labels[:-1]):
            right = np.array_equal(a.labels[trained_a], a.ids[trained_a])
            return f"labels shifted by one in {'b' if right else 'a'}"
    if (a.labels != b.labels)[trained_a & trained_b].any():
        return UNKNOWN
    only_a, only_b = trained_a & ~trained_b, trained_b & ~trained_a
    if only_a.any() and only_b.any():
        return UNKNOWN
    if only_b.any():
        return _trained_more(b, trained_b, trained_a, special).format(more="b", less="a")
    return _trained_more(a, trained_a, trained_b, special).format(more="a", less="b")


def mask_cause(a: Row, b: Row) -> str:
    """Why the masks of two rows of the same ids and labels differ."""
    if a.mask is None or b.mask is None or len(a.mask) != len(b.mask):
        return UNKNOWN
    for ones, other, one_name, name in ((a.mask, b.mask, "a", "b"), (b.mask, a.mask, "b", "a")):
        if (ones == 1).all() and other.max(initial=0) > 1:
            return f"mask is ones in {one_name} (plain pack), segment ids in {name} (neat pack)"
        real = other > 0
        if (ones == 1).all() and real[: real.sum()].all() and other.max(initial=0) <= 1:
            return f"mask of padding is 1 in {one_name}, 0 in {name}"
        if np.array_equal(ones, real) and other.max(initial=0) > 1:
            return f"mask is 0 and 1 in {one_name}, segment ids in {name}"
    if np.array_equal(np.flatnonzero(np.diff(a.mask)), np.flatnonzero(np.diff(b.mask))):
        return "segments are numbered otherwise"
    return "segments have other borders" if np.array_equal(a.mask > 0, b.mask > 0) else UNKNOWN


def content(row: Row, special: Special) -> np.ndarray:
    """The ids without the padding behind them: what the mask, or a run of the pad token, says.

    Where pad is also eos, labels tell them apart; without labels the first of the run is eos.
    """
    ids, labels, mask = row
    if mask is not None and len(mask) == len(ids) and len(ids) and mask[-1] == 0:
        return ids[: len(ids) - _trailing(mask == 0)]
    if special.pad is None:
        return ids
    padding = ids == special.pad
    if labels is not None and len(labels) == len(ids):
        padding &= labels == IGNORED_LABEL
    count = _trailing(padding)
    kept = int(labels is None and special.pad == special.eos and count > 0)
    return ids[: len(ids) - count + kept]


def _padding(a: Row, b: Row, x: np.ndarray, y: np.ndarray) -> str:
    """The contents x and y are the same; or they end with runs of tokens that must be padding."""
    if np.array_equal(x, y):
        tails = [row.ids[len(x) :] for row in (a, b)]
    else:
        at = change(x, y).at
        tails = [x[at:], y[at:]]
        for row, tail in zip((a, b), tails, strict=True):
            labels = None if row.labels is None else row.labels[at : at + len(tail)]
            trained = labels is not None and (labels != IGNORED_LABEL).any()
            if len(np.unique(tail)) > 1 or len(tail) == 1 or trained:
                return ""
    if len(tails[0]) and len(tails[1]) and tails[0][0] != tails[1][0]:
        return f"pad differs: {tails[0][0]} in a, {tails[1][0]} in b"
    return f"extra padding in {'a' if len(tails[0]) > len(tails[1]) else 'b'}"


def _special_tokens(x: np.ndarray, y: np.ndarray, special: Special) -> str:
    """Only bos or eos tokens are more or fewer."""
    tokens = {name: t for name, t in (("bos", special.bos), ("eos", special.eos)) if t is not None}
    known = list(tokens.values())
    if not np.array_equal(x[~np.isin(x, known)], y[~np.isin(y, known)]):
        return ""
    named = []
    for name, token in tokens.items():
        more = int((y == token).sum()) - int((x == token).sum())
        twice = _twice(y, token) - _twice(x, token)
        if more and more == twice:
            named.append(f"{name} doubled in {'b' if more > 0 else 'a'}")
        elif more:
            named.append(f"{name} {'extra' if more > 0 else 'missing'} in b")
    return ", ".join(named)


def _twice(ids: np.ndarray, token: int) -> int:
    """How often the token follows itself."""
    return int(((ids[1:] == token) & (ids[:-1] == token)).sum())


def _spaces(x: np.ndarray, y: np.ndarray, tokenizer: Any) -> str:
    """The text is the same, apart from spaces."""
    # A decoder drops a space that it begins with: before both rows goes a token that is text.
    texts = (t for t in (*x.tolist(), *y.tolist()) if (decoded(tokenizer, [t]) or "").strip())
    first = next(texts, None)
    if first is None:
        return ""
    text_a, text_b = (decoded(tokenizer, [first, *ids.tolist()]) for ids in (x, y))
    if text_a is None or text_b is None:
        return ""
    if text_a == text_b:
        return "same text in other tokens, or other special tokens"
    if text_a.replace(" ", "") == text_b.replace(" ", ""):
        return "space differs (a dummy prefix before a piece, or a trimmed text)"
    return ""


def decoded(tokenizer: Any, ids: Iterable[int]) -> str | None:
    """Text of ids; None where they are not text."""
    try:
        return tokenizer.decode([int(i) for i in ids])
    except Exception:  # of whatever kind: the ids may be of another tokenizer
        return None


def _missing(longer: Row, shorter: Row, special: Special) -> str:
    """The prompt and the answer are what they were, but for an end, or a part of the prompt."""
    x, y = content(longer, special), content(shorter, special)
    if not len(y) or len(y) >= len(x):
        return ""
    if _begins(x, y):
        return "truncated"
    if longer.labels is None or shorter.labels is None:
        return ""
    n, m = (_prompt(row.labels[: len(ids)]) for row, ids in ((longer, x), (shorter, y)))
    if not _begins(x[n:], y[m:]) or change(x[:n], y[:m]).b:
        return ""
    return "truncated" if _begins(x[:n], y[:m]) else "part of the prompt missing"


def _begins(whole: np.ndarray, part: np.ndarray) -> bool:
    """Whether `whole` begins with `part`, or with all of it but the last token, which ends both."""
    if len(part) > 1 and len(whole) and part[-1] == whole[-1]:
        part = part[:-1]
    return np.array_equal(whole[: len(part)], part)


def _prompt(labels: np.ndarray) -> int:
    """Tokens before the first trained one."""
    trained = labels != IGNORED_LABEL
    return int(trained.argmax()) if trained.any() else len(labels)


def _trained_more(row: Row, trained: np.ndarray, fewer: np.ndarray, special: Special) -> str:
    """What the side {more} trains, and the side {less} does not."""
    extra = trained & ~fewer
    where = np.flatnonzero(extra)
    end = len(content(row._replace(labels=None), special))
    if end == len(row.ids) and _trailing(row.ids == row.ids[-1]) > 1:
        end -= _trailing(row.ids == row.ids[-1])
    if where[0] >= end:
        return "padding trained in {more}"
    if where.tolist() == [0]:
        return "first token trained in {more}"
    if special.eos is not None and (row.ids[where] == special.eos).all():
        return "eos untrained in {less}"
    untrained = ~fewer
    untrained[0] = extra[0]  # nothing predicts the first token: trained or not, no matter
    untrained[end:] &= extra[end:]
    if extra[:2].any() and _whole_runs(extra, untrained):  # a prompt is what a row begins with
        return "prompt trained in {more}"
    return "answer untrained in {less}" if _whole_runs(extra, trained) else UNKNOWN


def _whole_runs(chosen: np.ndarray, among: np.ndarray) -> bool:
    """The chosen places are whole runs of those, and a run that is not chosen has none."""
    starts, lengths = runs(among.astype(np.int8)[None])
    taken = np.add.reduceat(chosen & among, starts, dtype=np.int64)
    inside = among[starts]
    whole = (taken == lengths) | (taken == 0)
    return bool(whole[inside].all() and not chosen[~among].any())


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """How many values are the same from the beginning."""
    size = min(len(a), len(b))
    differ = a[:size] != b[:size]
    return int(differ.argmax()) if differ.any() else size


def _trailing(flags: np.ndarray) -> int:
    """How many are true at the end."""
    return int(flags[::-1].argmin()) if not flags.all() else len(flags)
