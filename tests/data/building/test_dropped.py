from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.data.byte_tokenizer import ByteTokenizer

import mfunc.data as md
from mfunc.data.building.dropped import Dropped, dropped_rows, dump, strict_form

ROWS = {
    "instruction": ["a", None, "b", "c"],
    "output": ["x", "y", None, "z" * 99],
    "_origin": ["f line 1", "f line 2", "f line 3", "f line 4"],
}
CHAT = md.chat(style="alpaca", template="alpaca", invalid="drop")


def test_the_reasons_are_those_that_are_counted():
    tokenize = md.tokenize(ByteTokenizer())
    for prepare in (CHAT, md.compose(md.truncate(99, policy="drop"), md.compose(tokenize, CHAT))):
        strict = strict_form(prepare)
        assert strict == md.chat(style="alpaca", template="alpaca")
        out, counts = md.counted(prepare, ROWS)
        found = dropped_rows(strict, ROWS, out["_origin"], first=10)
        assert [(d.row, d.origin, d.reason) for d in found] == [
            (11, "f line 2", "not_text"),
            (12, "f line 3", "missing_answer"),
        ]
        assert all(counts[f"chat.dropped.{d.reason}"] == 1 for d in found)


def test_what_drops_nothing_has_no_strict_form():
    for function in (len, md.take(1), md.chat(style="alpaca", template="alpaca")):
        assert strict_form(function) is None


def test_other_errors_are_not_taken_for_reasons():
    with pytest.raises(ValueError, match="has no 'instruction'"):
        dropped_rows(strict_form(CHAT), {"output": ["a"], "_origin": ["f"]}, [])


def test_a_line_for_every_row():
    dump(Path("x"), [Dropped(3, "f line 4", "not_text", "é")])
    told = json.loads(Path("x").read_text("utf-8"))
    assert told == {"row": 3, "origin": "f line 4", "reason": "not_text", "seen": "é"}
