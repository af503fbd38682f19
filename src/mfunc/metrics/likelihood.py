"""Metrics of losses: how probable the model finds what is right."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from mfunc.metrics.classes import class_labels


def perplexity(losses: ArrayLike, counts: ArrayLike) -> float:
    """Return exp of the mean loss a token, over all tokens of all batches.

    Args:
      losses: mean nats a token, of any shape: one number a batch, or a row, or a token.
      counts: how many tokens each is the mean of, of the same shape; 0 leaves it out.

    Returns:
      Perplexity, at least 1 for a true likelihood; `inf` where a float64 cannot hold it (above 709
      nats).

    Raises:
      ValueError: the shapes differ, a number is not finite, a count is negative, or all are 0.

    Laws:
      It does not depend on how the tokens are batched.

    Example:
      >>> round(perplexity([1.0, 3.0], [30, 10]), 4) == round(math.exp(1.5), 4)
      True

    Source:
      Jelinek et al. 1977. MindFormers averages over batches, whatever they hold.
    """
    nats, weights = finite("perplexity", "losses", losses), finite("perplexity", "counts", counts)
    if nats.shape != weights.shape:
        raise ValueError(
            f"perplexity: losses have the shape {nats.shape} but counts {weights.shape}; each loss "
            "needs the number of its tokens"
        )
    if (weights < 0).any():
        raise ValueError(f"perplexity: a count is {weights.min():g}; it must be at least 0")
    total = weights.sum()
    if total == 0:
        raise ValueError("perplexity: no trained token in any batch; nothing can be measured")
    mean = float((nats * (weights / total)).sum())
    return math.exp(mean) if mean < 709.0 else math.inf


def prompt_accuracy(losses: ArrayLike, labels: ArrayLike) -> float:
    """Return how often the right candidate has the smallest loss.

    A text is classified by a language model: it is put behind a prompt for each candidate label
    ("this is about sports: ...", "this is about culture: ..."), and the least surprising one wins.

    Args:
      losses: [N, K], the mean nats a token of text n behind the prompt of candidate k.
      labels: int [N], the right candidate, 0 to K - 1.

    Returns:
      Percent. Of equal losses the first candidate wins.

    Raises:
      ValueError: shapes that do not fit, no row, a loss that is not finite, an unknown label.

    Example:
      >>> prompt_accuracy([[2.0, 1.0], [0.5, 3.0]], [1, 1])
      50.0

    Source:
      MindFormers 1.3 `PromptAccMetric`, which counts in float16: wrong above 2048 rows.
    """
    nats = finite("prompt_accuracy", "losses", losses)
    if nats.ndim != 2:
        raise ValueError(
            f"prompt_accuracy: losses must be [texts, candidates], got the shape {nats.shape}"
        )
    right = class_labels("prompt_accuracy", labels, nats.shape[:1], nats.shape[1], ignored=False)
    return 100.0 * float((nats.argmin(1) == right).mean())


def finite(where: str, name: str, values: ArrayLike) -> np.ndarray:
    """Float64 numbers, at least one, all finite.

    Example:
      >>> finite("perplexity", "losses", [1.0, float("nan")])
      Traceback (most recent call last):
      ValueError: perplexity: losses hold nan at index 1; every number must be finite
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise ValueError(f"{where}: no {name}; nothing can be measured")
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        at = ", ".join(map(str, wrong[0]))
        raise ValueError(
            f"{where}: {name} hold {array[tuple(wrong[0])]} at index {at}; every number must be "
            "finite"
        )
    return array
