"""Answers that are spans of a passage: from scores of starts and ends to the best spans."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mfunc.data.check import integer


class Span(NamedTuple):
    """Tokens `start` to `end`, both within, of a window; the score is the sum of two logits."""

    score: float
    window: int
    start: int
    end: int


def spans(
    start_logits: ArrayLike,
    end_logits: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    n_best: int = 20,
    max_answer_length: int = 30,
) -> list[Span]:
    """Return the best spans of one question, best first.

    In each window the `n_best` starts are joined with the `n_best` ends.

    Args:
      start_logits: float [W, S]: the passage was cut into W windows of S tokens (1 if it fits).
      end_logits: float [W, S].
      mask: bool [W, S], the tokens that may be in an answer: those of the passage, not of the
        question, special tokens or padding. All of them without it.
      n_best: how many starts, ends, and results at most.
      max_answer_length: tokens of a span at most.

    Returns:
      At most `n_best` spans, fewer or none where few are possible. With offsets of tokens in the
      text the answer is `text[offsets[window][start][0] : offsets[window][end][1]]`.

    Raises:
      ValueError: shapes that are not equal, no token, a logit that is NaN, a setting below 1.

    Laws:
      Every span lies in the mask at both ends, is not reversed and not too long.

    Example:
      >>> spans([[0.0, 5.0, 1.0, 0.0]], [[0.0, 1.0, 4.0, 6.0]], [[False, True, True, False]])
      [Span(score=9.0, window=0, start=1, end=2), Span(score=6.0, window=0, start=1, end=1),
       Span(score=5.0, window=0, start=2, end=2)]

    Source:
      Devlin et al. 2019, `run_squad.py`. Its answer without any possible span is the word "empty";
      here the list is empty.
    """
    count = integer("spans", "n_best", n_best, least=1)
    longest = integer("spans", "max_answer_length", max_answer_length, least=1)
    starts, ends = (np.asarray(a, dtype=np.float64) for a in (start_logits, end_logits))
    allowed = np.ones(starts.shape, bool) if mask is None else np.asarray(mask)
    _check(starts, ends, allowed)
    found = []
    for window in range(len(starts)):
        a, b = (_largest(scores[window], count) for scores in (starts, ends))
        length = b[None, :] - a[:, None] + 1
        fits = (length >= 1) & (length <= longest)
        fits &= allowed[window, a][:, None] & allowed[window, b][None, :]
        i, j = np.nonzero(fits)
        score = starts[window, a[i]] + ends[window, b[j]]
        found += [
            Span(s, window, *at)
            for s, *at in zip(score.tolist(), a[i].tolist(), b[j].tolist(), strict=True)
        ]
    return sorted(found, key=lambda span: -span.score)[:count]  # stable: earlier windows first


def _largest(scores: np.ndarray, count: int) -> np.ndarray:
    return np.argsort(-scores, kind="stable")[:count]


def _check(starts: np.ndarray, ends: np.ndarray, mask: np.ndarray) -> None:
    if starts.ndim != 2 or not starts.shape == ends.shape == mask.shape:
        raise ValueError(
            "spans: start_logits, end_logits and mask must be [windows, tokens], all three alike; "
            f"got {starts.shape}, {ends.shape} and {mask.shape}"
        )
    if not starts.size:
        raise ValueError(f"spans: no tokens (shape {starts.shape}); nothing can be found")
    if mask.dtype != bool:
        raise TypeError(f"spans: mask must be bool, got {mask.dtype}")
    for name, array in (("start_logits", starts), ("end_logits", ends)):
        if np.isnan(array).any():
            window, token = np.argwhere(np.isnan(array))[0]
            raise ValueError(f"spans: {name} of window {window} is NaN at token {token}")
