"""What to do when a loss is no number: raise, skip the step, roll back, or count."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from mfunc import tree
from mfunc.checkpoint import write_whole
from mfunc.donation import Donated, copied
from mfunc.tree import Tree

POLICIES = ("raise", "skip", "roll_back", "count")

# (state before, state after, batch, metrics) -> the state to go on with
Judge = Callable[[Tree, Tree, Any, dict[str, Any]], Tree]


def judge(
    policy: str,
    state: Tree,
    *,
    start: int,
    limit: int,
    snapshot_every: int,
    folder: str | os.PathLike[str] | None,
) -> Judge:
    """Return the function that decides after each step which state goes on.

    Args:
      policy: one of `POLICIES`; `fit` says what they mean.
      state: the first one, the first snapshot of "roll_back".
      start: its number.
      limit: how many losses in a row may be no numbers.
      snapshot_every: steps from one snapshot to the next.
      folder: where the batches are kept whose loss was no number, or `None`.

    Returns:
      `(before, after, batch, metrics) -> state`, which adds to the metrics what `fit` says.

    Raises:
      ValueError: a setting is out of range, or "roll_back" from a state that is not finite. In a
        run: "skip" with a step that donates.
      FloatingPointError: in a run: the policy is "raise", or there were too many in a row.

    Example:
      >>> decide = judge("skip", 0, start=0, limit=1, snapshot_every=1, folder=None)
      >>> decide(0, 1, None, {"step": 1, "loss": 3.0})
      1
      >>> decide(1, 2, None, {"step": 2, "loss": math.nan})
      1
    """
    _check(policy, limit, snapshot_every)
    kept = (start, _snapshot(state)) if policy == "roll_back" else None
    total = row = 0

    def decide(before: Tree, after: Tree, batch: Any, metrics: dict[str, Any]) -> Tree:
        nonlocal kept, total, row
        number = metrics["step"]
        if policy == "skip" and number <= start + 2:  # the first state may be of arrays
            _refuse_donation(before)
        if math.isfinite(metrics["loss"]):
            row = 0
            if kept and number % snapshot_every == 0 and _not_finite(after) is None:
                kept = number, tree.map(_copy, after)
        else:
            total, row = total + 1, row + 1
            path = None if folder is None else _save(batch, Path(folder), number)
            if policy == "raise" or row > limit:
                raise FloatingPointError(_words(metrics["loss"], number, row, path))
            metrics["tokens"] = 0.0
            if path:
                metrics["bad_batch"] = str(path)
            if policy == "skip":
                after = before
            elif kept:
                metrics["rolled_back_to"], after = kept[0], tree.map(_copy, kept[1])
        if policy != "raise":
            metrics["nonfinite"] = total
        return after

    return decide


def _check(policy: str, limit: int, snapshot_every: int) -> None:
    if policy not in POLICIES:
        raise ValueError(f"fit: on_nonfinite={policy!r}; it is one of {', '.join(POLICIES)}")
    for name, value in (("max_nonfinite", limit), ("snapshot_every", snapshot_every)):
        if value < 1:
            raise ValueError(f"fit: {name}={value}; it must be at least 1")


def _refuse_donation(before: Tree) -> None:
    if any(type(leaf) is Donated for leaf in tree.leaves(before)):
        raise ValueError(
            "fit: on_nonfinite='skip' goes on with the state before the step, and this step "
            "donates it. Use optim.skip_nonfinite, which decides inside of the step, with "
            "on_nonfinite='count'; or 'roll_back'; or a step that does not donate"
        )


# --- snapshots ---


def _snapshot(state: Tree) -> Tree:
    if path := _not_finite(state):
        raise ValueError(
            f"fit: the first state is not finite at {path}, so on_nonfinite='roll_back' has "
            "nothing to go back to"
        )
    return tree.map(_copy, state)


def _copy(leaf: Any) -> Any:
    """Return a copy; a Tensor keeps its dtype, and memory that no step overwrites."""
    return copied(leaf) if isinstance(leaf, ms.Tensor) else np.copy(leaf)


def _not_finite(state: Tree) -> str | None:
    """Return the path of the first leaf that holds NaN or inf."""
    for path, leaf in zip(tree.paths(state), tree.leaves(state), strict=True):
        array = _array(leaf)
        if array.dtype.kind not in "iub" and not np.isfinite(array).all():
            return path or "its root"
    return None


def _array(leaf: Any) -> np.ndarray:
    return leaf.asnumpy() if isinstance(leaf, ms.Tensor) else np.asarray(leaf)


# --- the batch ---


def _save(batch: Any, folder: Path, number: int) -> Path:
    """Write a batch, its columns by name, whole or not at all."""
    buffer = io.BytesIO()
    leaves = zip(tree.paths(batch), tree.leaves(batch), strict=True)
    np.savez(buffer, **{path or "batch": _array(leaf) for path, leaf in leaves})
    path = folder / f"step_{number:08d}.npz"
    write_whole(path, buffer.getvalue())
    return path


def _words(loss: float, number: int, row: int, path: Path | None) -> str:
    many = f", number {row} in a row that is none" if row > 1 else ""
    where = f" in {path}" if path else "; fit(bad_batches=folder) keeps it"
    return (
        f"fit: the loss is {loss} at step {number}{many}; lower the learning rate, clip "
        f"gradients, or look at this batch{where}"
    )
