"""Training: a compiled step, and a loop that yields.

A state is a tree `{"params": ..., "optimizer": ...}`; a step takes a state and a batch and returns
a new state and its metrics. `fit` calls the step and yields what it got, so the caller's `for` loop
is the place for everything else: evaluation, saving, stopping.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tqdm.auto import tqdm

from mfunc import optim
from mfunc.gradient import value_and_grad
from mfunc.optim import Optimizer
from mfunc.transform import jit
from mfunc.tree import Tree

Step = Callable[..., tuple[Tree, dict[str, Any]]]
Batch = Mapping[str, Any]


def train_step(loss: Callable[..., Any], optimizer: Optimizer, *, donate: bool = False) -> Step:
    """Compile one step of training: loss, gradient, update.

    Args:
      loss: `(params, batch, *frozen) -> (loss, count)`, as `next_token_loss` returns them. It is
        differentiated by `params` only; `frozen` are trees that it needs besides.
      optimizer: the pair that turns gradients into updates.
      donate: the step takes the state's memory and overwrites it; the state that it was given is
        dead afterwards. Less memory and time, most of all for models of many leaves.

    Returns:
      A jitted `step(state, batch, *frozen) -> (state, {"loss", "tokens"})`.

    Example:
      >>> import numpy as np
      >>> from mfunc.optim import sgd
      >>> def distance(params, batch):
      ...     return ((params["x"] - batch["to"]) ** 2).sum(), batch["to"].sum() * 0 + 1
      >>> state = init_state({"x": np.float32([0.0])}, sgd(0.25))
      >>> state, metrics = train_step(distance, sgd(0.25))(state, {"to": np.float32([4.0])})
      >>> float(metrics["loss"]), state["params"]["x"].asnumpy()
      (16.0, array([2.], dtype=float32))
    """

    def step(state, batch, *frozen, home=None):  # type: ignore[no-untyped-def]
        (value, count), grads = value_and_grad(loss, has_aux=True)(state["params"], batch, *frozen)
        params, after = optim.step(optimizer, grads, state["optimizer"], state["params"], home)
        return {"params": params, "optimizer": after}, {"loss": value, "tokens": count}

    return jit(step, donate_argnums=0, home="home") if donate else jit(step)


def init_state(params: Tree, optimizer: Optimizer) -> Tree:
    """Return the state before the first step.

    Example:
      >>> from mfunc.optim import sgd
      >>> sorted(init_state({}, sgd(0.1)))
      ['optimizer', 'params']
    """
    return {"params": params, "optimizer": optimizer.init(params)}


def fit(
    step: Step,
    state: Tree,
    batches: Iterable[Batch],
    *frozen: Tree,
    total: int | None = None,
    description: str = "fit",
    progress: bool = True,
) -> Iterator[tuple[Tree, dict[str, float]]]:
    """Run a step over batches and yield the state and the metrics after each.

    Args:
      step: `(state, batch, *frozen) -> (state, metrics)` with at least the metric `loss`; from
        `train_step`, or any function like it.
      state: the first state; it is never changed.
      batches: any iterable; training ends with it.
      frozen: trees that every step gets besides.
      total: how many batches there will be, for the progress bar.
      description: the words before the bar.
      progress: show a bar with the running loss and the trained tokens a second.

    Yields:
      `(state, metrics)`: the metrics of the step as floats, and `step` (1, 2, ...), `seconds` since
      the start, `running_loss` (mean over about 20 steps, weighted by tokens), `tokens_per_second`
      (trained tokens, since the second step: the first one compiles).

    Raises:
      FloatingPointError: the loss is not finite.

    Example:
      >>> def down(state, batch):
      ...     return state - batch, {"loss": float(state)}
      >>> [(state, metrics["loss"]) for state, metrics in fit(down, 9, [1, 2], progress=False)]
      [(8, 9.0), (6, 8.0)]
    """
    began = time.perf_counter()
    second, tokens, weight, weighted = began, 0.0, 0.0, 0.0
    with tqdm(batches, total=total, desc=description, unit="step", disable=not progress) as bar:
        for number, batch in enumerate(bar, 1):
            state, measured = step(state, batch, *frozen)
            metrics = {name: float(value) for name, value in measured.items()}
            _check_finite(metrics["loss"], number)
            count = metrics.get("tokens", 1.0)
            weight, weighted = 0.95 * weight + count, 0.95 * weighted + count * metrics["loss"]
            now = time.perf_counter()
            second, tokens = (now, 0.0) if number == 1 else (second, tokens + count)
            metrics["step"] = number
            metrics["seconds"] = now - began
            metrics["running_loss"] = weighted / weight if weight else metrics["loss"]
            metrics["tokens_per_second"] = tokens / (now - second) if number > 1 else 0.0
            bar.set_postfix_str(
                f"loss {metrics['running_loss']:.3f}, {metrics['tokens_per_second']:,.0f} tokens/s"
            )
            yield state, metrics


def _check_finite(loss: float, number: int) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"fit: the loss is {loss} at step {number}; lower the learning rate, clip gradients, "
            "or look at this batch"
        )


def evaluate(
    loss: Callable[..., Any], params: Tree, batches: Iterable[Batch], *frozen: Tree
) -> dict[str, float]:
    """Measure a loss over batches, weighted by trained tokens.

    Args:
      loss: `(params, batch, *frozen) -> (loss, count)`; compile it with `jit`.
      params: what it measures.
      batches: any iterable.
      frozen: trees that the loss gets besides.

    Returns:
      `loss` (mean over all tokens), `perplexity` and `tokens`.

    Raises:
      ValueError: there is no batch or no trained token.

    Laws:
      The result does not depend on how the rows are batched.

    Example:
      >>> evaluate(lambda params, batch: (batch, batch), {}, [1.0, 3.0])["loss"]
      2.5
    """
    total = tokens = 0.0
    for batch in batches:
        value, count = loss(params, batch, *frozen)
        total, tokens = total + float(value) * float(count), tokens + float(count)
    if tokens == 0:
        raise ValueError("evaluate: no trained token in any batch; nothing can be measured")
    return {"loss": total / tokens, "perplexity": math.exp(total / tokens), "tokens": tokens}
