"""Which checkpoint of a run is taken, and whether it is whole and this run's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mindspore as ms
import numpy as np

from mfunc import tree
from mfunc.checkpoint.arrays import by_path, missing_and_extra
from mfunc.checkpoint.run import Checkpointer, ranked, readable
from mfunc.checkpoint.step_folder import ABOUT, folders, read_about, read_state
from mfunc.spec import Spec
from mfunc.tree import Tree


class Restored(NamedTuple):
    """A state that was read: `state, step, metrics, path, skipped = restore(...)`.

    Attributes:
      state: the tree.
      step: how many steps it has behind it, which is how many batches were taken.
      metrics: those of the step.
      path: the folder.
      skipped: why newer ones were not taken, a line each; only with `fallback`.
    """

    state: Tree
    step: int
    metrics: dict[str, Any]
    path: Path
    skipped: tuple[str, ...] = ()


def restore(
    run: Checkpointer, like: Tree, which: str | int = "latest", *, fallback: bool = False
) -> Restored:
    """Read a checkpoint of a run.

    Args:
      run: where, and the config that it must have been written with.
      like: a state such as `init_state` makes, or specs: it says which paths, shapes and dtypes
        there must be, and gives the containers.
      which: `"latest"`, `"best"` by the metric `run.best`, or a step.
      fallback: if that one is damaged, take the next older (or next best) that is whole, and say so
        in `skipped`.

    Returns:
      The state, to the bit, and its step: where the data go on (`md.epochs(..., start=step)`).

    Raises:
      FileNotFoundError: there is no checkpoint, or none of that step.
      ValueError: it is damaged (the next that is whole is named), of another config (each setting
        that differs is named with both values), or of other leaves.

    Example:
      >>> import tempfile
      >>> from mfunc.checkpoint import save_state
      >>> run = Checkpointer(tempfile.mkdtemp())
      >>> path = save_state(run, {"w": np.float32([1, 2])}, {"step": 100})
      >>> restored = restore(run, {"w": np.zeros(2, np.float32)})
      >>> restored.step, restored.state["w"]
      (100, array([1., 2.], dtype=float32))
    """
    found = folders(run.folder)
    skipped: list[str] = []
    order = _order(run, found, which, skipped if fallback else None)
    for place, step in enumerate(order):
        try:
            about = read_about(found[step])
            arrays = read_state(found[step], about)
        except ValueError as error:
            if not fallback:
                raise ValueError(f"{error}; {_whole(found, order[place + 1 :])}") from None
            skipped.append(str(error))
            continue
        _check_config(about["config"], run.config, found[step])
        state = _fill(like, arrays, found[step])
        return Restored(state, step, about["metrics"], found[step], tuple(skipped))
    raise ValueError(f"{run.folder}: no checkpoint is whole: " + "; ".join(skipped))


def _order(
    run: Checkpointer,
    found: Mapping[int, Path],
    which: str | int,
    skipped: list[str] | None,
) -> list[int]:
    """Return the steps to try, the wanted one first."""
    if not found:
        raise FileNotFoundError(f"{run.folder}: no checkpoint is there")
    newest = sorted(found, reverse=True)
    if which == "latest":
        return newest
    if which == "best":
        return _best_first(run, found, skipped)
    if which not in newest:
        raise FileNotFoundError(
            f"{run.folder}: no checkpoint {which!r}; there are 'latest', 'best', "
            + ", ".join(map(str, found))
        )
    return newest[newest.index(which) :]


def _best_first(
    run: Checkpointer, found: Mapping[int, Path], skipped: list[str] | None
) -> list[int]:
    known = readable(found)
    damaged = [path for step, path in found.items() if step not in known]
    if damaged and skipped is None:
        read_about(damaged[0])  # raises, and says why
    if skipped is not None:
        skipped += [f"{path / ABOUT}: damaged" for path in damaged]
    order = ranked(run, known)
    if not order:
        raise ValueError(
            f"{run.folder}: no checkpoint has a number for the metric best={run.best!r}"
        )
    return order


def _whole(found: Mapping[int, Path], others: Sequence[int]) -> str:
    """Say which of the others could be taken."""
    for step in others:
        try:
            read_state(found[step], read_about(found[step]))
        except ValueError:
            continue
        return (
            f"the next that is whole is {found[step].name}: take it by which={step}, "
            "or by fallback=True"
        )
    return "no other is whole"


def _check_config(theirs: Any, ours: Any, where: Path) -> None:
    """Refuse a checkpoint of another run."""
    seen, wanted = dict(_settings(theirs, "config")), dict(_settings(ours, "config"))
    faults = [
        f"{key} is {_said(seen, key)} in the checkpoint and {_said(wanted, key)} in this run"
        for key in sorted({*seen, *wanted})
        if _said(seen, key) != _said(wanted, key)
    ]
    if faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ValueError(f"{where}: of another run: {'; '.join(faults[:5])}{more}")


def _settings(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield every (dotted key, value) that is not a container, or is an empty one."""
    if isinstance(value, (dict, list)) and (value or key == "config"):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in pairs:
            yield from _settings(inner, f"{key}.{name}")
    else:
        yield key, value


def _said(settings: Mapping[str, Any], key: str) -> str:
    return json.dumps(settings[key]) if key in settings else "absent"


def _fill(like: Tree, arrays: Mapping[str, np.ndarray], where: Path) -> Tree:
    """Put arrays into the containers of `like`, each as what its leaf is."""
    wanted = by_path(like)
    missing = sorted(wanted.keys() - arrays.keys())
    extra = sorted(arrays.keys() - wanted.keys())
    if missing or extra:
        raise ValueError(f"{where}: {missing_and_extra(missing, extra)}")
    for path, leaf in wanted.items():
        seen, asked = _kind(arrays[path]), _kind(leaf)
        if seen != asked:
            raise ValueError(f"{where}: {path} is {seen} in the checkpoint and {asked} in this run")
    return tree.refill(like, [_leaf(arrays[path], leaf) for path, leaf in wanted.items()])


def _kind(leaf: Any) -> str:
    if isinstance(leaf, (ms.Tensor, Spec)):
        return f"{str(leaf.dtype).lower()} {list(leaf.shape)}"
    array = np.asarray(leaf)
    return f"{array.dtype.name} {list(array.shape)}"


def _leaf(array: np.ndarray, like: Any) -> Any:
    if isinstance(like, (bool, int, float)):
        return type(like)(array.item())
    return array if isinstance(like, (np.ndarray, np.generic)) else ms.Tensor(array)
