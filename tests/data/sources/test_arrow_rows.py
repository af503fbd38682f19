from __future__ import annotations

import datetime
import gzip
import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

import mfunc.data as md

TABLE = pyarrow.table(
    {
        "text": ["one", None, "", "d\0e"] * 700,
        "turns": [[["q", "a"]], [], None, [["x", "y"], ["z", None]]] * 700,
        "meta": [{"n": 1, "t": "u"}, {"n": 2, "t": None}, None, {"n": None, "t": ""}] * 700,
        "score": [0.5, float("inf"), -1.0, None] * 700,
        "when": [datetime.date(2024, 2, 29)] * 2800,
    }
)


def write(name: str, table: pyarrow.Table = TABLE, rows: int = 1000) -> Path:
    """As parquet, or as an arrow file or stream."""
    if ".parquet" in name:
        plain = {"compression": "none", "use_dictionary": False}
        parquet.write_table(table, name, row_group_size=rows, **plain)
    else:
        kind = pyarrow.ipc.new_stream if "stream" in name else pyarrow.ipc.new_file
        with kind(name, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)
    return Path(name)


@pytest.mark.parametrize("chunk_rows", [1, 7, 1024, 1500, 9999])
@pytest.mark.parametrize("name", ["a.parquet", "file.arrow", "stream.arrow"])
def test_values_are_pythons(name, chunk_rows):
    table = TABLE.slice(0, 40 if chunk_rows < 10 else 2800)
    chunks = list(md.read(write(name, table), chunk_rows=chunk_rows))
    assert [len(c["text"]) for c in chunks[:-1]] == [chunk_rows] * (len(chunks) - 1)
    columns = md.concat(chunks)
    origins = columns.pop("_origin")
    assert columns == table.to_pydict()
    assert [origins[0], origins[-1]] == [f"{name} row 1", f"{name} row {table.num_rows}"]


@pytest.mark.parametrize("name", ["a.parquet", "file.arrow", "stream.arrow"])
def test_no_rows_give_no_chunk(name):
    assert list(md.read(write(name, TABLE.slice(0, 0)))) == []


@pytest.mark.parametrize("name", ["a.parquet", "file.arrow", "stream.arrow"])
def test_packed(name):
    packed = Path(f"{name}.gz")
    packed.write_bytes(gzip.compress(write(name).read_bytes()))
    columns = md.concat(list(md.read(packed)))
    assert columns["_origin"][1] == f"{name}.gz row 2"
    assert columns["text"] == TABLE["text"].to_pylist()


@pytest.mark.parametrize("name", ["a.parquet", "file.arrow", "stream.arrow"])
def test_cut_off_or_damaged(name):
    whole = write(name).read_bytes()
    for data in (whole[: len(whole) // 2], whole[:-9], whole[:7], b"PAR1" * 9, b"{}\n" * 99):
        path = Path(name)
        path.write_bytes(data)
        with pytest.raises(ValueError, match=rf"read: {name} cannot be read .*; is it cut off"):
            for _ in md.read(path):
                pass
    Path(name).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"read: {name} is empty"):
        next(md.read(name))


@pytest.mark.parametrize("name", ["a.parquet", "file.arrow"])
def test_text_that_is_not_utf8(name):
    bad = pyarrow.array([b"ok", b"\xff\xfe"]).view(pyarrow.string())
    path = write(name, pyarrow.table({"text": bad}))
    with pytest.raises(ValueError, match=f"read: {name} cannot be read .*UTF8"):
        next(md.read(path))


@pytest.mark.parametrize("name", ["a.parquet", "stream.arrow"])
def test_two_columns_of_one_name(name):
    table = pyarrow.Table.from_arrays([pyarrow.array([1]), pyarrow.array([2])], ["a", "a"])
    with pytest.raises(ValueError, match=f"read: {name} has two columns 'a'; rename one"):
        next(md.read(write(name, table)))


def test_fields():
    columns = next(md.read(write("a.parquet"), fields={"instruction": "text"}))
    assert list(columns) == ["instruction", "_origin"]
    with pytest.raises(ValueError, match=r"has no field 'txt' .*did you mean 'text'"):
        list(md.read("a.parquet", fields={"instruction": "txt"}))


def test_without_pyarrow_the_extra_is_named(monkeypatch):
    path = write("a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'mfunc\[arrow\]'"):
        next(md.read(path))


@pytest.mark.parametrize("name", ["a.parquet", "file.arrow"])
def test_memory_does_not_grow_with_the_file(name):
    """One row group, one batch of 40 MB: pyarrow's own memory, and what it maps, stay small."""
    table = pyarrow.table({"text": [f"{i} " + "x" * 2000 for i in range(20_000)]})
    path = write(name, table, rows=20_000)
    del table
    before, peak = pyarrow.total_allocated_bytes(), 0
    for _ in md.read(path, chunk_rows=500):
        peak = max(peak, pyarrow.total_allocated_bytes() - before)
    assert peak < 8e6


def test_a_changed_footer_loses_no_row():
    """Any one bit of the numbers in a parquet file's footer: all rows, or an error."""
    table = pyarrow.table({"n": list(range(300))})
    whole = write("a.parquet", table, rows=100).read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for at in range(footer, len(whole) - 8):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        Path("a.parquet").write_bytes(damaged)
        try:
            rows = sum(len(chunk["_origin"]) for chunk in md.read("a.parquet"))
        except ValueError:
            continue
        assert rows == 300, at


def test_checksums_of_pages_are_checked():
    table = pyarrow.table({"text": ["abc" * 50, "def" * 50]})
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    parquet.write_table(table, "a.parquet", write_page_checksum=True, **plain)
    damaged = Path("a.parquet").read_bytes().replace(b"abcabc", b"abcabd", 1)
    Path("a.parquet").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"read: a\.parquet cannot be read .*(?i:crc|checksum)"):
        next(md.read("a.parquet"))
