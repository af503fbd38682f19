"""Reads damaged files of every format, in a process of its own: `python fuzz_read.py COUNT SEED`.

Exits with an error that says which mutation of which file did what: any exception but a ValueError
naming the file, columns that are none, or memory beyond what such files warrant. `test_read_laws`
runs it; a crash or a hang of the process is seen there.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow
from backports import zstd
from pyarrow import parquet

import mfunc.data as md
from mfunc.data.columns import num_rows

MEMORY = 64 << 20  # bytes beyond what reading the whole files took; these have 5 to 50 kB

ROWS = [
    {
        "instruction": f'第{i}题：What is {i} × 2?\n"Quote" it, please 😀',
        "input": "" if i % 3 else f"line\r\n{i}\ttab",
        "output": f"It is {2 * i}." * (i % 7),
        "history": [[f"old {i}", "answer"]] * (i % 4),
        "score": i / 7,
    }
    for i in range(60)
]
TEXTS = [{name: row[name] for name in ("instruction", "input", "output")} for row in ROWS]


def table(delimiter: str) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(TEXTS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(TEXTS)
    return out.getvalue().encode()


def columnar(write: Callable[[pyarrow.Table, io.BytesIO], None]) -> bytes:
    out = io.BytesIO()
    write(pyarrow.Table.from_pylist(ROWS), out)
    return out.getvalue()


def ipc(kind: Callable) -> Callable[[pyarrow.Table, io.BytesIO], None]:
    def write(rows: pyarrow.Table, out: io.BytesIO) -> None:
        with kind(out, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=25)

    return write


def files() -> dict[str, bytes]:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    array = json.dumps(ROWS, indent=1, ensure_ascii=False).encode()
    stream = columnar(ipc(pyarrow.ipc.new_stream))
    made = {
        "array.json": array,
        "lines.json": lines.replace(b"\n", b"\r\n"),
        "a.jsonl": b"\xef\xbb\xbf" + lines,
        "a.csv": table(","),
        "a.tsv": table("\t"),
        "a.txt": table("|"),
        "stream.arrow": stream,
        "file.arrow": columnar(ipc(pyarrow.ipc.new_file)),
        "a.parquet": columnar(lambda rows, out: parquet.write_table(rows, out)),
        "plain.parquet": columnar(
            lambda rows, out: parquet.write_table(
                rows, out, compression="none", use_dictionary=False, row_group_size=25
            )
        ),
    }
    made |= {f"{name}.gz": gzip.compress(made[name]) for name in ("array.json", "stream.arrow")}
    return made | {f"{name}.zst": zstd.compress(made[name]) for name in ("a.jsonl", "a.csv")}


def flip(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] ^= 1 << rng.randrange(8)


def put(data: bytearray, at: int, rng: random.Random) -> None:
    """A byte that has a meaning somewhere, or numbers that are too large."""
    data[at : at + rng.choice((1, 1, 4, 8))] = rng.choice(
        (b"\0", b'"', b"\\", b"\r", b"[", b"}", b",", b"\xff", b"\xff\xff\xff\x7f", b"\0" * 8)
    )


def insert(data: bytearray, at: int, rng: random.Random) -> None:
    data[at:at] = rng.randbytes(rng.randint(1, 9))


def double(data: bytearray, at: int, rng: random.Random) -> None:
    data[at:at] = data[at : at + rng.randint(1, 5000)]


def remove(data: bytearray, at: int, rng: random.Random) -> None:
    del data[at : at + rng.randint(1, 50)]


def cut(data: bytearray, at: int, rng: random.Random) -> None:
    del data[at:]


MUTATIONS = (flip, flip, put, put, insert, double, remove, cut)


def mutated(data: bytes, rng: random.Random) -> tuple[bytes, list[str]]:
    """The data after some mutations, half of them near an end, where formats keep their numbers."""
    made, done = bytearray(data), []
    for _ in range(rng.choice((1, 1, 2, 5))):
        if made:
            near = rng.choice((len(made), len(made), min(len(made), 200)))
            at = rng.randrange(near)
            at = at if rng.random() < 0.5 else len(made) - 1 - at
            change = rng.choice(MUTATIONS)
            change(made, at, rng)
            done.append(f"{change.__name__} at {at}")
    return bytes(made), done


def attempt(path: Path, chunk_rows: int) -> bool:
    """Whether the file was read; that is as good as a ValueError that names it."""
    try:
        for columns in md.read(path, chunk_rows=chunk_rows):
            count = num_rows("fuzz", columns)
            if not 0 < count <= chunk_rows or not all(type(x) is str for x in columns["_origin"]):
                raise RuntimeError(f"a chunk of {count} rows: {columns}")
    except ValueError as error:
        if not str(error).startswith(f"read: {path}"):
            raise
        return False
    return True


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(count: int, seed: int) -> None:
    originals = files()
    for name, data in originals.items():
        Path(name).write_bytes(data)
        if not attempt(Path(name), 7):
            raise RuntimeError(f"{name} is not read even undamaged")
    allowed = peak() + MEMORY
    good = 0
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        name = list(originals)[number % len(originals)]
        data, done = mutated(originals[name], rng)
        Path(name).write_bytes(data)
        try:
            good += attempt(Path(name), rng.choice((1, 7, 8192)))
            if peak() > allowed:
                raise MemoryError(f"{peak() - allowed + MEMORY:,} bytes for {len(data):,}")
        except BaseException as error:
            raise RuntimeError(f"seed {seed}, mutation {number} of {name}: {done}") from error
    print(f"{count} mutations: {good} read, {count - good} refused")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
