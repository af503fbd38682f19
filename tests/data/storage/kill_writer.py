"""Kill writers and look at what they leave; run as a script, in a folder of its own.

A child process overwrites set A with set B (or makes B where nothing was) and is killed: before
its k-th change of names, for every k, and then at random moments. What is read must be A or B.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np

from mfunc.data import cached
from mfunc.data.storage import indexed

ROWS = {"a": 40, "b": 60}
FILES = 5


def columns(kind: str, size: int = 64) -> dict[str, np.ndarray]:
    ids = np.full((ROWS[kind], size), ord(kind), np.int32)
    return {"input_ids": ids, "labels": ids + 1, "segment_ids": ids + 2}


def write(kind: str) -> None:
    indexed.write("x/s", columns(kind), settings={"kind": kind})


def read() -> str:
    """Which set is there, or nothing; anything else is an error."""
    try:
        found = indexed.read("x/s", verify=Path("x/s_packed_document.json").exists())
    except (FileNotFoundError, ValueError):
        return "nothing"
    kind = chr(found["input_ids"].values[0])
    wanted = columns(kind)
    wanted["attention_mask"] = wanted.pop("segment_ids")
    for name, column in wanted.items():
        if not np.array_equal(found[name].flat.reshape(column.shape), column):
            raise SystemExit(f"{name} is not of {kind}")
    if indexed.sidecar("x/s")["settings"] != {"kind": kind}:
        raise SystemExit("the sidecar is of another set")
    return kind


def make(folder: Path) -> None:
    for i in range(FILES):
        (folder / f"{i}").write_bytes(bytes(1000))


def in_child(work) -> int:
    """The id of a process that does the work and exits."""
    if child := os.fork():
        return child
    work()
    os._exit(0)


def kill_before_change(k: int) -> None:
    """From now on the k-th rename or removal is not done, and nothing after it."""
    left = [k]

    def counted(change):
        def instead(*args, **settings):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return change(*args, **settings)

        return instead

    Path.replace, Path.unlink = counted(Path.replace), counted(Path.unlink)


def every_change(before: bool) -> list[str]:
    seen = []
    for k in range(100):
        shutil.rmtree("x", ignore_errors=True)
        if before:
            write("a")

        def work(k=k):
            kill_before_change(k)
            write("b")

        status = os.waitpid(in_child(work), 0)[1]
        seen.append(read())
        if not os.WIFSIGNALED(status):
            return seen
    raise SystemExit("it never ended")


def random_moments(count: int) -> list[str]:
    seen = []
    rng = random.Random(0)
    for i in range(count):

        def work():
            while True:
                write("b")
                write("a")

        child = in_child(work)
        time.sleep(0.005 + 0.03 * rng.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen.append(read())

        child = in_child(lambda i=i: cached(f"{i:08x}", "cache", make))
        time.sleep(0.05 * rng.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        place = Path(f"cache/{i:08x}")
        if (
            place.exists()
            and len([p for p in place.iterdir() if p.stat().st_size == 1000]) != FILES
        ):
            raise SystemExit("half a cache entry")
        seen.append("cached" if place.exists() else "uncached")
    return seen


if __name__ == "__main__":
    print("fresh", *every_change(before=False))
    print("over", *every_change(before=True))
    print("random", *random_moments(25))
