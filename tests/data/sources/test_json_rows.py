from __future__ import annotations

import json
import sys
import tracemalloc
from pathlib import Path

import pytest

import mfunc.data as md

json_rows = sys.modules["mfunc.data.sources.json_rows"]


def write(name: str, text: str | bytes) -> Path:
    path = Path(name)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def texts(path: Path) -> list:
    return md.concat(list(md.read(path)))["t"]


FORMS = {"array": "[\n%s\n]", "line": "%s\n"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (r'"a\ud83d\ude00b"', "a\U0001f600b"),
        (r'"\u0000"', "\0"),
        (r'"\\ud800"', r"\ud800"),
        ('"\x7f\ufeff\u2028"', "\x7f\ufeff\u2028"),
        ("1" + "0" * 4000, 10**4000),
        ("-0.0", -0.0),
        ("1e308", 1e308),
        ("[" * 200 + "]" * 200, json.loads("[" * 200 + "]" * 200)),
    ],
)
def test_values_at_the_edge_are_kept(form, value, expected):
    assert texts(write("a.json", FORMS[form] % f'{{"t": {value}}}')) == [expected]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (r'{"t": "a\ud83d"}', r"'\\ud83d' is half of a surrogate pair, not a character"),
        (r'{"t": ["\uDE00\uD83D"]}', r"'\\ude00' is half of a surrogate pair"),
        (r'{"\udfff": 1}', r"'\\udfff' is half of a surrogate pair"),
        ('{"t": 1, "u": 2, "t": 3}', "the key 't' is there twice in one object"),
        ('{"t": [{"u": 2, "u": 2}]}', "the key 'u' is there twice in one object"),
        ('{"t": NaN}', "NaN is not JSON, null is"),
        ('{"t": [-Infinity]}', "-Infinity is not JSON"),
        ('{"t": 1e999}', "the number 1e999 is too large"),
        ('{"t": 1' + "0" * 5000 + "}", "Exceeds the limit"),
        ('{"t": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"t": "\0"}', "Invalid control character"),
        ('{"t": "a\tb"}', "Invalid control character"),
        ('{"t": 1}\0', "Extra data|neither"),
        ('{"t": 1}\x0c', "Extra data|neither"),
        ("{'t': 1}", "Expecting property name"),
        ('{"t": 1,}', "Expecting property name|Illegal trailing comma"),
        ('{"t": 01}', "Expecting ',' delimiter"),
        (r'{"t": "\x41"}', r"Invalid \\escape"),
    ],
)
def test_what_would_lose_or_change_data_is_refused(form, row, reason):
    with pytest.raises(ValueError, match=rf"read: a\.json( line 1|: item 1|: the arr).*({reason})"):
        texts(write("a.json", FORMS[form] % row))


def test_an_array_is_known_by_its_content():
    assert texts(write("a.jsonl", ' \n[{"t": 1},\n {"t": 2}]')) == [1, 2]
    assert texts(write("a.json", '\n {"t": 1}\n{"t": 2}')) == [1, 2]


def test_what_follows_an_array_is_seen_however_far_behind():
    path = write("a.json", '[{"t": 1}]' + " " * (3 * json_rows.BLOCK))
    assert texts(path) == [1]
    with pytest.raises(ValueError, match=r"a\.json goes on after the end of its array: 'x'"):
        texts(write("a.json", path.read_text() + "x"))


@pytest.mark.parametrize("form", ["array", "line"])
def test_too_long_an_item_is_refused(form, monkeypatch):
    monkeypatch.setattr(json_rows, "LONGEST", 1000)
    monkeypatch.setattr(sys.modules["mfunc.data.sources.streams"], "LONGEST", 1000)
    monkeypatch.setattr(json_rows, "BLOCK", 100)
    path = write("a.json", FORMS[form].replace("\n", "") % ('{"t": "' + "x" * 5000 + '"}'))
    with pytest.raises(ValueError, match=r"a\.json (line|item) 1 has 1,000 characters or more"):
        texts(path)


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
def test_array_parsed_in_blocks_of_any_size(block, monkeypatch):
    """Every place of a file is once the end of a block: inside strings, escapes and numbers."""
    rows = [{"t": 'é"\\ \n\u2028😀', "n": [1.5e-3, None, True, {}], "": -12}, {}, {"t": "]["}]
    for text in (json.dumps(rows), json.dumps(rows, indent=1, ensure_ascii=False)):
        monkeypatch.setattr(json_rows, "BLOCK", block)
        values = [
            v for c in md.read(write("a.json", text), chunk_rows=1) for v in c.get("t", [None])
        ]
        assert values == [row.get("t") for row in rows]


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
    """It is parsed again as often as the text has grown by half, not once for every block."""
    monkeypatch.setattr(json_rows, "BLOCK", 100)
    item, calls = json_rows._item, []
    monkeypatch.setattr(json_rows, "_item", lambda *a, **k: calls.append(1) or item(*a, **k))
    text = "y" * 300_000
    assert texts(write("a.json", json.dumps([{"t": text}, {"t": "z"}]))) == [text, "z"]
    assert len(calls) < 30
