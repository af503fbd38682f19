from __future__ import annotations

import contextlib
import itertools
import struct
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from tests.gguf_files import arrays_of, metadata_of, write_gguf
from tests.tiny_llama import tiny_llama

from mfunc.gguf_file import Blocks, numbers, read_gguf

TINY = tiny_llama()
Kind = gguf.GGMLQuantizationType


@pytest.fixture
def path(tmp_path):
    return write_gguf(tmp_path / "x.gguf", metadata_of(TINY), arrays_of(TINY), kind=Kind.Q8_0)


def test_reads_what_the_packages_reader_reads(path):
    theirs, ours = gguf.GGUFReader(path), read_gguf(path)
    fields = {name: f.contents() for name, f in theirs.fields.items() if name[:5] != "GGUF."}
    assert ours.metadata == fields
    assert [*ours.arrays] == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        found = ours.arrays[tensor.name]
        assert found.shape == tuple(reversed(tensor.shape.tolist()))
        assert found.kind == tensor.tensor_type
        assert found.data.tobytes() == tensor.data.tobytes()


def test_every_kind_of_number_in_the_metadata():
    writer = gguf.GGUFWriter("kinds.gguf", "llama")
    kinds = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
    for i, kind in enumerate(kinds):
        getattr(writer, f"add_{kind}")(kind, 100 + i)
    writer.add_float32("float32", 1.5)
    writer.add_float64("float64", 0.1)
    writer.add_bool("no", False)
    writer.add_array("bools", [True, False])
    writer.add_array("floats", [0.5, -2.0])
    writer.add_array("texts", ["é", ""])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_gguf("kinds.gguf").metadata
    assert [found[kind] for kind in kinds] == [*range(100, 108)]
    assert (found["float32"], found["float64"], found["no"]) == (1.5, 0.1, False)
    assert (found["bools"], found["floats"], found["texts"]) == (
        [True, False], [0.5, -2.0], ["é", ""],
    )  # fmt: skip


def test_blocks_are_undone(tmp_path):
    """Q8_0: 32 int8 times their float16 scale; the other kinds are the package's business."""
    array = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    path = write_gguf(tmp_path / "q.gguf", {}, {"w": array}, kind=Kind.Q8_0)
    blocks = read_gguf(path).arrays["w"]
    raw = np.frombuffer(blocks.data.tobytes(), np.dtype([("scale", "<f2"), ("q", "i1", 32)]))
    exact = raw["scale"].astype(np.float32)[:, None] * raw["q"]
    np.testing.assert_array_equal(numbers(blocks, "q"), exact.reshape(3, 64))
    np.testing.assert_allclose(numbers(blocks, "q"), array, atol=0.02)


@pytest.mark.parametrize("kind", [Kind.Q4_K, Kind.Q6_K, Kind.Q5_0, Kind.Q4_1, Kind.BF16, Kind.F16])
def test_each_kind_has_its_shape(kind):
    block, size = gguf.GGML_QUANT_SIZES[kind]
    rows, width = 3, 512
    data = np.random.default_rng(0).integers(0, 60, rows * width // block * size).astype(np.uint8)
    found = numbers(Blocks((rows, width), kind, data), "x")
    assert (found.shape, found.dtype) == ((rows, width), np.float32)
    again = numbers(Blocks((1, width), kind, data[: width // block * size]), "x")
    np.testing.assert_array_equal(found[:1], again)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_floats_come_to_the_bit(tmp_path, kind):
    array = np.random.default_rng(0).standard_normal((3, 5)).astype(kind)
    path = write_gguf(tmp_path / "f.gguf", {}, {"w": array})
    np.testing.assert_array_equal(numbers(read_gguf(path).arrays["w"], "w"), array)


def test_a_kind_that_the_package_cannot_undo():
    path = write_gguf(Path("i.gguf"), {}, {"w": np.arange(4, dtype=np.int32)})
    with pytest.raises(ValueError, match=r"i.gguf: w: blocks of kind I32 are not read"):
        numbers(read_gguf(path).arrays["w"], "i.gguf: w")


# --- bad input ---


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ImportError, match=r"pip install 'mfunc\[gguf\]'"):
        read_gguf("x.gguf")


def test_no_file():
    with pytest.raises(FileNotFoundError, match=r"nowhere.gguf: no such file"):
        read_gguf("nowhere.gguf")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"x.gguf: not a whole GGUF file: it begins with b'', not with b'GGUF'"),
        (b"PK\3\4 and more", r"it begins with b'PK"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1; versions 2 and 3, little-endian"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "as of a big-endian file"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 2**60, 3), "a text of 3 bytes at 24 reaches beyond"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"a", 13), "'a' is of the unknown kind 13"),
        (
            b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"a", 9, 4, 2**62),
            "'a' has 4611686018427387904 numbers, which reach beyond its end",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ1sIQQ1sI", 3, 0, 2, 1, b"a", 10, 7, 1, b"a", 10) + b"7" * 8,
            "it has 'a' twice",
        ),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 1, 0, 1, b"w", 9), "'w' has 9 sizes; 1 to 4 can be"),
        (
            b"GGUF" + struct.pack("<IQQQ1sIQIQ", 3, 1, 0, 1, b"w", 1, 33, 8, 0),
            "'w' has rows of 33 numbers in blocks of 32",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ1sIQIQ", 3, 1, 0, 1, b"w", 1, 32, 999, 0),
            "'w' is of the unknown kind 999",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ1sIQIQ", 3, 1, 0, 1, b"w", 1, 8, 0, 2**63),
            "'w' ends at 9223372036854775904, the file at 57",
        ),
    ],
)  # fmt: skip
def test_what_is_no_gguf_file(content, message):
    Path("x.gguf").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_gguf("x.gguf")


def test_a_file_cut_off_anywhere_is_refused(path):
    whole = path.read_bytes()
    end = max(a.data.ctypes.data + a.data.size for a in read_gguf(path).arrays.values())
    start = read_gguf(path).arrays["output_norm.weight"].data
    assert end > start.ctypes.data
    for size in {*range(0, 4000, 97), len(whole) // 2, len(whole) - 64}:
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"x.gguf: not a whole GGUF file"):
            read_gguf(path)


def test_a_changed_byte_of_the_header_never_hangs_nor_raises_anything_else(path):
    whole = bytearray(path.read_bytes())
    random = np.random.default_rng(0)
    for at, value in itertools.product(random.integers(0, 4000, 150), (0, 255)):
        changed = whole.copy()
        changed[at] = value
        path.write_bytes(changed)
        with contextlib.suppress(ValueError):
            read_gguf(path)
