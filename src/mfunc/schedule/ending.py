"""Schedules that know the last step, and stay at `end` after it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from mfunc.schedule.rising import (
    INT32,
    Schedule,
    between,
    check_rates,
    number,
    rise_of,
    risen,
    root,
    sin,
)


def linear(
    peak: float,
    *,
    total_steps: int,
    warmup_steps: int | None = None,
    warmup_ratio: float | None = None,
    end: float = 0.0,
) -> Schedule:
    """Rise to `peak`, then fall along a line to `end`: `polynomial` of power 1.

    Args:
      peak: the rate when warm-up is over.
      total_steps: optimizer steps of the whole run; the rate stays at `end` after it.
      warmup_steps: optimizer steps of the rise; or
      warmup_ratio: its share of `total_steps`, rounded down.
      end: the last rate.

    Raises:
      ValueError: a setting is out of range, or both ways of warm-up are given.

    Example:
      >>> rate = linear(1.0, total_steps=100, warmup_steps=20)
      >>> [rate(step) for step in (0, 10, 20, 60, 100, 200)]
      [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]

    Source:
      transformers 5.23 `get_linear_schedule_with_warmup`.
    """
    check_rates("linear", peak=peak, end=end)
    rise = rise_of("linear", total_steps, warmup_steps, warmup_ratio)
    return _falling(peak, end, total_steps, max(total_steps - rise, 1), rise, _itself)


def polynomial(
    peak: float,
    *,
    total_steps: int,
    power: float,
    warmup_steps: int | None = None,
    warmup_ratio: float | None = None,
    end: float = 0.0,
) -> Schedule:
    """Rise to `peak`, then fall to `end` as a power of the share of the steps that is left.

    Args:
      peak: the rate when warm-up is over.
      total_steps: optimizer steps of the whole run; the rate stays at `end` after it.
      power: 1 is `linear`; above it the rate falls early, below it late.
      warmup_steps: optimizer steps of the rise; or
      warmup_ratio: its share of `total_steps`, rounded down.
      end: the last rate; in transformers and MindFormers it is 1e-7 by default.

    Raises:
      ValueError: a setting is out of range, or both ways of warm-up are given.

    Example:
      >>> rate = polynomial(1.0, total_steps=100, power=2.0)
      >>> [rate(step) for step in (0, 50, 100, 200)]
      [1.0, 0.25, 0.0, 0.0]

    Source:
      transformers 5.23 `get_polynomial_decay_schedule_with_warmup`.
    """
    check_rates("polynomial", peak=peak, end=end)
    if not 0.0 < power < math.inf:
        raise ValueError(f"schedule.polynomial: power={power}; it must be positive")
    rise = rise_of("polynomial", total_steps, warmup_steps, warmup_ratio)

    def curve(left):  # type: ignore[no-untyped-def]
        return left**power

    return _falling(peak, end, total_steps, max(total_steps - rise, 1), rise, curve)


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
      ValueError: a setting is out of range, or both ways of warm-up are given.

    Example:
      >>> rate = cosine(1.0, total_steps=100, warmup_steps=10)
      >>> [round(rate(step), 3) for step in (0, 5, 10, 55, 100, 200)]
      [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]

    Source:
      Loshchilov and Hutter 2017, equation 5; transformers 5.23 `get_cosine_schedule_with_warmup`.
    """
    check_rates("cosine", peak=peak, end=end)
    rise = rise_of("cosine", total_steps, warmup_steps, warmup_ratio)
    return _falling(peak, end, total_steps, max(total_steps - rise, 1), rise, _half_wave)


