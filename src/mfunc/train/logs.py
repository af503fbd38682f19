"""Callbacks that write down what a run says: JSONL, TensorBoard, a picture of the loss."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from mfunc import draw
from mfunc.checkpoint import write_whole
from mfunc.train.callbacks import Callback
from mfunc.tree import Tree


def log_jsonl(path: str | os.PathLike[str]) -> Callback:
    r"""Return a callback that appends the metrics of a step to a file, one JSON object a line.

    Args:
      path: the file; its folder is made when it is missing.

    Returns:
      A callback. Numbers that JSON has not (NaN, inf) become null. At its first call it drops the
      lines of that step and later ones: a resumed run does them again. If none would be left the
      file is of another run, and is renamed (`log.jsonl` becomes `log.1.jsonl`, or the next free
      number).

    Raises:
      ValueError: the file is there and is no log.

    Laws:
      A step has at most one line, steps go up, and a killed run leaves whole lines, but for the
      last one, which the next run drops.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "log.jsonl"
      >>> log_jsonl(path)({}, {"step": 1, "loss": 2.5})
      >>> path.read_text()
      '{"step": 1, "loss": 2.5}\n'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _lines(target)
    last = None

    def call(state: Tree, metrics: dict[str, Any]) -> None:
        nonlocal last
        if last is None or metrics["step"] <= last:
            _cut(target, metrics["step"])
        last = metrics["step"]
        line = json.dumps({name: _plain(name, value) for name, value in metrics.items()})
        # Opened for each line: nothing is left open or unwritten when a run is killed.
        with target.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    return call


def read_log(path: str | os.PathLike[str], until: int | None = None) -> list[dict[str, Any]]:
    r"""Read what `log_jsonl` wrote.

    Args:
      path: the file.
      until: the last step to read, for what a resumed run must know of the one before.

    Returns:
      The metrics of each logged step; `None` for NaN and inf. A last line that is not whole is
      left out.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: another line is not whole, or has no step.

    Example:
      >>> Path("log.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
      40
      >>> read_log("log.jsonl")
      [{'step': 1, 'loss': 2.5}]
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    rows = [row for row, _ in _lines(Path(path))]
    return [row for row in rows if until is None or row["step"] <= until]


def _lines(path: Path) -> list[tuple[dict[str, Any], bytes]]:
    """Return the whole lines of a log, read and as they are; none if there is no file."""
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(True) if path.exists() else [], 1):
        if not line.endswith(b"\n"):
            break  # only the last one
        try:
            row = json.loads(line)
            row["step"] + 0
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"{path}: line {number} is no line of a log (a JSON object with a number 'step'); "
                "take another file, or move this one away"
            ) from None
        found.append((row, line))
    return found


def _cut(path: Path, step: int) -> None:
    """Drop the lines from a step on, and what is left of a line that was being written."""
    if not path.exists():
        return
    lines = _lines(path)
    kept = [line for row, line in lines if row["step"] < step]
    if lines and not kept:
        numbered = (path.with_name(f"{path.stem}.{i}{path.suffix}") for i in range(1, 10**6))
        path.rename(next(free for free in numbered if not free.exists()))
    elif (whole := b"".join(kept)) != path.read_bytes():
        write_whole(path, whole)


def _plain(name: str, value: Any) -> Any:
    """Return what JSON can hold."""
    if value is None or isinstance(value, str | bool | int):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"log_jsonl: the metric {name!r} is {type(value).__name__}; metrics are numbers and "
            "strings"
        ) from None
    return number if math.isfinite(number) else None


def log_tensorboard(folder: str | os.PathLike[str]) -> Callback:
    """Return a callback that writes the metrics of a step for TensorBoard. Extra `log`.

    Numbers become scalars and strings texts. In a resumed run what was written for later steps is
    hidden. The last seconds are written when Python ends; a killed process loses at most ten.

    Args:
      folder: of the event files, a new one for each run.

    Raises:
      ImportError: the extra `log` is not installed.

    Example:
      >>> call = log_tensorboard("runs/first")
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "log_tensorboard needs the extra `log`: pip install 'mfunc[log]'"
        ) from error
    writer = None

    def call(state: Tree, metrics: dict[str, Any]) -> None:
        nonlocal writer
        step = metrics["step"]
        if writer is None:
            writer = SummaryWriter(os.fspath(folder), purge_step=step, flush_secs=10)
        for name, value in metrics.items():
            if isinstance(value, str):
                writer.add_text(name, value, step)
            elif name != "step":
                writer.add_scalar(name, value, step)

    return call


def loss_plot(path: str | os.PathLike[str], log: str | os.PathLike[str]) -> Callback:
    """Return a callback that draws the log of a run so far. Extra `plot`.

    Args:
      path: the PNG to write, `runs/first/loss.png`.
      log: the file of `log_jsonl`, which stands before this. A resumed run goes on with it, and so
        does the curve.

    Returns:
      A callback. It takes some tenths of a second, so it belongs into an `every`.

    Raises:
      ImportError: the extra `plot` is not installed.
    """
    draw.pyplot()

    def call(state: Tree, metrics: dict[str, Any]) -> None:
        draw.training(path, read_log(log))

    return call
