"""What the scripts share: times of runs that alternate, measurements in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

PEERS = Path(__file__).parent / "peers"


def in_turn(runs: list[Callable[[], Any]], rounds: int) -> list[float]:
    """Medians in milliseconds of runs that alternate."""
    times: list[list[float]] = [[] for _ in runs]
    for i in range(rounds + 3):
        for run, mine in zip(runs, times, strict=True):
            began = time.perf_counter()
            run()
            if i > 2:
                mine.append(time.perf_counter() - began)
    return [1e3 * statistics.median(mine) for mine in times]


def run_one(script: str, *arguments: str) -> dict[str, float]:
    """What `script one ...` prints as JSON in its last line."""
    command = [sys.executable, script, "one", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def contestant(
    python: str, module: str, size: Mapping[str, int], settings: Mapping[str, Any]
) -> Iterator[Any]:
    """A process that steps when it is told to, or `None` where it does not start."""
    command = [python, str(PEERS / "serve.py"), module, json.dumps(size), json.dumps(settings)]
    # Threads that wait must not keep the others from running.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        yield (process, json.loads(line)) if line else None
    finally:
        process.kill()
        process.wait()


class Rounds(NamedTuple):
    """What a contestant did: seconds of every step, the last loss, the most memory in MB."""

    seconds: list[float]
    loss: float
    megabytes: float


def rounds_of(running: Mapping[str, Any], rounds: int) -> dict[str, Rounds]:
    """Let contestants step in turn."""
    found: dict[str, list[list[float]]] = {name: [] for name in running}
    for _ in range(rounds):
        for name, (process, _) in running.items():
            process.stdin.write("\n")
            process.stdin.flush()
            found[name].append([float(word) for word in process.stdout.readline().split()])
    return {name: Rounds([row[0] for row in rows], *rows[-1][1:]) for name, rows in found.items()}


def high_water(reset: bool = False) -> float:
    """The most memory that the process held since the last reset, in MB."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
