from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mfunc.data import Ragged
from mfunc.data.storage.pair import CODES, Pair, merge_pairs, read_pair, write_pair

ROWS = [[7, 8, 9], [], [4, 5]]


def both(prefix) -> tuple[bytes, bytes]:
    return Path(f"{prefix}.bin").read_bytes(), Path(f"{prefix}.idx").read_bytes()


def written(prefix="p", rows=ROWS, **settings) -> tuple[bytes, bytes]:
    write_pair(prefix, Ragged.from_rows(rows), **settings)
    return both(prefix)


def test_the_bytes():
    """The layout, spelt out."""
    binary, index = written("p", [[1, 2, 3, 4, 0, 0], [-100, 6, 7, 8, 9, 0]])
    assert binary == struct.pack("<12i", 1, 2, 3, 4, 0, 0, -100, 6, 7, 8, 9, 0)
    assert index == bytes.fromhex(
        "4d4d494449445800 00 0100000000000000 04 0200000000000000 0300000000000000"
        "06000000 06000000 0000000000000000"
        "1800000000000000 0000000000000000 0100000000000000 0200000000000000"
    )


def test_golden_bytes(shared):
    """All sets of Megatron and MindSpeed: read, compared with what they hold, written again."""
    folder = shared / "golden/mindspeed/indexed"
    for case in json.loads((folder / "indexed_golden.json").read_text()):
        if "docs" not in case:  # merged and empty have tests of their own
            continue
        pair = read_pair(folder / case["name"])
        assert pair.sequences.dtype == case["dtype"]
        sequences = [row for document in case["docs"] for row in document]
        assert [row.tolist() for row in pair.sequences] == sequences, case["name"]
        assert pair.document_indices.tolist() == case["document_indices"]
        joined = [[token for row in document for token in row] for document in case["docs"]]
        assert [row.tolist() for row in pair.documents] == joined
        assert (None if pair.modes is None else pair.modes.tolist()) == case["sequence_modes"]
        write_pair("again", pair, dtype=case["dtype"])
        assert both("again") == both(folder / case["name"]), case["name"]


def test_every_golden_pair_is_written_again(shared):
    indices = sorted((shared / "golden/mindspeed").rglob("*.idx"))
    assert len(indices) > 90
    for index in indices:
        pair = read_pair(index.with_suffix(""))
        write_pair("again", [pair], dtype=pair.sequences.dtype.name)
        assert both("again") == both(index.with_suffix("")), index.name


def test_golden_merge(shared):
    folder = shared / "golden/mindspeed/indexed"
    cases = {c["name"]: c for c in json.loads((folder / "indexed_golden.json").read_text())}
    merge_pairs([folder / name for name in cases["merged"]["merged_from"]], "m")
    assert both("m") == both(folder / "merged")
    pair = read_pair("m")
    assert [row.tolist() for row in pair.sequences] == cases["merged"]["sequences"]


def test_golden_empty(shared):
    """Upstream's own reader fails on it: an empty file cannot be mapped."""
    folder = shared / "golden/mindspeed/indexed"
    assert len(read_pair(folder / "empty").sequences) == 0
    write_pair("e", [])
    assert both("e") == both(folder / "empty")


def test_merge_is_writing_one_after_another():
    chunks = [Ragged.from_rows([[1], [2, 3]]), Ragged.from_rows([]), Ragged.from_rows([[4]])]
    for i, chunk in enumerate(chunks):
        write_pair(f"d/{i}", chunk)
    merge_pairs([f"d/{i}" for i in range(3)], "m")
    write_pair("w", iter(chunks))
    assert both("m") == both("w")
    assert read_pair("m").document_indices.tolist() == [0, 1, 2, 3]


def test_merge_refuses():
    written("a")
    written("b", dtype="int64")
    with pytest.raises(ValueError, match=r"merge_pairs: b holds int64, but a int32; write them"):
        merge_pairs(["a", "b"], "m")
    with pytest.raises(ValueError, match="got no prefixes"):
        merge_pairs([], "m")
    modes = Pair(Ragged.from_rows([[1]]), np.array([0, 1]), np.array([1], np.int8))
    write_pair("c", modes)
    with pytest.raises(ValueError, match="only some of the parts have modes"):
        merge_pairs(["a", "c"], "m")
    assert not list(Path().glob("*m*"))


