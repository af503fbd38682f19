"""The checkpoints of a run: who may write them, and which are kept."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from mfunc.checkpoint.arrays import as_array, by_path
from mfunc.checkpoint.step_folder import folders, read_about, remove, sweep, write
from mfunc.data.check import choice, integer
from mfunc.data.storage.identity import plain
from mfunc.donation import Resident
from mfunc.tree import Tree


def _json(config: Any) -> dict[str, Any]:
    """Return a config as JSON gives it back."""
    told = plain(config, "Checkpointer: config")
    if not isinstance(told, dict):
        raise TypeError(f"Checkpointer: config must be a mapping of settings, got {config!r}")
    return json.loads(json.dumps(told))


@attrs.frozen
class Checkpointer:
    """Where and how the checkpoints of a run are kept.

    Attributes:
      folder: holds a folder for each, `step_00000100`; one run has it at a time.
      config: what must be the same when the run goes on: plain data, data transforms, frozen attrs
        values such as a model's `Config`; `md.fingerprint(columns)` stands for the data.
      keep_last: how many of the newest are kept, at least 1; `None` keeps all.
      keep_best: how many of the best are kept besides.
      best: the metric that says which is best.
      mode: whether a good one is `"min"` or `"max"`.

    Raises:
      TypeError, ValueError: a setting is wrong.

    Example:
      >>> import tempfile
      >>> run = Checkpointer(tempfile.mkdtemp(), config={"learning_rate": 0.1}, keep_last=2)
      >>> path = save_state(run, {"w": np.float32([1, 2])}, {"step": 100, "loss": 0.5})
      >>> path.name, steps(run)
      ('step_00000100', (100,))
    """

    folder: Path = attrs.field(converter=Path)
    config: Any = attrs.field(factory=dict, converter=_json, kw_only=True)
    keep_last: int | None = attrs.field(default=None, kw_only=True)
    keep_best: int = attrs.field(default=0, kw_only=True)
    best: str | None = attrs.field(default=None, kw_only=True)
    mode: str = attrs.field(default="min", kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.keep_last is not None:
            integer("Checkpointer", "keep_last", self.keep_last, least=1)
        integer("Checkpointer", "keep_best", self.keep_best, least=0)
        choice("Checkpointer", "mode", self.mode, ("min", "max"))
        if self.keep_best and self.best is None:
            raise ValueError(
                f"Checkpointer: keep_best={self.keep_best} needs best=..., the metric to go by"
            )


def steps(run: Checkpointer) -> tuple[int, ...]:
    """Return the steps of which there are checkpoints, the oldest first; none for a new run."""
    return tuple(folders(run.folder))


def save_state(run: Checkpointer, state: Tree, metrics: Mapping[str, Any]) -> Path:
    """Write a checkpoint and wait until it is on the disk; see `background` for not waiting.

    Args:
      run: where.
      state: the tree; any leaves but text: parameters, optimizer, key, counts.
      metrics: `step`, and whatever numbers and texts are told of it.

    Returns:
      Its folder.

    Raises:
      TypeError, ValueError: no step, a leaf that cannot be stored, or two of one path.
      RuntimeError: another run has the folder.

    Laws:
      after a kill at any moment the newest whole checkpoint is this one or the one before;
      `restore` gives back the state to the bit.
    """
    with locked(run.folder):
        arrays = {path: as_array(leaf) for path, leaf in by_path(state).items()}
        return write_host(run, arrays, told(metrics))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to a folder; a killed one keeps nobody.

    Raises:
      RuntimeError: one does.
    """
    import fcntl  # not on Windows, where trees are still saved and loaded

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RuntimeError(
                f"{folder}: process {file.read() or '?'} keeps its checkpoints here; wait until it "
                "ends, or give this run a folder of its own"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def to_host(state: Tree) -> dict[str, np.ndarray]:
    """Copy the leaves of a state: the next step may overwrite their memory."""
    return {path: _copied(leaf) for path, leaf in by_path(state).items()}


def _copied(leaf: Any) -> np.ndarray:
    # The array of a `Resident` is a copy already.
    return leaf.asnumpy() if isinstance(leaf, Resident) else np.array(as_array(leaf))


def told(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics as JSON has them, with a whole number as their step."""
    numbers = {name: _number(name, value) for name, value in metrics.items()}
    step = numbers.get("step")
    if isinstance(step, float) and step.is_integer():
        step = int(step)
    return {**numbers, "step": integer("checkpoint", 'metrics["step"]', step, least=0)}


def _number(name: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"checkpoint: the metric {name!r} is {value!r}; a number or a text is stored"
        ) from None


def write_host(run: Checkpointer, arrays: dict[str, np.ndarray], metrics: dict[str, Any]) -> Path:
    """Write a checkpoint and remove those that need not be kept; the lock is held."""
    sweep(run.folder)
    path = write(run.folder, metrics["step"], arrays, metrics, run.config)
    kept = folders(run.folder)
    if run.keep_last is not None:
        known = readable(kept)
        stay = {*list(known)[-run.keep_last :], *ranked(run, known)[: run.keep_best]}
        for step in known.keys() - stay:
            remove(kept[step])
    return path


def readable(kept: Mapping[int, Path]) -> dict[int, dict[str, Any]]:
    """Read what each tells; what is damaged is neither counted nor deleted."""
    known = {}
    for step, path in kept.items():
        with suppress(ValueError):
            known[step] = read_about(path)
    return known


def ranked(run: Checkpointer, known: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """Return the steps whose metric is a number, the best first; of equals the oldest."""
    sign = -1.0 if run.mode == "max" else 1.0
    values = {step: about["metrics"].get(run.best) for step, about in known.items()}
    numbers = {
        step: sign * value
        for step, value in values.items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }
    return sorted(numbers, key=lambda step: (numbers[step], step))
