"""A transform over many chunks, in several processes: same order, same result, same errors."""

from __future__ import annotations

import multiprocessing as mp
import pickle
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from mfunc.data.check import integer
from mfunc.data.columns import Columns
from mfunc.data.compose import Counts, counted

# Not fork: a copy of a process with threads, such as MindSpore's, may hang.
METHOD = "forkserver" if "forkserver" in mp.get_all_start_methods() else "spawn"

PROTOCOL = 5  # arrays are copied once


class Worker(NamedTuple):
    """A process, and our end of the pipe to it."""

    process: Any
    pipe: Connection


def map_chunks(
    transform: Callable[[Columns], Any],
    chunks: Iterable[Columns],
    *,
    workers: int = 1,
    patience: float = 0.0,
) -> Iterator[tuple[Columns, Counts]]:
    """Apply a transform to every chunk, in the order of the chunks.

        chunks        0  1  2  3  4
        process A     0     2     4      each worker has one chunk at a time, the oldest is
        process B        1     3         waited for: so many chunks are in memory, no more

    Args:
      transform: a `Transform` or a composition of them; for more than one worker, anything that
        can be pickled. It is sent to every worker once.
      chunks: columns; the next one is taken when a worker is free.
      workers: processes that transform; with 1 it is this one. They are started anew, so a script
        that calls this needs `if __name__ == "__main__":`, as all of `multiprocessing` does.
      patience: seconds for which this process transforms alone before it starts them. Each has to
        import, load and learn what this one knows, so a short job is done sooner without.

    Returns:
      An iterator of (columns, counts), as `counted` gives them. When it is exhausted, closed or
      fails, no worker is left.

    Raises:
      ValueError: for settings out of range.
      Exception: what the transform raises, as it is; results before it have come out by then.
      ChildProcessError: if a worker was killed.

    Laws:
      the same for every number of workers.

    Example:
      >>> from mfunc.data import Ragged, truncate
      >>> chunks = [{"input_ids": Ragged.from_rows([row])} for row in ([1, 2, 3], [4])]
      >>> for columns, counts in map_chunks(truncate(2, policy="tail"), chunks):
      ...     print(columns["input_ids"][0].tolist(), counts["truncate.cut"])
      [1, 3] 1
      [4] 0
    """
    integer("map_chunks", "workers", workers, least=1)
    if not patience >= 0:
        raise ValueError(f"map_chunks: patience must be seconds >= 0, got {patience!r}")
    if workers == 1:
        return _here(transform, chunks)
    return _elsewhere(transform, iter(chunks), workers, patience)


def _here(
    transform: Callable[[Columns], Any], chunks: Iterable[Columns]
) -> Iterator[tuple[Columns, Counts]]:
    for chunk in chunks:
        yield counted(transform, chunk)


def _elsewhere(
    transform: Callable[[Columns], Any], chunks: Iterator[Columns], workers: int, patience: float
) -> Iterator[tuple[Columns, Counts]]:
    content = pickle.dumps(transform)  # first: what cannot be sent is refused whatever the time
    end = time.monotonic() + patience
    while time.monotonic() < end:
        chunk = next(chunks, None)
        if chunk is None:
            return
        yield counted(transform, chunk)
    failed = None
    with _started(content, workers) as free:
        busy: deque[Worker] = deque()
        for chunk, failed in _caught(chunks):
            if failed:
                break
            done = [] if free else [_receive(busy[0])]
            worker = free.popleft() if free else busy.popleft()
            _send(worker, chunk)
            busy.append(worker)
            yield from done
        while busy:
            yield _receive(busy.popleft())
    if failed:
        raise failed


def _caught(chunks: Iterable[Columns]) -> Iterator[tuple[Columns, Exception | None]]:
    """The chunks; an error in getting one comes last, so that what was before it is first done."""
    try:
        for chunk in chunks:
            yield chunk, None
    except Exception as error:
        yield {}, error


@contextmanager
def _started(content: bytes, workers: int) -> Iterator[deque[Worker]]:
    """Processes that wait for chunks; gone at the end, whatever they are at."""
    context: Any = mp.get_context(METHOD)
    if METHOD == "forkserver":
        context.set_forkserver_preload([__name__])  # imported once, not by every worker
    started: list[Worker] = []
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(content, theirs), daemon=True)
            process.start()
            theirs.close()  # else its end would not be seen
            started.append(Worker(process, ours))
        yield deque(started)
    finally:
        for process, pipe in started:
            pipe.close()
            process.terminate()
        for process, _ in started:
            process.join()
            process.close()


def _serve(content: bytes, pipe: Connection) -> None:
    """A worker's life: a chunk in, its result or error out, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    transform = None
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            message = pipe.recv_bytes()
            try:
                transform = transform or pickle.loads(content)
                reply = pickle.dumps((counted(transform, pickle.loads(message)), None), PROTOCOL)
            except Exception as error:
                reply = pickle.dumps(_told(error))
            pipe.send_bytes(reply)


def _told(error: Exception) -> tuple[Exception, str]:
    """An error that survives the way, and where it arose."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return error, traceback.format_exc()


def _send(worker: Worker, chunk: Columns) -> None:
    try:
        worker.pipe.send_bytes(pickle.dumps(chunk, PROTOCOL))
    except (BrokenPipeError, ConnectionResetError):
        raise _lost(worker) from None


def _receive(worker: Worker) -> tuple[Columns, Counts]:
    """A result; a worker's error is raised here, with its traceback as the cause."""
    try:
        result, where = pickle.loads(worker.pipe.recv_bytes())
    except (EOFError, ConnectionResetError):
        raise _lost(worker) from None
    if where is not None:
        raise result from RuntimeError(f"in a worker:\n{where}")
    return result


def _lost(worker: Worker) -> ChildProcessError:
    worker.process.join()
    code = worker.process.exitcode
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return ChildProcessError(
        f"map_chunks: a worker ended before its chunk was done ({name}); if memory ran out, use "
        "fewer workers or smaller chunks"
    )
