from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

import mfunc.data as md

ROWS = [{"q": f"{i} + 1?", "a": str(i + 1)} for i in range(10)]


def write(name: str, text: str | bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
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


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
def test_array_parsed_in_blocks_of_any_size(block, monkeypatch):
    """Every place of a file is once the end of a block: inside strings, escapes and numbers."""
    rows = [{"t": 'é"\\ \n\u2028😀', "n": [1.5e-3, None, True, {}], "": -12}, {}, {"t": "]["}]
    for text in (json.dumps(rows), json.dumps(rows, indent=1, ensure_ascii=False)):
        monkeypatch.setattr(READ, "BLOCK", block)
        values = [
            v for c in md.read(write("a.json", text), chunk_rows=1) for v in c.get("t", [None])
        ]
        assert values == [row.get("t") for row in rows]


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


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "folder d has no files; it must hold files of one kind"),
        (["a.json", "b.csv", "c.md"], r"folder d has b\.csv, c\.md; it must"),
        (["a.json", "b.jsonl"], r"folder d has a\.json, b\.jsonl; it must hold files of one kind"),
    ],
)
def test_folders_of_other_things_are_refused_at_once(files, message):
    Path("d").mkdir()
    for name in files:
        write(f"d/{name}", "[]")
    with pytest.raises(ValueError, match=message):
        md.read("d")


def test_paths_are_checked_at_once():
    with pytest.raises(FileNotFoundError, match=r"there is no file gone\.json"):
        md.read("gone.json")
    with pytest.raises(ValueError, match=r"is of kind '\.csv'; supported are \.json, \.jsonl"):
        md.read(write("a.csv", "x"))
    with pytest.raises(ValueError, match="got no paths"):
        md.read([])
    with pytest.raises(ValueError, match="chunk_rows must be an integer >= 1"):
        md.read("gone.json", chunk_rows=0)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "", r"a\.json is empty"),
        ("a.jsonl", " \n\n ", r"a\.jsonl is empty"),
        ("a.jsonl", '{"x": 1}\n{"x": ', r"a\.jsonl line 2 is not a JSON value .*: '{\"x\":'"),
        ("a.jsonl", '{"x": 1}\n{"x": "ab\n', "line 2 is not a JSON value"),
        ("a.jsonl", '{"x": 1}\n[1]\n', "line 2 is a list, but a row must be an object"),
        ("a.jsonl", '{"x": 1} {"x": 2}\n', r"line 1 is not a JSON value \(Extra data\)"),
        ("a.json", '{\n"x": 1\n}', "line 1 is not a JSON value"),
        ("a.json", '[{"x": 1}, 5]', "item 2 is a int, but a row must be an object"),
        ("a.json", '[{"x": 1}, {"x": ', "ends in the middle, after item 1; is it cut off"),
        ("a.json", '[{"x": 1}, {"x": "abc', "ends in the middle, after item 1"),
        ("a.json", '[{"x": 1}', "ends in the middle, after item 1"),
        ("a.json", "[", "ends in the middle, after item 0"),
        ("a.json", '[{"x": 1}, ]', "item 2 is not a JSON value"),
        ("a.json", '[{"x": 1} {"x": 2}]', "neither ',' nor ']' after item 1"),
        ("a.json", '[{"x": 1}] x', "goes on after the end of its array: 'x'"),
        ("a.json", '[{"x": 1, y}, ' + '{"x": 2}, ' * 99, r"item 1 is not a JSON value \(Expecting"),
        ("a.json", "[" * 100_000, r"item 1 is not a JSON value \(nested too deeply\)"),
        ("a.jsonl", '{"x":' * 100_000, r"line 1 is not a JSON value \(nested too deeply\)"),
        ("a.jsonl", b'{"x": "\xe9t\xe9"}', "is not UTF-8 text .*byte 0xe9"),
        ("a.json", '[{"x": 1}]'.encode("utf-16"), "is not UTF-8 text"),
        ("a.jsonl", '{"_origin": 1}', "has a field '_origin', which read itself adds"),
    ],
)
def test_bad_files_are_named_with_the_place(name, text, message):
    with pytest.raises(ValueError, match=message):
        list(md.read(write(name, text)))


def test_rows_before_a_fault_are_given():
    chunks = md.read(write("a.jsonl", lines(ROWS) + "{"), chunk_rows=5)
    assert [len(next(chunks)["q"]) for _ in range(2)] == [5, 5]
    with pytest.raises(ValueError, match="line 11"):
        next(chunks)


@pytest.mark.parametrize("form", ["array", "lines"])
def test_memory_does_not_grow_with_the_file(form):
    row = {"text": "x" * 1000}
    with Path("a.json").open("w") as file:
        file.write("[" * (form == "array"))
        for i in range(20_000):
            file.write((",\n" if form == "array" else "\n") * bool(i) + json.dumps(row))
        file.write("]" * (form == "array"))
    tracemalloc.start()
    count = sum(len(chunk["text"]) for chunk in md.read("a.json", chunk_rows=500))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 8e6, "20 MB of file"


def test_one_item_longer_than_many_blocks(monkeypatch):
    """It is parsed again as often as the text has doubled, not once for every block."""
    monkeypatch.setattr(READ, "BLOCK", 100)
    item, calls = READ._item, []
    monkeypatch.setattr(READ, "_item", lambda *a, **k: calls.append(1) or item(*a, **k))
    text = "y" * 300_000
    assert everything(write("a.json", json.dumps([{"t": text}, {"t": "z"}])))["t"] == [text, "z"]
    assert len(calls) < 30


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
