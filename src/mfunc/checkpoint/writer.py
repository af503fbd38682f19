"""Checkpoints that are written while training goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mfunc.checkpoint.run import Checkpointer, locked, to_host, told, write_host
from mfunc.tree import Tree


@contextmanager
def background(run: Checkpointer) -> Iterator[Callable[[Tree, Mapping[str, Any]], None]]:
    """Give a `save(state, metrics)` that returns when the state is copied; a thread writes it.

    The state may be donated to the next step. One save is under way at most: the next waits for it.
    The folder is this run's alone until the end of the `with`, which waits for the last.

    Args:
      run: where, and which are kept.

    Yields:
      A callback for `fit`. What went wrong in a save is raised by the next one, or at the end.

    Raises:
      RuntimeError: another run has the folder.

    Laws:
      the files are those of `save_state`.

    Example:
      >>> import tempfile
      >>> from mfunc.checkpoint import steps
      >>> run = Checkpointer(tempfile.mkdtemp(), keep_last=1)
      >>> with background(run) as save:
      ...     for step in (1, 2):
      ...         save({"count": step}, {"step": step})
      >>> steps(run)
      (2,)
    """
    under_way: Future[Path] | None = None

    def finish() -> None:
        nonlocal under_way
        last, under_way = under_way, None
        if last is not None:
            last.result()

    with locked(run.folder), ThreadPoolExecutor(1, "mfunc-checkpoint") as writer:

        def save(state: Tree, metrics: Mapping[str, Any]) -> None:
            nonlocal under_way
            finish()
            under_way = writer.submit(write_host, run, to_host(state), told(metrics))

        try:
            yield save
        except BaseException as error:
            failed = under_way.exception() if under_way else None
            if failed is not None:
                raise error from failed
            raise
        finish()
