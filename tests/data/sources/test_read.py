from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest
from backports import zstd

import mfunc.data as md

PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstd.compress}
ROWS = [{"q": f"{i} + 1?", "a": str(i + 1)} for i in range(10)]


def write(name: str, text: str | bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def lines(rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def everything(path, **settings):
    return md.concat(list(md.read(path, **settings)))


@pytest.mark.parametrize("chunk_rows", [1, 3, 10, 8192])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", lines(ROWS)),
        ("a.json", lines(ROWS)),
        ("a.json", json.dumps(ROWS)),
        ("a.json", json.dumps(ROWS, indent=2)),
        ("a.JSON", json.dumps(ROWS)),
        ("a.json", "\ufeff" + json.dumps(ROWS)),
        ("a.jsonl", "\ufeff" + lines(ROWS)),
        ("a.jsonl", lines(ROWS).replace("\n", "\r\n")),
        ("a.jsonl", "\n" + lines(ROWS).replace("\n", "\n\n")),
    ],
)
def test_all_forms_give_the_same_rows(name, text, chunk_rows):
    chunks = list(md.read(write(name, text), chunk_rows=chunk_rows))
    assert [len(c["q"]) for c in chunks[:-1]] == [chunk_rows] * (len(chunks) - 1)
    columns = md.concat(chunks)
    assert columns["q"] == [row["q"] for row in ROWS]
    assert columns["a"] == [row["a"] for row in ROWS]


def test_no_rows_give_no_chunk():
    assert list(md.read(write("a.json", " [ ] \n"))) == []


def test_origin_and_missing_fields():
    columns = everything(write("a.jsonl", '{"x": 1}\n\n{"y": [2]}\n'))
    assert columns == {
        "x": [1, None],
        "y": [None, [2]],
        "_origin": ["a.jsonl line 1", "a.jsonl line 3"],
    }
    assert everything(write("a.json", '[{"x": 1}, {"x": 2}]'))["_origin"][1] == "a.json item 2"


def test_fields_choose_and_rename():
    path = write("a.jsonl", lines(ROWS))
    columns = everything(path, fields={"instruction": "q"})
    assert list(columns) == ["instruction", "_origin"]
    message = (
        r"has no field 'qq' \(wanted as 'instruction'\) in any of its 10 rows; did you mean 'q'"
    )
    with pytest.raises(ValueError, match=message):
        everything(path, fields={"instruction": "qq"}, chunk_rows=3)


def test_a_wanted_field_may_lack_in_some_rows():
    path = write("a.jsonl", '{"a": "x", "b": "y"}\n{"a": "z"}\n')
    assert everything(path, fields={"input": "b"}, chunk_rows=1)["input"] == ["y", None]


def test_folder_list_and_order():
    write("d/b.jsonl", lines(ROWS[5:]))
    write("d/a.jsonl", lines(ROWS[:5]))
    write("d/.hidden", "x")
    assert everything("d")["q"] == [row["q"] for row in ROWS]
    assert everything(["d/b.jsonl", Path("d/a.jsonl")])["q"][0] == "5 + 1?"


@pytest.mark.parametrize("pack", ["", ".gz", ".zst", ".GZ"])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.JSONL", "a.csv", "a.tsv"])
def test_all_formats_and_packings_give_the_same_rows(name, pack):
    mark = "\t" if name == "a.tsv" else ","
    table = "".join(f"{row['q']}{mark}{row['a']}\n" for row in [{"q": "q", "a": "a"}, *ROWS])
    text = table if name in ("a.csv", "a.tsv") else lines(ROWS)
    path = write(name + pack, PACK[pack.lower()](text.encode()))
    columns = everything(path, chunk_rows=3, fields={"input": "q", "output": "a"})
    assert columns["input"] == [row["q"] for row in ROWS]
    assert columns["output"] == [row["a"] for row in ROWS]
    assert columns["_origin"][0].startswith(f"{name}{pack} line ")


