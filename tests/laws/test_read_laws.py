"""The laws of reading: what was written comes back, and damage is refused, never worse."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

import mfunc.data as md

ROOT = Path(__file__).resolve().parents[2]
PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstd.compress}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NUMBER = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def columns(draw, value=TEXT, least: int = 0) -> dict[str, list]:
    """Columns of any names, of at least so many rows."""
    names = draw(st.lists(CELL.filter(bool), min_size=1, max_size=4, unique=True))
    count = draw(st.integers(least, 12))
    return {name: draw(st.lists(value, min_size=count, max_size=count)) for name in names}


def rows_of(table: dict[str, list]) -> list[dict]:
    return [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]


def read_back(name: str, data: bytes, table: dict[str, list], draw) -> None:
    """What was written, packed or not, is read in chunks of any size, each row with its origin."""
    pack = draw(st.sampled_from(sorted(PACK)))
    Path(name + pack).write_bytes(PACK[pack](data))
    chunk_rows = draw(st.integers(1, 14))
    chunks = list(md.read(name + pack, chunk_rows=chunk_rows))
    assert all(len(chunk["_origin"]) == chunk_rows for chunk in chunks[:-1])
    found = md.concat(chunks)
    origins = found.pop("_origin", [])
    assert len(set(origins)) == len(origins)
    assert found == (table if next(iter(table.values())) else {})


@given(columns(JSON, least=1), st.data())
def test_json(table, data):
    rows = rows_of(table)
    ascii_only, indent = data.draw(st.booleans()), data.draw(st.sampled_from([None, 0, 2]))
    newline = data.draw(st.sampled_from(["\n", "\r\n", "\r", "\n \t\n"]))
    form = data.draw(st.sampled_from(["array.json", "lines.json", "a.jsonl"]))
    if form == "array.json":
        text = json.dumps(rows, ensure_ascii=ascii_only, indent=indent).replace("\n", newline)
    else:
        text = newline.join(json.dumps(row, ensure_ascii=ascii_only) for row in rows)
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig"]))
    read_back(form, text.encode(encoding), table, data.draw)


@given(columns(CELL), st.data())
def test_tables(table, data):
    """As Python's own writer writes them; an empty cell and None are the same."""
    name = data.draw(st.sampled_from(["a.csv", "a.tsv"]))
    out = io.StringIO(newline="")
    mark = "\t" if name == "a.tsv" else ","
    end, quoting = data.draw(
        st.sampled_from([("\r\n", csv.QUOTE_MINIMAL), ("\n", csv.QUOTE_ALL), ("\r", csv.QUOTE_ALL)])
    )
    writer = csv.writer(out, delimiter=mark, lineterminator=end, quoting=quoting)
    writer.writerows([list(table), *zip(*table.values(), strict=True)])
    expected = {name: [cell or None for cell in cells] for name, cells in table.items()}
    read_back(name, out.getvalue().encode("utf-8-sig"), expected, data.draw)


PLAIN = st.characters(exclude_categories=["Cs"], exclude_characters='\0\r\n\t,"')


@given(columns(st.text(PLAIN, max_size=9)), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_tables_without_quotes_or_header(table, end, data):
    """Names given apart; a row of nothing but one empty cell would be a blank line."""
    quotes = data.draw(st.booleans())
    rows = [[*cells, "" if quotes else '"'] for cells in zip(*table.values(), strict=True)]
    Path("a.tsv").write_bytes(end.join("\t".join(row) for row in rows).encode("utf-8-sig"))
    read = md.read("a.tsv", header=[*table, "\0end"], quotes=quotes)
    if not rows:
        with pytest.raises(ValueError, match=r"a\.tsv is empty"):
            list(read)
        return
    found = next(read)
    assert found.pop("\0end") == [None if quotes else '"'] * len(rows)
    del found["_origin"]
    assert found == {name: [cell or None for cell in cells] for name, cells in table.items()}


LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=9)


@given(st.lists(LINE, min_size=1), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_txt(texts, end, data):
    text = "".join(text + end for text in texts)
    read_back("a.txt", text.encode("utf-8-sig"), {"text": texts}, data.draw)


@given(columns(st.none() | TEXT), st.data())
def test_parquet_and_arrow(table, data):
    typed = pyarrow.table({name: pyarrow.array(v, pyarrow.string()) for name, v in table.items()})
    size = data.draw(st.integers(1, 14))
    out = io.BytesIO()
    name = data.draw(st.sampled_from(["a.parquet", "file.arrow", "stream.arrow"]))
    if name == "a.parquet":
        parquet.write_table(typed, out, row_group_size=size)
    else:
        kind = pyarrow.ipc.new_file if name == "file.arrow" else pyarrow.ipc.new_stream
        with kind(out, typed.schema) as writer:
            writer.write_table(typed, max_chunksize=size)
    read_back(name, out.getvalue(), table, data.draw)


@pytest.mark.parametrize(
    ("count", "seed"), [(600, 0), pytest.param(10_000, 1, marks=pytest.mark.slow)]
)
def test_damaged_files_are_refused_or_read(count, seed):
    """In a process of its own, so that a crash, a hang and its memory are seen."""
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "faulthandler",
            ROOT / "tests/laws/fuzz_read.py",
            f"{count}",
            f"{seed}",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.startswith(f"{count} mutations: ")
