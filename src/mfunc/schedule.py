"""Schedules: functions of the step, `step -> learning rate`.

They take a Python int, for a plot or a test, or an int Tensor inside a compiled step; the step of
the first update is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import Tensor, ops

Schedule = Callable[[Any], Any]


def constant(value: float) -> Schedule:
    """Return `value` at every step.

    Example:
      >>> constant(0.1)(7)
      0.1
    """

    def rate(step):  # type: ignore[no-untyped-def]
        return value

    return rate


def cosine(
    peak: float,
    *,
    total_steps: int,
    warmup_steps: int | None = None,
    warmup_ratio: float | None = None,
    end: float = 0.0,
) -> Schedule:
    """Rise linearly from 0 to `peak`, then fall along half a cosine to `end`.

    Args:
      peak: the rate when warm-up is over.
      total_steps: optimizer steps of the whole run; the rate stays at `end` after it.
      warmup_steps: optimizer steps of the rise; or
      warmup_ratio: its share of `total_steps`, rounded down.
      end: the last rate.

    Returns:
      A function of the step.

    Raises:
      ValueError: both ways of warm-up are given, or it is longer than the run.

    Example:
      >>> rate = cosine(1.0, total_steps=100, warmup_steps=10)
      >>> [round(rate(step), 3) for step in (0, 5, 10, 55, 100, 200)]
      [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]

    Source:
      Loshchilov and Hutter 2017, equation 5; transformers 4.57 `get_cosine_schedule_with_warmup`.
    """
    rise = _warmup("cosine", total_steps, warmup_steps, warmup_ratio)
    fall = max(total_steps - rise, 1)

    def rate(step):  # type: ignore[no-untyped-def]
        now = _number(step)
        # (1 + cos(pi t)) / 2 as a square: near the end the sum would have no digits in float32.
        root = _sin(0.5 * math.pi * _clip((total_steps - now) / fall))
        wave = root * root
        # Until the rise is over the wave stands at 1, so a product joins the two parts.
        return (end + (peak - end) * wave) * _risen(now, rise)

    return rate


def _warmup(name: str, total: int, steps: int | None, ratio: float | None) -> int:
    """Return the steps of the warm-up, or refuse the settings."""
    if total < 1:
        raise ValueError(f"schedule.{name}: total_steps={total}; it must be at least 1")
    if steps is not None and ratio is not None:
        raise ValueError(f"schedule.{name}: give warmup_steps or warmup_ratio, not both")
    if ratio is not None and not 0.0 <= ratio <= 1.0:
        raise ValueError(f"schedule.{name}: warmup_ratio={ratio}; it must be from 0 to 1")
    # Rounded first: 100 * 0.29 is a little less than 29.
    rise = int(round(total * ratio, 6)) if ratio is not None else steps or 0
    if not 0 <= rise <= total:
        raise ValueError(
            f"schedule.{name}: warmup_steps={rise} and total_steps={total}; "
            "warm-up must fit into the run"
        )
    return rise


def _risen(now, rise):  # type: ignore[no-untyped-def]
    """Return the share of the warm-up that is done; 1 where there is none."""
    return _clip(now / rise) if rise > 0 else 1.0


# A step is a Python int or a Tensor; these are the words in which the two differ.


def _number(step):  # type: ignore[no-untyped-def]
    return ops.cast(step, ms.float32) if isinstance(step, Tensor) else float(step)


def _clip(x):  # type: ignore[no-untyped-def]
    return ops.clamp(x, 0.0, 1.0) if isinstance(x, Tensor) else min(max(x, 0.0), 1.0)


def _sin(x):  # type: ignore[no-untyped-def]
    return ops.sin(x) if isinstance(x, Tensor) else math.sin(x)
