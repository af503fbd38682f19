"""What the scripts share: times of runs that alternate, a measurement in a process of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


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
