"""`fit`: a loop that runs a step over batches and yields."""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tqdm.auto import tqdm

from mfunc.train import meter
from mfunc.train.callbacks import Callback, merge
from mfunc.train.meter import Totals
from mfunc.train.nonfinite import Judge, judge
from mfunc.train.step import Step
from mfunc.tree import Tree


def fit(
    step: Step,
    state: Tree,
    batches: Iterable[Any],
    *frozen: Tree,
    start: int = 0,
    total: int | None = None,
    callbacks: Sequence[Callback] = (),
    on_nonfinite: str = "raise",
    max_nonfinite: int = 10,
    snapshot_every: int = 100,
    bad_batches: str | os.PathLike[str] | None = None,
    tokens_seen: float = 0.0,
    description: str = "fit",
    progress: bool = True,
) -> Iterator[tuple[Tree, dict[str, Any]]]:
    """Run a step over batches and yield the state and the metrics after each.

    Args:
      step: `(state, batch, *frozen) -> (state, metrics)` with at least the metric `loss`; from
        `train_step`, or any function like it.
      state: the first state; it is never changed, but dead if the step donates it.
      batches: any iterable, which begins with batch number `start`; training ends with it.
      frozen: trees that every step gets besides.
      start: how many steps the state has seen; the first one here is number `start + 1`.
      total: the number of the last step; `None` is as many as there are batches.
      callbacks: functions `(state, metrics) -> mapping or None`, called in their order after every
        step (`every` makes that an interval). What one returns is merged into the metrics, and
        `{"stop": "why"}` ends the loop after this step.
      on_nonfinite: what a loss does that is no number. "raise"; "skip" goes on with the state
        before the step; "roll_back" goes on with a copy of a finite state that is at most
        `snapshot_every` steps older, and with the next batch; "count" goes on with what the step
        returned, for optimizers that leave out such steps themselves (`optim.skip_nonfinite`,
        `optim.dynamic_loss_scale`).
      max_nonfinite: raise after all when more than so many losses in a row are no numbers.
      snapshot_every: steps from one copy of the state to the next, with "roll_back".
      bad_batches: a folder to which each batch is written whose loss was no number, as
        `step_00000123.npz`.
      tokens_seen: by the steps before `start`: the metric of this name when the state was saved.
      description: the words before the bar.
      progress: show a bar with the running loss, trained tokens a second, the share of places that
        hold a real token, and how long it will take.

    Yields:
      `(state, metrics)`: `step` (`start + 1`, ...); the metrics of the step as floats; `seconds`
      since the start; `tokens_seen`, trained tokens so far; `running_loss` (mean over about 20
      steps, weighted by tokens); `tokens_per_second` (trained tokens, with the time for batches and
      without that for callbacks and for the caller, and without steps that compile: 0 for the
      first); `fill`, the share of real tokens, if `segment_ids` or an `attention_mask` [B, S] of
      the batch says so; what callbacks returned. Unless the policy is "raise" also `nonfinite`, how
      many losses were no numbers; with such a loss `tokens` is 0, `bad_batch` is the path of the
      batch and `rolled_back_to` the number of the state.

    Raises:
      FloatingPointError: the loss is not finite, and the policy says so.
      ValueError: a setting is out of range, or a callback returned a metric that is there.

    Laws:
      `fit(start=n)` from the state of step n, with the batches from number n on, gives what the
      run without a break gives, but for times and running means.

    Example:
      >>> def down(state, batch):
      ...     return state - batch, {"loss": float(state)}
      >>> [(state, metrics["loss"]) for state, metrics in fit(down, 9, [1, 2], progress=False)]
      [(8, 9.0), (6, 8.0)]
    """
    if start < 0 or (total is not None and total < start):
        raise ValueError(
            f"fit: start={start}, total={total}; start counts the steps that are done, total all"
        )
    decide = judge(
        on_nonfinite, state, start=start, limit=max_nonfinite, snapshot_every=snapshot_every,
        folder=bad_batches,
    )  # fmt: skip
    taken = itertools.islice(batches, None if total is None else total - start)
    bar = functools.partial(
        tqdm, taken, total=total, initial=start, desc=description, unit="step",
        disable=not progress,
    )  # fmt: skip
    return _run(step, state, bar, frozen, start, callbacks, decide, Totals(tokens=tokens_seen))


def _run(
    step: Step,
    state: Tree,
    make_bar: Callable[[], Any],
    frozen: tuple[Tree, ...],
    start: int,
    callbacks: Sequence[Callback],
    decide: Judge,
    totals: Totals,
) -> Iterator[tuple[Tree, dict[str, Any]]]:
    """Do what `fit` says, when its result is asked for."""
    began = resumed = time.perf_counter()
    with make_bar() as bar:
        for number, batch in enumerate(bar, start + 1):
            before, graphs = state, _graphs(step)
            state, measured = step(before, batch, *frozen)
            metrics = _floats(measured, number)
            state = decide(before, state, batch, metrics)
            now = time.perf_counter()
            compiled = number == start + 1 or _graphs(step) > graphs
            totals = meter.add(totals, metrics, now - resumed, compiled=compiled)
            metrics["seconds"] = now - began
            metrics |= meter.told(totals, metrics["loss"])
            share = meter.fill(batch)
            if share is not None:
                metrics["fill"] = share
            for callback in callbacks:
                merge(callback, state, metrics)
            bar.set_postfix_str(meter.words(metrics), refresh=False)
            yield state, metrics
            if "stop" in metrics:
                return
            resumed = time.perf_counter()


def _floats(measured: Mapping[str, Any], number: int) -> dict[str, Any]:
    if "loss" not in measured:
        raise ValueError(f"fit: the step tells no metric 'loss', only {sorted(measured)}")
    return {"step": number, **{name: float(value) for name, value in measured.items()}}


def _graphs(step: Step) -> int:
    """Return how many graphs a step has compiled, 0 if it is not of `jit`."""
    return step.compiles() if hasattr(step, "compiles") else 0
