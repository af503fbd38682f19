from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

import mfunc.data as md
from mfunc.data.sources import streams, text_rows


def rows(name: str, text: str | bytes, **settings):
    """The rows of a file of that text, as dicts, without their origins."""
    Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
    columns = md.concat(list(md.read(name, **settings)))
    names = [n for n in columns if n != "_origin"]
    return [
        dict(zip(names, v, strict=True)) for v in zip(*(columns[n] for n in names), strict=True)
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_txt_has_a_row_for_every_line(end, last, mark):
    texts = ["one", "", "  two\u2028\x0b\x1c ", '"three"', ""] if last else ["one", "", "two"]
    text = mark + end.join(texts) + end * last
    assert [row["text"] for row in rows("a.txt", text)] == texts
    assert next(md.read("a.txt"))["_origin"][2] == "a.txt line 3"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_cells_are_texts_and_empty_ones_none(name, end):
    lines = ["a,b,c", "1,x y, z ", ",,", '"","1,2","say ""hi"""', "007,NA,nan", "", "e,f,g"]
    text = end.join(lines).replace("1,2", "1;2").replace(",", "\t" if name == "a.tsv" else ",")
    expected = [
        {"a": "1", "b": "x y", "c": " z "},
        {"a": None, "b": None, "c": None},
        {"a": None, "b": "1;2", "c": 'say "hi"'},
        {"a": "007", "b": "NA", "c": "nan"},
        {"a": "e", "b": "f", "c": "g"},
    ]
    assert rows(name, text) == expected
    assert rows(name, "\ufeff" + text + end + end) == expected
    origins = next(md.read(name))["_origin"]
    assert origins[0] == f"{name} line 2"
    assert origins[-1] == f"{name} line 7", "the blank line counts"


def test_quoted_cells_hold_anything():
    text = 'a,b\r\n"1,\n2","x\r\ny\rz"\r\n"""",""",""\n"""\n"\n\n",end'
    assert rows("a.csv", text) == [
        {"a": "1,\n2", "b": "x\r\ny\rz"},
        {"a": '"', "b": '","\n"'},
        {"a": "\n\n", "b": "end"},
    ]
    assert next(md.read("a.csv"))["_origin"] == ["a.csv line 2", "a.csv line 6", "a.csv line 8"]


def test_tables_without_a_header():
    """As CoLA has them."""
    text = "gj04\t1\t\tOur friends won't buy this.\ngj04\t0\t*\tThe cat sleep.\n"
    found = rows("cola.tsv", text, header=("source", "label", "mark", "sentence"))
    assert found[0]["mark"] is None
    assert found[1] == {"source": "gj04", "label": "0", "mark": "*", "sentence": "The cat sleep."}
    assert next(md.read("cola.tsv", header=list("abcd")))["_origin"][0] == "cola.tsv line 1"
    text = 'a\t"Go!" he said\n"b\tit is 5" long\n'
    expected = [{"x": "a", "y": '"Go!" he said'}, {"x": '"b', "y": 'it is 5" long'}]
    assert rows("a.tsv", text, header=["x", "y"], quotes=False) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "a.txt is empty"),
        ("a.csv", "", "a.csv is empty"),
        ("a.csv", "\n\r\n", "a.csv is empty"),
        ("a.csv", "a,b\n1,2\n3\n", r"line 3 has 1 cells, but the header 2 names \(a, b\): '3'"),
        ("a.csv", 'a,b\n"1\n",2\n3,4,5\n', "line 4 has 3 cells, but the header 2 names"),
        ("a.tsv", "a\tb\n \n", "line 2 has 1 cells, but the header 2 names"),
        ("a.csv", "a,b,a\n", "line 1: the header has the name 'a' twice, .*: 'a', 'b', 'a'; for a"),
        ("a.csv", ",a\n0,1", "line 1: the header has an empty name"),
        ("a.csv", "_origin\n1\n", "has a field '_origin', which read itself adds"),
        ("a.csv", 'a,b\n1,x"y"\n', "line 2 has a quote in the middle of a cell: .*quotes=False"),
        ("a.csv", 'a,b\n1,"x"y\n', "line 2 has a quote in the middle of a cell"),
        ("a.csv", 'a,b\n1,"x\n3,4\n', "line 2 has a quote that is not closed: .*quotes=False"),
        ("a.csv", 'a,b\n1,x"\n3,"4\n', "line 2 has a quote in the middle of a cell"),
        ("a.csv", "a,b\n1,\0\n", "line 2 has a NUL byte, so it is not text"),
        ("a.csv", 'a,b\n1,"\n\0"\n', "line 2 has a NUL byte, so it is not text"),
        ("a.txt", "a\nb\0\n", "line 2 has a NUL byte, so it is not text"),
        ("a.txt", "a\nb\n".encode("utf-16-le"), "line 1 has a NUL byte, so it is not text"),
    ],
)
def test_bad_files_are_named_with_the_line(name, text, message):
    with pytest.raises(ValueError, match=message):
        rows(name, text)


@pytest.mark.parametrize(
    ("header", "error", "message"),
    [
        ("ab", TypeError, "read: header must be a list of names, got 'ab'"),
        ([1], TypeError, r"read: header must be a list of names, got \[1\]"),
        ([], ValueError, "read: the header has no name"),
        (["a", ""], ValueError, "read: the header has an empty name"),
        (["a", "a"], ValueError, "read: the header has the name 'a' twice"),
    ],
)
def test_a_header_is_checked_at_once(header, error, message):
    Path("a.csv").write_text("1,2")
    with pytest.raises(error, match=message):
        md.read("a.csv", header=header)


def test_a_header_alone_has_no_rows():
    Path("a.csv").write_text("a,b\n")
    assert list(md.read("a.csv")) == []


def test_a_quote_never_closed_does_not_take_the_memory(monkeypatch):
    for module in (text_rows, streams):
        monkeypatch.setattr(module, "LONGEST", 1000)
    with pytest.raises(ValueError, match="line 2, with a quoted cell that does not end, has 1,000"):
        rows("a.csv", 'a\n"' + "xy\n" * 10_000)


def test_memory_does_not_grow_with_the_table():
    wide, tall = "x" * 500, ("y" * 99 + "\n") * 5
    with Path("a.csv").open("w") as file:
        file.write("text,more\n")
        file.writelines(f'"{i}, {wide}","{tall}"\n' for i in range(20_000))
    tracemalloc.start()
    count = sum(len(chunk["text"]) for chunk in md.read("a.csv", chunk_rows=500))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 8e6, "20 MB of file"
