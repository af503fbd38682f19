"""Optimizers that scale each number by what its gradients were: Adam, AdamW, LAMB."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor

from mfunc import tree
from mfunc.optim.choosing import Mask, decays
from mfunc.optim.core import Optimizer, check, column, schedule_of, zeros
from mfunc.optim.in_place import overwrite_adam
from mfunc.optim.moments import Adam, move, shares
from mfunc.schedule import Schedule


def adam(
    learning_rate: float | Schedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    nesterov: bool = False,
) -> Optimizer:
    """Adam: `adamw` without weight decay.

    Args:
      learning_rate: a number or a schedule.
      b1: decay of the mean of gradients, a step.
      b2: decay of the mean of their squares, a step.
      eps: added to the root of the mean of squares.
      nesterov: look one step ahead.

    Raises:
      ValueError: a number is out of range.

    Example:
      >>> params = {"w": Tensor([1.0, 1.0])}
      >>> optimizer = adam(0.1)
      >>> updates, _ = optimizer.update({"w": Tensor([5.0, -0.01])}, optimizer.init(params), params)
      >>> updates["w"].asnumpy().round(4)
      array([-0.1,  0.1], dtype=float32)

    Source:
      Kingma and Ba 2015, algorithm 1; optax 0.2 `adam`.
    """
    _check_adam("adam", b1, b2, eps, 0.0)
    settings = Adam(schedule_of("adam", learning_rate), b1, b2, eps, nesterov=nesterov)
    return _by_means("adam", settings, 0.0, None)


def adamw(
    learning_rate: float | Schedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    mask: Mask | None = None,
    bias_correction: bool = True,
    nesterov: bool = False,
) -> Optimizer:
    """Adam with decoupled weight decay.

    Args:
      learning_rate: a number or a schedule.
      b1: decay of the mean of gradients, a step.
      b2: decay of the mean of their squares, a step.
      eps: added to the root of the mean of squares.
      weight_decay: the share of a parameter that a step of rate 1 takes away.
      mask: which parameters decay, patterns of paths or a function of a path
        (`all_but("*norm*", "*bias")`); all by default.
      bias_correction: divide the means by what is missing in the first steps; without it this is
        MindFormers' `FP32StateAdamWeightDecay`.
      nesterov: look one step ahead.

    Raises:
      ValueError: a number is out of range, or a pattern matches no parameter (from `init`).

    Example:
      >>> params = {"w": Tensor([1.0, 1.0])}
      >>> optimizer = adamw(0.1, weight_decay=0.0)
      >>> updates, _ = optimizer.update({"w": Tensor([5.0, -0.01])}, optimizer.init(params), params)
      >>> updates["w"].asnumpy().round(4)
      array([-0.1,  0.1], dtype=float32)

    Source:
      Loshchilov and Hutter 2019, algorithm 2; optax 0.2 `adamw`.
    """
    _check_adam("adamw", b1, b2, eps, weight_decay)
    rate_at = schedule_of("adamw", learning_rate)
    settings = Adam(rate_at, b1, b2, eps, bias_correction=bias_correction, nesterov=nesterov)
    return _by_means("adamw", settings, weight_decay, mask)


def lamb(
    learning_rate: float | Schedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    mask: Mask | None = None,
) -> Optimizer:
    """AdamW with each leaf's update made as long as the leaf, for large batches.

    Args:
      learning_rate: a number or a schedule: the share of a leaf's norm that a step moves it.
      b1: decay of the mean of gradients, a step.
      b2: decay of the mean of their squares, a step.
      eps: added to the root of the mean of squares.
      weight_decay: the share of a parameter that joins its update before that gets its length.
      mask: which parameters decay, patterns of paths or a function of a path; all by default.

    Raises:
      ValueError: a number is out of range, or a pattern matches no parameter (from `init`).

    Example:
      >>> params = {"w": Tensor([3.0, 4.0])}
      >>> optimizer = lamb(0.1)
      >>> updates, _ = optimizer.update({"w": Tensor([9.0, 0.0])}, optimizer.init(params), params)
      >>> updates["w"].asnumpy().round(4)  # a tenth of 5
      array([-0.5, -0. ], dtype=float32)

    Source:
      You et al. 2020, algorithm 2; optax 0.2 `lamb`.
    """
    _check_adam("lamb", b1, b2, eps, weight_decay)
    settings = Adam(schedule_of("lamb", learning_rate), b1, b2, eps, trust=True)
    return _by_means("lamb", settings, weight_decay, mask)


def _by_means(name: str, adam: Adam, weight_decay: float, mask: Mask | None) -> Optimizer:
    """Return the optimizer of these settings."""
    decays_of = decays(name, weight_decay, mask)

    def init(params):  # type: ignore[no-untyped-def]
        decays_of(params)
        return {"count": Tensor(0, ms.int32), "mean": zeros(params), "square": zeros(params)}

    # Not partials: with them the compiler took one argument for another.
    def update(grads, state, params):  # type: ignore[no-untyped-def]
        return _update(adam, decays_of(params), grads, state, params)

    def overwrite(grads, state, params, home):  # type: ignore[no-untyped-def]
        return overwrite_adam(adam, decays_of(params), grads, state, params, home)

    plain = not adam.nesterov and not adam.trust
    return Optimizer(init, update, overwrite if plain else None)


def _update(adam, decays_now, grads, state, params):  # type: ignore[no-untyped-def]
    rate, share = adam.rate_at(state["count"]), shares(adam, state["count"])

    def step(grad, mean, square, param, decay):  # type: ignore[no-untyped-def]
        return move(adam, rate, share, grad, mean, square, param, decay)

    leaves = tree.leaves(params)
    moved = tree.map(step, tree.leaves(grads), state["mean"], state["square"], leaves, decays_now)
    return tree.refill(params, column(0, leaves, moved)), {
        "count": state["count"] + 1,
        "mean": column(1, leaves, moved),
        "square": column(2, leaves, moved),
    }


def _check_adam(name: str, b1: float, b2: float, eps: float, weight_decay: float) -> None:
    check(name, below=1.0, b1=b1, b2=b2)
    check(name, eps=eps, weight_decay=weight_decay)
