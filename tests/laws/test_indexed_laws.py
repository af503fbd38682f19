"""The laws of token files: what is written is read, and what is damaged is refused."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mfunc.data as md
from mfunc.data import Ragged
from mfunc.data.storage import indexed
from mfunc.data.storage.pair import CODES, Pair, merge_pairs, read_pair, write_pair

# The values come from `struct`, so that nothing of this reader is the one that is tested.
FORMATS = {1: "B", 2: "b", 3: "h", 4: "i", 5: "q", 6: "d", 7: "f", 8: "H"}


def files(prefix: str = "p") -> tuple[bytes, bytes]:
    return Path(f"{prefix}.bin").read_bytes(), Path(f"{prefix}.idx").read_bytes()


@st.composite
def pairs(draw, dtype: str) -> Pair:
    """Any values of a type, in any sequences and documents, perhaps with modes."""
    lengths = draw(st.lists(st.integers(0, 6), max_size=8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    raw = rng.integers(0, 256, sum(lengths) * np.dtype(dtype).itemsize, np.uint8)
    values = raw.view(dtype)
    ends = draw(st.lists(st.integers(0, len(lengths)), max_size=5))
    documents = np.array(sorted([0, *ends, len(lengths)]))
    modes = rng.integers(-128, 128, len(lengths)).astype(np.int8)
    sequences = Ragged(values, np.cumsum([0, *lengths]))
    return Pair(sequences, documents, modes if lengths and draw(st.booleans()) else None)


def told(pair: Pair) -> tuple[Any, ...]:
    """All that a pair says, to the bit."""
    modes = None if pair.modes is None else pair.modes.tolist()
    rows = [row.tobytes() for row in pair.sequences]
    return pair.sequences.dtype.name, rows, pair.document_indices.tolist(), modes


def reference(binary: bytes, index: bytes) -> tuple[Any, ...] | None:
    """The same, read value by value; None where the files do not agree with themselves."""
    if len(index) < 34 or index[:17] != b"MMIDIDX\0\0" + struct.pack("<Q", 1):
        return None
    code, count, documents = struct.unpack_from("<BQQ", index, 17)
    whole = 34 + 12 * count + 8 * documents
    if code not in FORMATS or len(index) not in (whole, whole + count):
        return None
    lengths = struct.unpack_from(f"<{count}i", index, 34)
    begins = struct.unpack_from(f"<{count}q", index, 34 + 4 * count)
    indices = struct.unpack_from(f"<{documents}q", index, 34 + 12 * count)
    modes = list(struct.unpack_from(f"<{count}b", index, whole)) if len(index) > whole else None
    size, at, rows = struct.calcsize(FORMATS[code]), 0, []
    for length, begin in zip(lengths, begins, strict=True):
        if length < 0 or begin != at:
            return None
        rows.append(binary[at : at + length * size])
        at += length * size
    rising = list(indices) == sorted(indices)
    if at != len(binary) or not indices or indices[0] or indices[-1] != count or not rising:
        return None
    return next(n for n, c in CODES.items() if c == code), rows, list(indices), modes


@pytest.mark.parametrize("dtype", CODES)
@given(data=st.data())
def test_what_is_written_is_read(dtype, data):
    """To the bit, by the reader and by the layout as it is documented; NaN and -0.0 too."""
    pair = data.draw(pairs(dtype))
    write_pair("p", pair, dtype=dtype)
    assert told(read_pair("p")) == told(pair) == reference(*files())


@pytest.mark.parametrize("dtype", ["int32", "uint16", "float64"])
@given(data=st.data())
def test_merged_is_written_in_one_go(dtype, data):
    parts = [p for p in data.draw(st.lists(pairs(dtype), max_size=4)) if p.modes is None]
    for i, part in enumerate(parts):
        write_pair(f"{i}", part, dtype=dtype)
    write_pair("p", parts, dtype=dtype)
    if parts:
        merge_pairs(map(str, range(len(parts))), "m")
        assert files("m") == files("p")


@st.composite
def samples(draw, most: int = 10) -> dict[str, Ragged]:
    lengths = draw(st.lists(st.integers(0, 9), max_size=most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = [rng.integers(0, 99, n) for n in lengths]
    labels = [np.where(rng.random(len(row)) < 0.5, row, -100) for row in ids]
    return {"input_ids": Ragged.from_rows(ids), "labels": Ragged.from_rows(labels)}


@given(samples(), st.integers(1, 4))
def test_chunks_of_any_size_give_one_set(columns, size):
    indexed.write("w", columns)
    rows = len(columns["input_ids"])
    indexed.write("c", (md.take(size)(md.skip(i)(columns)) for i in range(0, rows, size)))
    for name in ("input_ids", "attention_mask", "labels"):
        assert files(f"w_packed_{name}_document") == files(f"c_packed_{name}_document")
    read = indexed.read("c", verify=True)
    assert {name: read[name] for name in columns} == columns
    assert indexed.sidecar("c")["columns"] == indexed.sidecar("w")["columns"]


@given(samples(), samples())
def test_diff_is_fair(a, b):
    assert not md.diff(a, a)
    one, other = md.diff(a, b), md.diff(b, a)
    assert one.differ == other.differ
    assert one.missing == other.missing[::-1]
    assert bool(one) == (a != b)
    pairs = list(zip(a["input_ids"], b["input_ids"], strict=False))
    assert one.differ["input_ids"] == sum(x.tolist() != y.tolist() for x, y in pairs)
    assert str(one)


# ---- Damage ----


def whole_pairs() -> list[tuple[bytes, bytes]]:
    """Of every dtype, packed rows, many sequences a document, empty documents, modes, nothing."""
    made = []
    rows = Ragged.from_rows([[1, 2, 3], [4], [], [5, 6], [7] * 9])
    for dtype in CODES:
        write_pair("p", rows, dtype=dtype)
        made.append(files())
    write_pair("p", Pair(rows, np.array([0, 2, 2, 5]), np.array([0, 1, 0, 1, 0], np.int8)))
    made.append(files())
    write_pair("p", np.arange(64).reshape(4, 16))
    made.append(files())
    write_pair("p", [])
    made.append(files())
    return made


def damaged(data: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    """One accident."""
    at, end = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    number = int(rng.choice([0, 1, 2, 4, 5, 9, 255, 2**16, 2**31 - 1, 2**32, 2**61, 2**63 - 1]))
    number *= int(rng.choice([1, 1, -1]))
    field = int(rng.choice([9, 18, 26, 34, 38, 54, 62, 94, 102]))
    kinds = [
        lambda: data[:at],
        lambda: data[at:],
        lambda: data[:at] + data[end:],
        lambda: data[:end] + data[at:],
        lambda: data + bytes(rng.integers(0, 256, 1 + at % 9, np.uint8)),
        lambda: data[:at] + other[at:],
        lambda: other,
        lambda: data[:at] + bytes([rng.integers(0, 256)]) + data[at + 1 :],
        lambda: data[:field] + struct.pack("<q", number) + data[field + 8 :],
        lambda: data[:field] + struct.pack("<q", number)[:4] + data[field + 4 :],
        lambda: data[:17] + bytes([rng.integers(0, 10)]) + data[18:],
    ]
    return kinds[rng.integers(len(kinds))]()


def look_for_trouble(count: int, seed: int) -> tuple[int, int]:
    """Refused and accepted; each answer is the reference's, and memory that of the files."""
    rng = np.random.default_rng(seed)
    bases = whole_pairs()
    refused = accepted = 0
    for _ in range(count):
        binary, index = bases[rng.integers(len(bases))]
        others = bases[rng.integers(len(bases))]
        for _ in range(rng.integers(1, 3)):
            if rng.random() < 0.25:
                binary = damaged(binary, rng, others[0])
            else:
                index = damaged(index, rng, others[1])
        Path("p.bin").write_bytes(binary)
        Path("p.idx").write_bytes(index)
        expected = reference(binary, index)
        tracemalloc.start()
        try:
            pair = read_pair("p")
        except ValueError:
            refused += 1
            assert expected is None
        else:
            accepted += 1
            assert told(pair) == expected
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 60_000 + 20 * len(index) + len(binary)
    return refused, accepted


def test_damaged_files_are_refused_or_read_right():
    refused, accepted = look_for_trouble(600, seed=1)
    assert refused > 300
    assert accepted > 30, "damage that makes another right file: values, modes, types of one size"


@pytest.mark.slow
def test_damaged_files_are_refused_or_read_right_10000_times():
    refused, accepted = look_for_trouble(10_000, seed=2)
    assert refused > 5000
    assert accepted > 500
