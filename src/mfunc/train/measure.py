"""A loss over many batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from tqdm.auto import tqdm

from mfunc.tree import Tree


def evaluate(
    loss: Callable[..., Any],
    params: Tree,
    batches: Iterable[Any],
    *frozen: Tree,
    total: int | None = None,
    description: str = "evaluate",
    progress: bool = True,
) -> dict[str, float]:
    """Measure a loss over batches, weighted by trained tokens.

    Args:
      loss: `(params, batch, *frozen) -> (loss, count)`; compile it with `jit`, once, outside.
      params: what it measures.
      batches: any iterable.
      frozen: trees that the loss gets besides.
      total: how many batches there will be, for the progress bar.
      description: the words before the bar.
      progress: show a bar, which goes when it is full.

    Returns:
      `loss` (mean over all tokens), `perplexity` (inf where it is too large for a float) and
      `tokens`.

    Raises:
      ValueError: there is no batch or no trained token.

    Laws:
      The result does not depend on how the rows are batched.

    Example:
      >>> evaluate(lambda params, batch: (batch, batch), {}, [1.0, 3.0], progress=False)["loss"]
      2.5
    """
    weighted = tokens = 0.0
    bar = {"total": total, "desc": description, "unit": "batch", "leave": False}
    for batch in tqdm(batches, disable=not progress, **bar):
        value, count = loss(params, batch, *frozen)
        if count := float(count):
            weighted, tokens = weighted + float(value) * count, tokens + count
    if tokens == 0:
        raise ValueError("evaluate: no trained token in any batch; nothing can be measured")
    mean = weighted / tokens
    return {"loss": mean, "perplexity": perplexity(mean), "tokens": tokens}


def perplexity(loss: float) -> float:
    """Return e to the loss, inf where a float cannot hold it.

    Example:
      >>> perplexity(0.0), perplexity(1e4)
      (1.0, inf)
    """
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