@pytest.mark.parametrize("dtype", CODES)
def test_dtypes(dtype):
    binary, index = written(dtype=dtype)
    pair = read_pair("p")
    assert pair.sequences == Ragged.from_rows(ROWS)
    assert pair.sequences.dtype == dtype
    assert binary == np.array([7, 8, 9, 4, 5], dtype).tobytes()
    assert index[17] == CODES[dtype]


@pytest.mark.parametrize(
    ("rows", "dtype", "message"),
    [
        ([[1], [2, -100]], "uint16", "row 1 holds -100, which uint16 cannot; choose a wider"),
        ([[1], [], [70_000]], "uint16", "row 2 holds 70000, which uint16 cannot"),
        ([[2**31]], "int32", "row 0 holds 2147483648, which int32"),
        ([[2**24 + 1]], "float32", "row 0 holds 16777217, which float32"),
        ([[2**53 + 1]], "float64", "row 0 holds 9007199254740993, which float64"),
        ([[1.5]], "int32", r"row 0 holds 1\.5, which int32"),
        ([[float("nan")]], "int8", "row 0 holds nan, which int8"),
        ([[1e300]], "float32", r"row 0 holds 1e\+300, which float32"),
    ],
)
def test_values_that_do_not_fit(rows, dtype, message):
    kind = np.float64 if isinstance(rows[0][0], float) else np.int64
    with pytest.raises(ValueError, match=message):
        write_pair("p", [Ragged.from_rows([[0]]), Ragged.from_rows(rows, kind)][1], dtype=dtype)
    assert list(Path().iterdir()) == []


def test_the_row_is_counted_over_chunks_and_blocks(monkeypatch):
    monkeypatch.setattr("mfunc.data.storage.pair.BLOCK", 2)
    chunks = [Ragged.from_rows([[1, 2, 3], [4]]), Ragged.from_rows([[0, 0], [5, 6, -1]])[1:]]
    with pytest.raises(ValueError, match="row 2 holds -1, which uint8"):
        write_pair("p", chunks, dtype="uint8")


def test_nan_is_kept():
    write_pair("p", Ragged.from_rows([[np.nan, np.inf, -0.0]]), dtype="float32")
    assert np.array_equal(read_pair("p").sequences[0], [np.nan, np.inf, -0.0], equal_nan=True)


def test_arrays_parts_and_empty_sets():
    write_pair("p", np.arange(6).reshape(2, 3)[:, ::-1])
    assert read_pair("p").sequences == Ragged.from_rows([[2, 1, 0], [5, 4, 3]])
    write_pair("p", Ragged.from_rows([[9], [1, 2], [3]])[1:])
    assert read_pair("p").sequences == Ragged.from_rows([[1, 2], [3]])
    for empty in ([], Ragged.from_rows([]), np.zeros((0, 4), np.int32)):
        write_pair("p", empty)
        assert [len(b) for b in both("p")] == [0, 42]
        assert len(read_pair("p").sequences) == 0


def test_wrong_kinds():
    with pytest.raises(
        TypeError, match=r"needs a Ragged or an array \[n, S\] of numbers, got list"
    ):
        write_pair("p", [[1, 2]])
    with pytest.raises(ValueError, match=r"dtype must be one of .*'int32'.*did you mean 'int32'"):
        write_pair("p", Ragged.from_rows([]), dtype="int23")
    with pytest.raises(ValueError, match=r"document indices \[0, 2\] must rise from 0 to 1"):
        write_pair("p", Pair(Ragged.from_rows([[1]]), np.array([0, 2])))
    with pytest.raises(ValueError, match="1 modes of 2 sequences"):
        write_pair("p", Pair(Ragged.from_rows([[1], [2]]), np.array([0, 2]), np.zeros(1, np.int8)))
    long = Ragged(np.broadcast_to(np.int8(0), 2**31), np.array([0, 2**31]))
    with pytest.raises(ValueError, match=r"a row has more than 2\*\*31 - 1 values"):
        write_pair("p", long)


