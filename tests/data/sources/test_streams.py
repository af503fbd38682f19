from __future__ import annotations

import gzip
import sys
from functools import partial
from pathlib import Path

import pytest
from backports import zstd

from mfunc.data.sources import streams
from mfunc.data.sources.streams import excerpt, lines, on_disk, open_bytes, open_text

DATA = b"".join(b"%d squared is %d\n" % (i, i * i) for i in range(20_000))
PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstd.compress}


def write(name: str, data: bytes) -> Path:
    path = Path(name)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", [*PACK, ".GZ"])
def test_bytes_are_those_inside(suffix):
    path = write(f"a.txt{suffix}", PACK[suffix.lower()](DATA))
    with open_bytes(path) as stream:
        assert stream.read() == DATA
    with on_disk(path) as name:
        assert Path(name).read_bytes() == DATA
        assert (name == str(path)) == (suffix == "")
    assert suffix == "" or not Path(name).exists(), "a temporary file is taken away"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_several_members_are_one_file(suffix):
    path = write(f"a.txt{suffix}", PACK[suffix](DATA) + PACK[suffix](b"end"))
    with open_bytes(path) as stream:
        assert stream.read() == DATA + b"end"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("use", [open_bytes, open_text, on_disk])
def test_cut_off_or_damaged(suffix, use):
    whole = PACK[suffix](DATA)
    damaged = whole[:2000] + b"\xaa\x55" * 500 + whole[3000:]
    for data in (whole[:-1], whole[:5000], whole[:5], damaged, b"no such thing " * 9):
        path = write(f"a.txt{suffix}", data)
        with (
            pytest.raises(ValueError, match=rf"a\.txt\{suffix} is cut off or damaged"),
            use(path) as stream,
        ):
            list(iter(partial(stream.read, 1 << 12), stream.read(0)))


def test_without_zstd_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "backports", None)
    with pytest.raises(ImportError, match=r"pip install 'mfunc\[zst\]'"), open_bytes(Path("a.zst")):
        pass


def test_lines_end_in_three_ways_and_keep_their_ends():
    path = write("a.txt", b"\xef\xbb\xbfone\ntwo\r\nthree\rfour\x0b\x0c\xe2\x80\xa8\x1c still\n\n")
    with open_text(path) as stream:
        found = list(lines(stream, path))
    assert found == [
        (1, "one\n"),
        (2, "two\r\n"),
        (3, "three\r"),
        (4, "four\x0b\x0c\u2028\x1c still\n"),
        (5, "\n"),
    ]


def test_a_newline_of_two_is_one_wherever_a_block_ends():
    for length in range(8185, 8195):
        path = write("a.txt", b"x" * length + b"\r\ny\r\n")
        with open_text(path) as stream:
            assert [len(line) for _, line in lines(stream, path)] == [length + 2, 3]


def test_too_long_a_line_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(streams, "LONGEST", 100)
    path = write("a.txt", b"short\n" + b"x" * 10_000)
    with (
        pytest.raises(ValueError, match=r"a\.txt line 2 has 100 characters or more; is it of"),
        open_text(path) as stream,
    ):
        list(lines(stream, path))


@pytest.mark.parametrize("data", [b"caf\xe9\n", "text".encode("utf-16"), b"\xed\xa0\x80"])
def test_other_encodings_are_refused(data):
    path = write("a.txt", data)
    with (
        pytest.raises(ValueError, match=r"a\.txt is not UTF-8 text .*; convert it"),
        open_text(path) as stream,
    ):
        stream.read()


def test_excerpt_is_short():
    assert excerpt("  ab\n") == "'ab'"
    assert excerpt("x" * 10**6) == repr("x" * 60 + "...")
