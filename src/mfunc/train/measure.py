"""A loss over many batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
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
    """Measure a loss, and what else is told with it, over batches, weighted by trained tokens.

    Args:
      loss: `(params, batch, *frozen) -> (loss, count)`, or `(means by their names, count)` as
        `loss.next_token_measures` gives them; compile it with `jit`, once, outside.
      params: what it measures.
      batches: any iterable.
      frozen: trees that the loss gets besides.
      total: how many batches there will be, for the progress bar.
      description: the words before the bar.
      progress: show a bar, which goes when it is full.

    Returns:
      `loss` (mean over all tokens), or all means; with a loss `perplexity` (inf where it is too
      large for a float); `tokens`.

    Raises:
      ValueError: there is no batch or no trained token.

    Laws:
      The result does not depend on how the rows are batched.

    Example:
      >>> evaluate(lambda params, batch: (batch, batch), {}, [1.0, 3.0], progress=False)["loss"]
      2.5
    """
    sums: dict[str, float] = {}
    tokens = 0.0
    bar = {"total": total, "desc": description, "unit": "batch", "leave": False}
    for batch in tqdm(batches, disable=not progress, **bar):
        value, count = loss(params, batch, *frozen)
        if count := float(count):
            means = value if isinstance(value, Mapping) else {"loss": value}
            sums = {name: sums.get(name, 0.0) + float(x) * count for name, x in means.items()}
            tokens += count
    if tokens == 0:
        raise ValueError("evaluate: no trained token in any batch; nothing can be measured")
    told = {name: total / tokens for name, total in sums.items()}
    more = {"perplexity": perplexity(told["loss"])} if "loss" in told else {}
    return {**told, **more, "tokens": tokens}


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
