"""What `fit` tells of a run besides the metrics of a step: means, rates, shares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import mindspore as ms
import numpy as np

FORGETS = 0.95  # what is left of a step in the running loss, one step later


class Totals(NamedTuple):
    """Sums over a run.

    Attributes:
      tokens: trained so far.
      weight: of `weighted`, in tokens that fade away.
      weighted: losses by that weight.
      timed_tokens: trained in steps that compiled nothing.
      timed_seconds: what those steps took.
    """

    tokens: float = 0.0
    weight: float = 0.0
    weighted: float = 0.0
    timed_tokens: float = 0.0
    timed_seconds: float = 0.0


def trained(metrics: Mapping[str, Any]) -> float:
    """Return how many tokens a step has trained; a step that does not count them counts as 1."""
    return metrics.get("tokens", 1.0)


def add(totals: Totals, metrics: Mapping[str, Any], seconds: float, *, compiled: bool) -> Totals:
    """Return the sums after one more step.

    Args:
      totals: before it.
      metrics: of the step; a loss that is no number counts for no mean.
      seconds: that it took, with the wait for its batch.
      compiled: whether it compiled, so that its time tells nothing of the next ones.

    Example:
      >>> after = add(Totals(), {"loss": 2.0, "tokens": 8.0}, 0.5, compiled=False)
      >>> after.tokens, after.weighted, after.timed_seconds
      (8.0, 16.0, 0.5)
    """
    usable = math.isfinite(metrics["loss"])
    count, loss = (trained(metrics), metrics["loss"]) if usable else (0.0, 0.0)
    return Totals(
        tokens=totals.tokens + count,
        weight=FORGETS * totals.weight + count,
        weighted=FORGETS * totals.weighted + count * loss,
        timed_tokens=totals.timed_tokens + count * (not compiled),
        timed_seconds=totals.timed_seconds + seconds * (not compiled),
    )


def told(totals: Totals, loss: float) -> dict[str, float]:
    """Return the metrics that sums give.

    Example:
      >>> told(Totals(tokens=8, weight=8, weighted=16, timed_tokens=8, timed_seconds=0.5), 1.0)
      {'tokens_seen': 8, 'running_loss': 2.0, 'tokens_per_second': 16.0}
    """
    seconds = totals.timed_seconds
    return {
        "tokens_seen": totals.tokens,
        "running_loss": totals.weighted / totals.weight if totals.weight else loss,
        "tokens_per_second": totals.timed_tokens / seconds if seconds else 0.0,
    }


def fill(batch: Any) -> float | None:
    """Return which share of a batch's places holds a real token, or `None` if it does not say.

    Example:
      >>> fill({"segment_ids": np.array([[1, 1, 2, 0]])}), fill({"input_ids": np.array([[5, 0]])})
      (0.75, None)
    """
    if not isinstance(batch, Mapping):
        return None
    real = batch.get("segment_ids", batch.get("attention_mask"))
    real = real.asnumpy() if isinstance(real, ms.Tensor) else real
    # A mask of more than two dimensions says who may look at whom.
    if not isinstance(real, np.ndarray) or real.ndim > 2 or not real.size:
        return None
    return np.count_nonzero(real > 0) / real.size


def words(metrics: Mapping[str, Any]) -> str:
    """Put metrics into the words of the progress bar.

    Example:
      >>> words({"running_loss": 1.25, "tokens_per_second": 4321.0, "fill": 0.987})
      'loss 1.250, 4,321 tokens/s, 99 % real'
    """
    share = f", {metrics['fill']:.0%} real".replace("%", " %") if "fill" in metrics else ""
    lost = f", {metrics['nonfinite']} not finite" if metrics.get("nonfinite") else ""
    return (
        f"loss {metrics['running_loss']:.3f}, {metrics['tokens_per_second']:,.0f} tokens/s"
        f"{share}{lost}"
    )