def field(offset: int, kind: str, value: int):
    def change(binary: bytes, index: bytes) -> tuple[bytes, bytes]:
        size = struct.calcsize(kind)
        return binary, index[:offset] + struct.pack(kind, value) + index[offset + size :]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b, i: (b, b""), r"p\.idx has 0 bytes, but a header has 34; is it cut off"),
        (lambda b, i: (b, i[:33]), r"p\.idx has 33 bytes, but a header has 34"),
        (lambda b, i: (b, b"X" + i[1:]), r"p\.idx begins with b'XMIDIDX.*not b'MMIDIDX"),
        (field(9, "<Q", 2), r"p\.idx is of version 2, not 1"),
        (field(17, "<B", 9), "has the type code 9, not 1, 2, 3, 4, 5, 6, 7, 8;"),
        (field(18, "<Q", 4), r"p\.idx has 102 bytes, but 4 sequences and 4 document indices take"),
        (field(18, "<Q", 2**63), "but 9223372036854775808 sequences"),
        (field(26, "<Q", 2**61), "and 2305843009213693952 document indices"),
        (
            lambda b, i: (b, i[:-1]),
            "has 101 bytes, but 3 sequences and 4 document indices take 102",
        ),
        (lambda b, i: (b, i + b"\0"), "has 103 bytes, but .* take 102, or 105 with modes"),
        (field(34, "<i", -1), "sequence 0 has the length -1"),
        (field(34, "<i", 2), "sequence 1 begins at byte 12, but those before it end at 8"),
        (field(46, "<q", 4), "sequence 0 begins at byte 4, but those before it end at 0"),
        (field(70, "<q", 1), r"document indices \[1, 1, 2, 3\] must rise from 0 to 3"),
        (field(78, "<q", 3), r"document indices \[0, 3, 2, 3\] must rise"),
        (field(94, "<q", 2), r"document indices \[0, 1, 2, 2\] must rise from 0 to 3"),
        (
            lambda b, i: (b[:-1], i),
            r"p\.bin has 19 bytes, but p\.idx tells of 5 values of int32, 20",
        ),
        (lambda b, i: (b + b"\0", i), r"p\.bin has 21 bytes"),
        (lambda b, i: (b"", i), r"p\.bin has 0 bytes"),
        (lambda b, i: (None, i), r"there is p\.idx, but no p\.bin; its writer did not finish"),
        (lambda b, i: (b, None), r"there is p\.bin, but no p\.idx; its writer did not finish"),
    ],
)
def test_damaged_files_are_refused(change, message):
    for name, data in zip(("p.bin", "p.idx"), change(*written()), strict=True):
        Path(name).write_bytes(data) if data is not None else Path(name).unlink()
    with pytest.raises(ValueError, match=message):
        read_pair("p")


def test_no_files():
    with pytest.raises(FileNotFoundError, match=r"there is neither p\.idx nor p\.bin"):
        read_pair("p")


def test_a_header_cannot_ask_for_memory():
    binary, index = written()
    for offset in (18, 26):
        Path("p.idx").write_bytes(field(offset, "<Q", 2**40)(binary, index)[1])
        tracemalloc.start()
        with pytest.raises(ValueError, match="is it cut off"):
            read_pair("p")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1e5


def test_a_row_costs_what_it_holds():
    """A file of 400 MB, sparse on the disk: reading a row maps it and takes no memory."""
    write_pair("p", Ragged.from_rows([[0]] * 1000))
    lengths = np.full(1000, 100_000, "<i4")
    index = Path("p.idx").read_bytes()
    begins = (np.arange(1000) * 400_000).astype("<i8")
    Path("p.idx").write_bytes(index[:34] + lengths.tobytes() + begins.tobytes() + index[12_034:])
    with Path("p.bin").open("r+b") as file:
        file.truncate(400_000_000)
        file.seek(400_000 * 500)
        file.write(struct.pack("<i", 42))
    tracemalloc.start()
    row = read_pair("p").sequences[500]
    assert row[0] == 42
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e5
    assert len(row) == 100_000


def test_a_stream_is_written_chunk_by_chunk():
    """No more than a chunk is in memory; what is read is all of them."""
    chunk = np.ones((100, 1000), np.int32)
    tracemalloc.start()
    write_pair("p", (chunk * i for i in range(50)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6, "20 MB in all"
    assert read_pair("p").sequences[4999].tolist() == [49] * 1000
