"""Functions that `fit` calls after a step: at intervals, to evaluate, to stop early."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mfunc.train.measure import evaluate
from mfunc.train.meter import trained
from mfunc.tree import Tree

Callback = Callable[[Tree, dict[str, Any]], "Mapping[str, Any] | None"]


def merge(callback: Callback, state: Tree, metrics: dict[str, Any]) -> None:
    """Call a callback and put what it returns into the metrics.

    Raises:
      TypeError: it returns neither a mapping nor `None`.
      ValueError: it returns a metric that is there already; only "stop" may come twice.

    Example:
      >>> metrics = {"step": 3, "loss": 1.0}
      >>> merge(lambda state, metrics: {"double": 2 * metrics["loss"]}, {}, metrics)
      >>> metrics
      {'step': 3, 'loss': 1.0, 'double': 2.0}
    """
    told = callback(state, metrics)
    if told is None:
        return
    name = getattr(callback, "__qualname__", repr(callback))
    if not isinstance(told, Mapping):
        raise TypeError(
            f"fit: the callback {name} returned {type(told).__name__}; it must be a mapping of "
            "metrics or None"
        )
    for key in told:
        if key in metrics and key != "stop":
            raise ValueError(
                f"fit: the callback {name} returned the metric {key!r}, which is there already; "
                "give it another name"
            )
    metrics.update(told)


def every(*callbacks: Callback, steps: int | None = None, tokens: float | None = None) -> Callback:
    """Call callbacks at an interval, each with what the ones before it returned.

    Args:
      callbacks: functions `(state, metrics) -> mapping or None`.
      steps: call them when the number of the step is a multiple of it. An epoch is as many steps
        as it has batches.
      tokens: or in the step in which the trained tokens so far reach a multiple of it.

    Returns:
      One callback.

    Raises:
      ValueError: not exactly one of `steps` and `tokens` is given, or it is not positive.

    Laws:
      When it calls depends on the metrics only, so a resumed run calls at the same steps.

    Example:
      >>> half = every(lambda state, metrics: {"half": metrics["step"] / 2}, steps=2)
      >>> [half({}, {"step": step}) for step in range(1, 5)]
      [None, {'half': 1.0}, None, {'half': 2.0}]
    """
    given = {name: n for name, n in (("steps", steps), ("tokens", tokens)) if n is not None}
    if len(given) != 1:
        raise ValueError(f"every: {given or 'no interval'}; give one of steps and tokens")
    ((name, interval),) = given.items()
    if not interval > 0:
        raise ValueError(f"every: {name}={interval}; it must be positive")

    def call(state: Tree, metrics: dict[str, Any]) -> dict[str, Any] | None:
        reached = metrics["step" if name == "steps" else "tokens_seen"]
        before = reached - (1 if name == "steps" else trained(metrics))
        if reached // interval == before // interval:
            return None
        seen = dict(metrics)
        for callback in callbacks:
            merge(callback, state, seen)
        return {key: value for key, value in seen.items() if key not in metrics}

    return call


def evaluating(
    loss: Callable[..., Any],
    batches: Callable[[], Iterable[Any]],
    *frozen: Tree,
    name: str = "eval",
    progress: bool = True,
) -> Callback:
    """Return a callback that evaluates the parameters.

    Args:
      loss: as for `evaluate`, compiled with `jit`.
      batches: gives them anew for each evaluation, `lambda: md.batch(8)(rows)`.
      frozen: trees that the loss gets besides.
      name: what the metrics begin with.
      progress: show a bar while it runs.

    Returns:
      A callback that returns `eval_loss`, `eval_perplexity`, `eval_tokens`, and what else the loss
      tells by name.

    Raises:
      TypeError: `batches` cannot be called.

    Example:
      >>> callback = evaluating(lambda params, batch: (params * batch, 1), lambda: [1.0, 3.0])
      >>> callback({"params": 2.0}, {})["eval_loss"]
      4.0
    """
    if not callable(batches):
        raise TypeError(
            f"evaluating: batches is {type(batches).__name__}, which the first evaluation may use "
            "up; give a function that gives them anew: lambda: md.batch(8)(rows)"
        )

    def call(state: Tree, metrics: dict[str, Any]) -> dict[str, float]:
        told = evaluate(
            loss, state["params"], batches(), *frozen, description=name, progress=progress
        )
        return {f"{name}_{key}": value for key, value in told.items()}

    return call


def early_stopping(
    metric: str = "eval_loss",
    *,
    patience: int,
    min_delta: float = 0.0,
    mode: str = "min",
    history: Iterable[float | None] = (),
) -> Callback:
    """Return a callback that stops a run in which a metric no longer gets better.

    Args:
      metric: the name of the metric. It must be there at every call, so this stands behind what
        measures it, in one `every`.
      patience: how many calls in a row may bring no new best; the run stops at the last of them.
      min_delta: by how much a value must be better than the best.
      mode: "min" or "max".
      history: values of the metric before a resumed run, in order: those of its log.

    Returns:
      A callback that returns `None` or `{"stop": why}`. A value that is no number is not better.

    Raises:
      ValueError: a setting is out of range; in a run: there is no such metric.

    Laws:
      With its `history` it stops where a run without a break stops.

    Example:
      >>> stop = early_stopping("loss", patience=2)
      >>> [stop({}, {"step": i, "loss": loss}) for i, loss in enumerate([3.0, 2.0, 2.5])]
      [None, None, None]
      >>> stop({}, {"step": 4, "loss": 2.0})
      {'stop': 'loss has not been better than 2 for 2 calls'}

    Source:
      transformers 4.57 `EarlyStoppingCallback`.
    """
    if patience < 1 or not min_delta >= 0 or mode not in ("min", "max"):
        raise ValueError(
            f"early_stopping: patience={patience}, min_delta={min_delta}, mode={mode!r}; patience "
            "is at least 1, min_delta at least 0, mode 'min' or 'max'"
        )
    sign = 1.0 if mode == "min" else -1.0
    best, worse = math.inf, 0

    def look(value: float | None) -> None:
        nonlocal best, worse
        cost = math.nan if value is None else sign * value
        better = cost < best - min_delta
        best, worse = (cost, 0) if better else (best, worse + 1)

    for value in history:
        look(value)

    def call(state: Tree, metrics: dict[str, Any]) -> dict[str, str] | None:
        if metric not in metrics:
            raise ValueError(
                f"early_stopping: no metric {metric!r} at step {metrics['step']}, only "
                f"{sorted(metrics)}; put it behind what measures it: every(evaluating(...), "
                "early_stopping(...), steps=n)"
            )
        look(metrics[metric])
        if worse < patience:
            return None
        return {"stop": f"{metric} has not been better than {sign * best:.6g} for {worse} calls"}

    return call
