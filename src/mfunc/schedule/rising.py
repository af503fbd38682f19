"""What every schedule has: a warm-up, and words for a step that is an int or a Tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import Tensor, ops

Schedule = Callable[[Any], Any]

INT32 = 2**31 - 1


def rise_of(name: str, total: int | None, steps: int | None, ratio: float | None) -> int:
    """Return the steps of the warm-up, or refuse the settings."""
    if total is not None and total < 1:
        raise ValueError(f"schedule.{name}: total_steps={total}; it must be at least 1")
    if steps is not None and ratio is not None:
        raise ValueError(f"schedule.{name}: give warmup_steps or warmup_ratio, not both")
    if ratio is not None and not 0.0 <= ratio <= 1.0:
        raise ValueError(f"schedule.{name}: warmup_ratio={ratio}; it must be from 0 to 1")
    if ratio is not None and total is None:
        raise ValueError(
            f"schedule.{name}: warmup_ratio={ratio} is a share of total_steps; give them too"
        )
    # Rounded first: 100 * 0.29 is a little less than 29.
    rise = steps or 0 if ratio is None or total is None else int(round(total * ratio, 6))
    if rise < 0 or (total is not None and rise > total):
        raise ValueError(
            f"schedule.{name}: warmup_steps={rise} and total_steps={total}; "
            "warm-up must fit into the run"
        )
    return rise


def check_rates(name: str, **rates: float) -> None:
    """Refuse a rate that is negative or not finite."""
    for which, rate in rates.items():
        if not 0.0 <= rate < math.inf:
            raise ValueError(
                f"schedule.{name}: {which}={rate}; a rate must be finite and not negative"
            )


def risen(now, rise):  # type: ignore[no-untyped-def]
    """Return the share of the warm-up that is done; 1 where there is none."""
    return between(now / rise, 0.0, 1.0) if rise > 0 else 1.0


# --- a step is a Python int or a Tensor; these are the words in which the two differ ---


def number(step):  # type: ignore[no-untyped-def]
    """Return a float; of a Tensor a float32 one."""
    return ops.cast(step, ms.float32) if isinstance(step, Tensor) else float(step)


def between(x, low, high):  # type: ignore[no-untyped-def]
    """Return `x`, or the bound that it is beyond."""
    return ops.clamp(x, low, high) if isinstance(x, Tensor) else min(max(x, low), high)


def sin(x):  # type: ignore[no-untyped-def]
    """Return the sine."""
    return ops.sin(x) if isinstance(x, Tensor) else math.sin(x)


def root(x):  # type: ignore[no-untyped-def]
    """Return the square root."""
    return ops.sqrt(x) if isinstance(x, Tensor) else math.sqrt(x)
