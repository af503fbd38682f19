"""Adam by kernels that overwrite parameters and means where they lie."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore.ops import operations as P

from mfunc import staging, tree
from mfunc.donation import THERE
from mfunc.optim.core import narrow, wide
from mfunc.optim.moments import move, shares
from mfunc.staging import Seen, Stage, listed

# From so many numbers on, two kernels are faster than the one that does all: 30 leaves of a million
# took 43 ms by two and 87 by one, 300 of 16 numbers 24 and 8.
LARGE = 1 << 14


def overwrite_adam(adam, decays, grads, state, params, home):  # type: ignore[no-untyped-def]
    """Do what `update` and `apply_updates` do, one or two kernels a leaf.

    Args:
      adam: the settings, without `nesterov` and `trust`.
      decays: the weight decay of each leaf, in a graph constants.
      grads: as for `Optimizer.overwrite`.
      state: the same.
      params: the same.
      home: the same.
    """
    rate, share = adam.rate_at(state["count"]), shares(adam, state["count"])
    first, second = share[0], share[2]
    root = second**0.5
    # The kernels know nothing of a correction of `eps`, the small one of none at all.
    small = (rate * root / first, adam.eps * root, first / root)
    large = (1.0 - first, 1.0 - second, rate, adam.eps * root)
    there = home["optimizer"]
    given = (tree.leaves(home["params"]), there["mean"], there["square"], tree.leaves(grads))
    slow = (rate, share, tree.leaves(params), state["mean"], state["square"])
    new = _kernels(*given, decays)(adam, given, small, large, slow)
    after = {"count": state["count"] + 1, "mean": new[1], "square": new[2]}
    return tree.refill(params, new[0]), after


def _write_kernels(seen: list[Seen]) -> Callable[..., Any]:
    """Write `overwritten(...)`: a line or two for each leaf; the new parameters and both means."""
    lines, new = [], []
    kinds, shapes, decays = staging.dtypes(seen[0]), staging.shapes(seen[0]), seen[4].pattern
    for i, (kind, shape, decay) in enumerate(zip(kinds, shapes, decays, strict=True)):
        param, mean, square, grad = (f"given[{j}][{i}]" for j in range(4))
        if kind != ms.float32:
            old = f"slow[2][{i}], slow[3][{i}], slow[4][{i}]"
            lines.append(f"    new{i} = moved(adam, slow[0], slow[1], {decay}, {grad}, {old})")
            new.append([f"new{i}[{j}]" for j in range(3)])
            continue
        which = "large" if math.prod(shape) >= LARGE else "small"
        leaf = f"{param}, {mean}, {square}, wide({grad})"
        lines.append(f"    {which}_one(adam, {which}, {decay}, {leaf})")
        new.append(["there"] * 3)
    columns = [f"({listed([*column, ''])})" for column in zip(*new, strict=True)]
    text = "\n".join([
        "def overwritten(adam, given, small, large, slow):", *lines,
        f"    return ({listed(columns or ['()'] * 3)})",
    ])  # fmt: skip
    return staging.write(
        "overwritten",
        text,
        moved=_moved,
        wide=wide,
        small_one=_small,
        large_one=_large,
        there=THERE,
    )


_kernels = Stage(_write_kernels)


def _moved(adam, rate, share, decay, grad, param, mean, square):  # type: ignore[no-untyped-def]
    update, mean, square = move(adam, rate, share, grad, mean, square, param, decay)
    return narrow(wide(param) + update, param), mean, square


def _small(adam, said, decay, param, mean, square, grad):  # type: ignore[no-untyped-def]
    rate, eps, times = said
    P.AdamWeightDecay()(param, mean, square, rate, adam.b1, adam.b2, eps, decay * times, grad)


def _large(adam, said, decay, param, mean, square, grad):  # type: ignore[no-untyped-def]
    first, second, rate, eps = said
    if decay:
        param.mul_(1.0 - rate * decay)
    P.Adam()(param, mean, square, first, second, rate, adam.b1, adam.b2, eps, grad)
