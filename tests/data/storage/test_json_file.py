from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mfunc.data as md
from mfunc.data import Ragged

ROWS = {"id": ["1", "二"], "n": [None, 2.5], "_origin": ["a line 1", "a line 2"]}


def test_an_array_or_lines():
    assert md.write("new/x.json", ROWS) == 2
    assert Path("new/x.json").read_text(encoding="utf-8") == (
        '[\n{"id": "1", "n": null},\n{"id": "二", "n": 2.5}\n]\n'
    )
    assert md.write("x.jsonl", ROWS) == 2
    assert Path("x.jsonl").read_text(encoding="utf-8") == (
        '{"id": "1", "n": null}\n{"id": "二", "n": 2.5}\n'
    )


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_chunks_are_written_as_they_come(name):
    md.write("whole.json", ROWS)
    assert md.write(name, (part for part in [md.take(1)(ROWS), (md.skip(1)(ROWS), {"a": 1})])) == 2
    rows = next(md.read(name))
    assert rows["id"] == ROWS["id"]
    assert rows["n"] == ROWS["n"]


def test_numbers_of_arrays():
    md.write("x.jsonl", {"input_ids": Ragged.from_rows([[1, 2], []]), "k": np.array([1.5, 2])})
    assert (
        Path("x.jsonl").read_text()
        == '{"input_ids": [1, 2], "k": 1.5}\n{"input_ids": [], "k": 2.0}\n'
    )


def test_no_rows():
    assert md.write("x.json", []) == 0
    assert Path("x.json").read_text() == "[\n]\n"
    assert list(md.read("x.json")) == []
    assert md.write("x.jsonl", {"id": []}) == 0
    assert Path("x.jsonl").read_text() == ""


def test_what_is_no_json_leaves_the_old_file():
    md.write("x.json", ROWS)
    before = Path("x.json").read_text()
    for value, reason in (
        (float("nan"), "not JSON compliant"),
        ("\ud800", "surrogates"),
        ({1}, "set"),
    ):
        with pytest.raises(
            ValueError, match=rf"write: row 1 \(a line 2\) cannot be JSON: .*{reason}"
        ):
            md.write("x.json", {**ROWS, "n": [1, value]})
    with pytest.raises(ValueError, match="write: row 2 cannot be JSON"):
        md.write("x.json", [{"a": [1, 2]}, {"a": [{1}]}])
    assert Path("x.json").read_text() == before
    assert [p.name for p in Path().iterdir()] == ["x.json"]


def test_the_suffix_says_the_form():
    with pytest.raises(ValueError, match=r"the suffix of path must be one of '\.json', '\.jsonl'"):
        md.write("x.csv", ROWS)
