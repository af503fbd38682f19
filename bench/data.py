"""Files to packed token files: tokens by CPU second, peak memory, and the same for others.

    python bench/data.py --data alpaca.json tokenizer.model [--peers-python PYTHON] [--rounds 3]

CPU seconds and peak memory are those of the process and all it starts; medians of rounds in which
they take turns. The second line is the same on ten times the rows: each process needs no more, but
there workers are started. MindSpeed-LLM's numbers were measured once, with 5,000 rows
of Alpaca's kind and one worker; TRL's pipeline runs in the Python that has it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MINDSPEED = (180_000, 665)  # tokens a CPU second, MB
TRL = Path(__file__).parent / "peers" / "files_trl.py"


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(p for child in below for p in family(int(child)))]


def used(pid: int) -> tuple[float, float]:
    """CPU seconds and peak MB that a process has had so far."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0, 0.0
    peak = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    return (int(words[11]) + int(words[12])) / 100, sum(peak) / 1e3


def watch(command: list[str]) -> tuple[str, float, float, float]:
    """Output, CPU seconds, peak MB (the sum of all processes' peaks) and seconds of a command."""
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    seen: dict[int, tuple[float, ...]] = {}
    while child.poll() is None:
        for pid in family(child.pid):
            pairs = zip(seen.get(pid, (0.0, 0.0)), used(pid), strict=True)
            seen[pid] = tuple(map(max, pairs))  # a process that has ended tells no peak
        time.sleep(0.01)
    if child.returncode:
        raise SystemExit(f"{command[0]} failed")
    seconds = time.perf_counter() - began
    cpu, peak = (sum(values) for values in zip(*seen.values(), strict=True))
    return child.communicate()[0], cpu, peak, seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", nargs=2, metavar=("FILE", "TOKENIZER"))
    parser.add_argument("--peers-python", metavar="PYTHON", help="a Python with trl and datasets")
    parser.add_argument("--seq-length", default="2048")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if args.data is None:  # as `make bench` calls it
        print("nothing measured: it needs --data FILE TOKENIZER")
        return
    data, tokenizer = args.data
    print("way                   tokens   CPU s   tokens/CPU s  x MindSpeed  peak MB  seconds")
    print(f"{'MindSpeed-LLM, 5,000':52s}{MINDSPEED[0]:9,d}{1.0:13.1f}{MINDSPEED[1]:9d}")
    with tempfile.TemporaryDirectory() as folder:
        rows = json.loads(Path(data).read_text("utf-8"))
        large = Path(folder) / "large.json"
        large.write_text("\n".join(json.dumps(row) for row in rows * 10), "utf-8")
        flags = ["--tokenizer", tokenizer, "--prompt-type", "alpaca", "--seq-length"]
        flags += [args.seq_length, "--pack", "--neat-pack", "--workers", "2"]
        code = "import sys, mfunc.cli; sys.exit(mfunc.cli.main())"
        ours = [sys.executable, "-c", code, "data", "pack", *flags, "--output-prefix"]
        runs = {"ours": [*ours, f"{folder}/a", "--input", data]}
        runs["ours, x 10"] = [*ours, f"{folder}/b", "--input", str(large)]
        if args.peers_python:
            runs["TRL"] = [args.peers_python, str(TRL), data, tokenizer, args.seq_length]
        measured: dict[str, list[tuple[str, float, float, float]]] = {name: [] for name in runs}
        for _ in range(args.rounds):
            for name, command in runs.items():
                measured[name].append(watch(command))
        for name, rounds in measured.items():
            told = next(line for line in rounds[0][0].splitlines() if line.startswith("tokens "))
            tokens = int(told.split()[1].replace(",", ""))
            columns = list(zip(*rounds, strict=True))[1:]
            cpu, peak, seconds = (statistics.median(column) for column in columns)
            print(
                f"{name:14s}{tokens:14,d}{cpu:8.2f}{tokens / cpu:15,.0f}"
                f"{tokens / cpu / MINDSPEED[0]:13.1f}{peak:9.0f}{seconds:9.1f}"
            )


if __name__ == "__main__":
    main()