def cosine_with_restarts(
    peak: float,
    *,
    total_steps: int,
    cycles: int,
    warmup_steps: int | None = None,
    warmup_ratio: float | None = None,
    end: float = 0.0,
) -> Schedule:
    """Rise to `peak`, then fall along half a cosine again and again, each time from `peak`.

    Args:
      peak: the rate when warm-up is over, and at each restart.
      total_steps: optimizer steps of the whole run; the rate stays at `end` after it.
      cycles: how many equal falls there are.
      warmup_steps: optimizer steps of the rise; or
      warmup_ratio: its share of `total_steps`, rounded down.
      end: the rate at the foot of each fall.

    Raises:
      ValueError: a setting is out of range, or both ways of warm-up are given.

    Laws:
      With one cycle it is `cosine`.

    Example:
      >>> rate = cosine_with_restarts(1.0, total_steps=100, cycles=2)
      >>> [round(rate(step), 3) for step in (0, 25, 49, 50, 75, 100)]
      [1.0, 0.5, 0.001, 1.0, 0.5, 0.0]

    Source:
      transformers 5.23 `get_cosine_with_hard_restarts_schedule_with_warmup`.
    """
    check_rates("cosine_with_restarts", peak=peak, end=end)
    rise = rise_of("cosine_with_restarts", total_steps, warmup_steps, warmup_ratio)
    fall = max(total_steps - rise, 1)
    most = min(fall, INT32 // fall)
    if not 1 <= cycles <= most:
        raise ValueError(
            f"schedule.cosine_with_restarts: cycles={cycles}; it must be from 1 to {most}"
        )

    def rate(step):  # type: ignore[no-untyped-def]
        # In whole numbers: a rounding error at a restart is all that lies from `peak` to `end`.
        gone = between(step - rise, 0, fall) * cycles % fall
        wave = _half_wave(number(fall - gone) / fall) * number(step < total_steps)
        return (end + (peak - end) * wave) * risen(number(step), rise)

    return rate


def wsd(
    peak: float,
    *,
    total_steps: int,
    decay_steps: int,
    shape: Literal["cosine", "linear", "1-sqrt"] = "cosine",
    warmup_steps: int | None = None,
    warmup_ratio: float | None = None,
    end: float = 0.0,
) -> Schedule:
    """Warm up, stay at `peak` (stable), then decay to `end` in the last steps.

    Args:
      peak: the rate of the long middle.
      total_steps: optimizer steps of the whole run; the rate stays at `end` after it.
      decay_steps: optimizer steps of the fall.
      shape: of the fall; `"1-sqrt"` is one minus the root of its share that is done.
      warmup_steps: optimizer steps of the rise; or
      warmup_ratio: its share of `total_steps`, rounded down.
      end: the last rate.

    Raises:
      ValueError: a setting is out of range, both ways of warm-up are given, or warm-up and decay
        together are longer than the run.

    Example:
      >>> rate = wsd(1.0, total_steps=100, decay_steps=20, shape="linear", warmup_steps=10)
      >>> [rate(step) for step in (0, 5, 10, 80, 90, 100)]
      [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]

    Source:
      Hu et al. 2024 (MiniCPM), section 4; transformers 5.23 `get_wsd_schedule`.
    """
    check_rates("wsd", peak=peak, end=end)
    curves = {"cosine": _half_wave, "linear": _itself, "1-sqrt": _without_root}
    if shape not in curves:
        raise ValueError(f"schedule.wsd: shape={shape!r}; it must be one of {list(curves)}")
    rise = rise_of("wsd", total_steps, warmup_steps, warmup_ratio)
    if not 1 <= decay_steps <= total_steps - rise:
        raise ValueError(
            f"schedule.wsd: decay_steps={decay_steps}; it must be from 1 to "
            f"{total_steps - rise}, what the warm-up leaves of {total_steps} steps"
        )
    return _falling(peak, end, total_steps, decay_steps, rise, curves[shape])


def _falling(
    peak: float, end: float, total: int, fall: int, rise: int, curve: Callable[[Any], Any]
) -> Schedule:
    """Rise, stay, and fall to `end` in the last `fall` steps, as `curve` of the share left."""

    def rate(step):  # type: ignore[no-untyped-def]
        now = number(step)
        # Until the fall begins the curve stands at 1, so a product joins the parts.
        high = curve(between((total - now) / fall, 0.0, 1.0))
        return (end + (peak - end) * high) * risen(now, rise)

    return rate


# --- curves of the share that is left: 1 is the top, 0 the end ---


def _itself(left):  # type: ignore[no-untyped-def]
    return left


def _half_wave(left):  # type: ignore[no-untyped-def]
    # (1 - cos(pi left)) / 2 as a square: near the end the difference has no digits in float32.
    wave = sin(0.5 * math.pi * left)
    return wave * wave


def _without_root(left):  # type: ignore[no-untyped-def]
    # 1 - sqrt(1 - left), again without the difference.
    return left / (1.0 + root(1.0 - left))
