"""Schedules without a last step."""

from __future__ import annotations

from mfunc.schedule.rising import (
    INT32,
    Schedule,
    between,
    check_rates,
    number,
    rise_of,
    risen,
    root,
)


def constant(
    peak: float,
    *,
    total_steps: int | None = None,
    warmup_steps: int | None = None,
    warmup_ratio: float | None = None,
) -> Schedule:
    """Stay at `peak`, after the warm-up if there is one.

    Args:
      peak: the rate.
      total_steps: only to know what `warmup_ratio` is a share of.
      warmup_steps: optimizer steps of the rise; or
      warmup_ratio: its share of `total_steps`, rounded down.

    Raises:
      ValueError: a setting is out of range, or both ways of warm-up are given.

    Example:
      >>> constant(0.1)(7), constant(0.1, warmup_steps=4)(1)
      (0.1, 0.025)

    Source:
      transformers 5.23 `get_constant_schedule_with_warmup`.
    """
    check_rates("constant", peak=peak)
    rise = rise_of("constant", total_steps, warmup_steps, warmup_ratio)

    def rate(step):  # type: ignore[no-untyped-def]
        return peak * risen(number(step), rise)

    return rate


def inverse_sqrt(
    peak: float,
    *,
    timescale: int | None = None,
    total_steps: int | None = None,
    warmup_steps: int | None = None,
    warmup_ratio: float | None = None,
) -> Schedule:
    """Rise to `peak`, then fall as one over the root of the step; there is no last step.

    Args:
      peak: the rate when warm-up is over.
      timescale: steps after the warm-up until the square of the rate has halved; by default those
        of the warm-up, or 10,000 if there are none.
      total_steps: only to know what `warmup_ratio` is a share of.
      warmup_steps: optimizer steps of the rise; or
      warmup_ratio: its share of `total_steps`, rounded down.

    Raises:
      ValueError: a setting is out of range, or both ways of warm-up are given.

    Example:
      >>> rate = inverse_sqrt(1.0, warmup_steps=100)
      >>> [rate(step) for step in (0, 50, 100, 400, 10000)]
      [0.0, 0.5, 1.0, 0.5, 0.1]

    Source:
      Vaswani et al. 2017, equation 3; transformers 5.23 `get_inverse_sqrt_schedule`.
    """
    check_rates("inverse_sqrt", peak=peak)
    rise = rise_of("inverse_sqrt", total_steps, warmup_steps, warmup_ratio)
    scale = (rise or 10_000) if timescale is None else timescale
    if scale < 1:
        raise ValueError(f"schedule.inverse_sqrt: timescale={timescale}; it must be at least 1")

    def rate(step):  # type: ignore[no-untyped-def]
        later = number(between(step - rise, 0, INT32))
        return peak * root(scale / (later + scale)) * risen(number(step), rise)

    return rate