def test_pattern():
    for i in (2, 10, 1):
        write(f"d/part-{i:02}.jsonl", lines([{"q": i}]))
    write("d/other.csv", "q\n1\n")
    write("e/deep/part-00.jsonl", lines([{"q": 0}]))
    assert everything("d/part-*.jsonl")["q"] == [1, 2, 10]
    assert everything(["d/part-0[2].jsonl", Path("d/part-?1.jsonl")])["q"] == [2, 1]
    assert everything("**/*.jsonl")["q"] == [1, 2, 10, 0]
    with pytest.raises(FileNotFoundError, match=r"read: there is no file that matches d/\*\.json$"):
        md.read("d/*.json")
    with pytest.raises(
        ValueError, match=r"pattern d/\* has 3 of kind \.jsonl, but also other\.csv"
    ):
        md.read("d/*")
    write("a[1].jsonl", lines([{"q": "the file itself"}]))
    assert everything("a[1].jsonl")["q"] == ["the file itself"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "folder d has no files; it must hold files of one kind only; supported are .json,"),
        (["c.md"], r"folder d has c\.md; it must hold"),
        (["a.json", "b.csv", "c.md"], r"folder d has 1 of kind \.json, but also b\.csv, c\.md; it"),
        (["a.json", "b.jsonl"], r"folder d has 1 of kind \.json, but also b\.jsonl; it must"),
        (["a.csv", "b.JSON", "c.json"], r"folder d has 2 of kind \.json, but also a\.csv; it must"),
        (["a.json", "a.json.gz"], r"1 of kind \.json, but also a\.json\.gz; it must hold files of"),
        (["a.txt", *(f"{i}.md" for i in range(12))], r"6\.md, 7\.md and 2 more; it must"),
    ],
)
def test_folders_of_other_things_are_refused_at_once(files, message):
    Path("d").mkdir()
    for name in files:
        write(f"d/{name}", "[]")
    with pytest.raises(ValueError, match=message):
        md.read("d")


def test_a_folder_in_a_folder_is_refused():
    write("d/a.json", "[]")
    Path("d/b.json").mkdir()
    with pytest.raises(ValueError, match=r"1 of kind \.json, but also b\.json; it must"):
        md.read("d")


def test_paths_are_checked_at_once():
    with pytest.raises(FileNotFoundError, match=r"there is no file gone\.json"):
        md.read("gone.json")
    message = r"is of kind '\.tar\.gz'; supported are \.json, .*, each also with \.gz or \.zst"
    with pytest.raises(ValueError, match=message):
        md.read(write("a.tar.gz", "x"))
    with pytest.raises(ValueError, match=r"is of kind 'none'; supported are \.json"):
        md.read(write("gz", "x"))
    with pytest.raises(ValueError, match="got no paths"):
        md.read([])
    with pytest.raises(ValueError, match="got an empty path"):
        md.read("")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"chunk_rows": 0}, ValueError, "chunk_rows must be an integer >= 1"),
        ({"quotes": None}, TypeError, "quotes must be True or False, got None"),
        ({"quotes": False}, ValueError, r"header and quotes are for \.csv and \.tsv, but got a"),
        ({"header": ["q"]}, ValueError, r"header and quotes are for \.csv and \.tsv, but got a"),
        ({"fields": {}}, TypeError, r"fields must map new names to names in the files, got \{\}"),
        ({"fields": ["q"]}, TypeError, r"fields must map new names to names .*, got \['q'\]"),
        ({"fields": {"q": 1}}, TypeError, "fields must map new names to names"),
        (
            {"fields": {"_origin": "q"}},
            ValueError,
            "fields has a column '_origin', which read itself adds",
        ),
    ],
)
def test_settings_are_checked_at_once(settings, error, message):
    path = write("a.jsonl", lines(ROWS))
    with pytest.raises(error, match=f"read: {message}"):
        md.read(path, **settings)


def test_packed_files_are_never_unpacked_whole():
    """3 MB of gz hold 3 GB: the first rows come at once, in little memory."""
    row = lines([{"q": "x" * 1000}]).encode() * 1000
    write("a.jsonl.gz", gzip.compress(row) * 3000)
    tracemalloc.start()
    chunks = md.read("a.jsonl.gz", chunk_rows=500)
    assert sum(len(next(chunks)["q"]) for _ in range(10)) == 5000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


def test_rows_before_a_fault_are_given():
    chunks = md.read(write("a.jsonl", lines(ROWS) + "{"), chunk_rows=5)
    assert [len(next(chunks)["q"]) for _ in range(2)] == [5, 5]
    with pytest.raises(ValueError, match="line 11"):
        next(chunks)


def test_a_chunk_is_not_kept_while_the_next_is_read():
    path = write("a.jsonl", lines([{"q": "x" * 100_000}] * 200))
    tracemalloc.start()
    chunks = md.read(path, chunk_rows=50)
    assert [len(next(chunks)["q"]) for _ in range(4)] == [50] * 4
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6, "a chunk has 5 MB"


def test_real_files(shared):
    columns = everything(shared / "data/alpaca/alpaca_51k.json")
    assert len(columns["instruction"]) == 51_000
    belle = everything(shared / "data/belle/school_math_900.jsonl")
    assert len(belle["instruction"]) == 900
    assert "小明" in belle["instruction"][0]
    gsm = everything(
        shared / "data/gsm8k/train.jsonl", fields={"instruction": "question", "output": "answer"}
    )
    assert len(gsm["output"]) == 7473
    talk = everything([*sorted((shared / "data/llamafactory").glob("alpaca_*.json*"))])
    assert {"instruction", "output"} <= set(talk)
    wiki = everything(shared / "data/wikitext2/valid.txt")
    raw = (shared / "data/wikitext2/valid.txt").read_bytes()
    assert "\n".join([*wiki["text"], ""]).encode() == raw
