"""Lengths that may differ from call to call of one compiled function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import attrs

Axes = tuple["Dim | None", ...]


def _fits(instance: Dim, attribute: Any, value: int) -> None:
    if not 0 <= value < instance.divisor:
        raise ValueError(
            f"Dim: remainder={value} must be from 0 to below divisor={instance.divisor}"
        )


def _sizes(given: Sequence[int]) -> tuple[int, ...]:
    return tuple(given)


@attrs.frozen
class Dim:
    """A size that is known only when a compiled function is called: `divisor * k + remainder`.

    Attributes:
      name: axes of one name have one size in a call.
      divisor: what the size less `remainder` is a multiple of.
      remainder: from 0 to below `divisor`.
      min: the least size.
      max: the largest size, or `None`.
      static: sizes that get a graph of their own, which is faster than the one for all others (see
        `static_sizes`).

    Raises:
      ValueError: no size would fit.

    Example:
      >>> length = Dim("length", divisor=8, remainder=1, max=4097)
      >>> length.fits(17), length.fits(18)
      (True, False)
      >>> print(length)
      length = 8 k + 1, from 1 to 4097
    """

    name: str = "length"
    divisor: int = attrs.field(default=1, kw_only=True, validator=attrs.validators.ge(1))
    remainder: int = attrs.field(default=0, kw_only=True, validator=_fits)
    min: int = attrs.field(default=1, kw_only=True, validator=attrs.validators.ge(1))
    max: int | None = attrs.field(default=None, kw_only=True)
    static: tuple[int, ...] = attrs.field(default=(), kw_only=True, converter=_sizes)

    def __attrs_post_init__(self) -> None:
        """Refuse a range that holds no size, and a static size that is none."""
        if self.max is not None and not any(map(self.fits, range(self.min, self.max + 1))):
            raise ValueError(f"Dim: no size fits {self}")
        for size in self.static:
            if not self.fits(size):
                raise ValueError(f"Dim: static size {size} does not fit; allowed is {self}")

    def fits(self, size: int) -> bool:
        """Tell whether an axis may have this size."""
        inside = size >= self.min and (self.max is None or size <= self.max)
        return inside and size % self.divisor == self.remainder

    def at_least(self, size: int) -> int:
        """Return the smallest size that fits and is not below `size`.

        Raises:
          ValueError: `max` is below it.

        Example:
          >>> Dim(divisor=8, remainder=1).at_least(18)
          25
        """
        size = max(size, self.min)
        found = size + (self.remainder - size) % self.divisor
        if self.max is not None and found > self.max:
            raise ValueError(f"Dim: no size from {size} on fits; allowed is {self}")
        return found

    def __str__(self) -> str:
        """Say which sizes fit."""
        form = f"{self.divisor} k + {self.remainder}" if self.divisor > 1 else "any"
        return f"{self.name} = {form}, from {self.min} to {self.max or 'no limit'}"


def static_sizes(
    counts: Mapping[int, int], *, seconds: float, faster: float, compile_seconds: float
) -> tuple[int, ...]:
    """Say which sizes come often enough for a graph of their own.

    A graph for one size saves a share of each of its steps, and costs one more compilation. What
    sizes there will be is known before training begins: the plan of the batches tells.

    Args:
      counts: how many steps there will be of each size.
      seconds: of a step of size 1 in the graph for all sizes; a step of size n takes n times that.
      faster: share of a step's time that a graph of its own saves, 0 to 1.
      compile_seconds: of one graph.

    Returns:
      The sizes for `Dim(static=)`, increasing.

    Raises:
      ValueError: a share outside of 0..1, or negative seconds.

    Laws:
      no choice takes less time in all, by these numbers; more steps never make fewer sizes.

    Example:
      >>> static_sizes({128: 900, 256: 40, 512: 1}, seconds=1e-3, faster=0.25, compile_seconds=2.0)
      (128, 256)
    """
    if not 0 <= faster <= 1 or seconds < 0 or compile_seconds < 0:
        raise ValueError(
            f"static_sizes: faster={faster} must be from 0 to 1, seconds={seconds} and "
            f"compile_seconds={compile_seconds} not negative"
        )
    worth = (n for n, times in counts.items() if times * n * seconds * faster > compile_seconds)
    return tuple(sorted(worth))


def axes_of(
    dynamic: Mapping[str, Sequence[Dim | None]], paths: Sequence[str], where: str
) -> list[Axes | None]:
    """Say which axes of each leaf are dynamic.

    Args:
      dynamic: `{pattern: axes}`; a pattern names leaves by the end of their path (`input_ids`,
        `batch/input_ids`, `layers/*/q`), and axes are a `Dim` or `None` for each axis.
      paths: of the leaves.
      where: the name of the function, for errors.

    Raises:
      ValueError: a pattern matches no leaf, or two match one.

    Example:
      >>> n = Dim("n")
      >>> axes_of({"ids": (None, n)}, ["0/w", "1/ids"], "step")[1] == (None, n)
      True
    """
    found: list[Axes | None] = [None] * len(paths)
    for pattern, axes in dynamic.items():
        places = [i for i, path in enumerate(paths) if _matches(pattern, path)]
        if not places:
            raise ValueError(
                f"jit({where}): dynamic names {pattern!r}, which matches no argument; there are "
                f"{', '.join(paths) or 'none'}"
            )
        for i in places:
            if found[i] is not None:
                raise ValueError(f"jit({where}): two entries of dynamic match {paths[i]}")
            found[i] = tuple(axes)
    return found


def _matches(pattern: str, path: str) -> bool:
    """Compare part by part from the end."""
    wanted, parts = pattern.split("/"), path.split("/")
    last = parts[-len(wanted) :]
    return len(last) == len(wanted) and all(map(fnmatchcase, last, wanted))


def check(
    axes: Sequence[Axes | None], shapes: Sequence[Any], paths: Sequence[str], where: str
) -> None:
    """Refuse sizes that do not fit, by path.

    Raises:
      ValueError: a leaf has another number of axes, a size does not fit its `Dim`, or two axes of
        one name differ.

    Example:
      >>> check([(Dim("n", max=4),)], [(5,)], ["0/x"], "step")
      Traceback (most recent call last):
      ...
      ValueError: jit(step): 0/x has size 5 at axis 0; allowed is n = any, from 1 to 4
    """
    sizes: dict[str, tuple[int, str]] = {}
    for its, shape, path in zip(axes, shapes, paths, strict=True):
        if its is None:
            continue
        if shape is None or len(shape) != len(its):
            raise ValueError(
                f"jit({where}): dynamic gives {path} {len(its)} axes, its shape is {shape}"
            )
        for i, (dim, size) in enumerate(zip(its, shape, strict=True)):
            if dim is None:
                continue
            if not dim.fits(size):
                raise ValueError(
                    f"jit({where}): {path} has size {size} at axis {i}; allowed is {dim}"
                )
            other, place = sizes.setdefault(dim.name, (size, path))
            if other != size:
                raise ValueError(
                    f"jit({where}): {dim.name} is {other} in {place} and {size} in {path}; axes of "
                    "one name have one size"
                )
