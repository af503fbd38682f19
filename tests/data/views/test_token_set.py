from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mfunc.data as md
from mfunc.data import Ragged
from mfunc.data.storage import indexed, mindrecord
from mfunc.data.views.token_set import token_set

IDS = Ragged.from_rows([[1, 2], [3]])


def write(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def test_columns():
    mask = Ragged.from_rows([[1, 1], [1]])
    given = {"input_ids": IDS, "labels": IDS, "segment_ids": mask, "attention_mask": IDS, "x": IDS}
    assert token_set("diff", given) == ("columns", {"ids": IDS, "labels": IDS, "mask": mask})
    array = {"input_ids": np.array([[1, 2], [3, 4]])}
    assert token_set("diff", array)[1]["ids"] == Ragged.from_rows([[1, 2], [3, 4]])
    assert token_set("diff", {"text": IDS})[1] == {"ids": IDS}


def test_paths():
    indexed.write("p", {"input_ids": IDS})
    indexed.write("t", {"text": IDS}, packed=False)
    mindrecord.write("m.mindrecord", {"input_ids": IDS})
    for path in ("p", Path("p"), "t", "m.mindrecord", "p_packed_input_ids_document.bin"):
        assert token_set("diff", path)[1]["ids"] == IDS
    mindrecord.write("e.mindrecord", {"input_ids": IDS[:0]})
    assert len(token_set("diff", "e.mindrecord")[1]["ids"]) == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "[[1, 2], [3]]"),
        ("a.json", "\ufeff[[1, 2], [3]]"),
        ("a.json", '{"input_ids": [[1, 2], [3]], "other": 1}'),
        ("a.json", '[{"input_ids": [1, 2], "text": "x"}, {"input_ids": [3]}]'),
        ("a.jsonl", "[1, 2]\n\n[3]\n"),
        ("a.jsonl", '{"input_ids": [1, 2]}\r\n{"input_ids": [3]}'),
    ],
)
def test_json(name, text):
    assert token_set("diff", write(name, text))[1] == {"ids": IDS}


def test_no_rows():
    assert len(token_set("diff", write("a.json", "[]"))[1]["ids"]) == 0
    assert len(token_set("diff", write("a.jsonl", ""))[1]["ids"]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2", r"a\.json is not a list of id lists, nor of rows with input_ids: "),
        ("[1, 2]", r"a\.json is not a list of id lists.*row 0 is not a sequence"),
        ('["a"]', r"a\.json is not a list of id lists"),
        ("3", r"a\.json is not a list of id lists"),
        ("[" * 100_000, r"a\.json is not a list of id lists"),
        ("[[1], [99999999999]]", r"a\.json is not a list of id lists.*do not fit int32"),
        ('[{"input_ids": [1]}, {"labels": [3]}]', r"a\.json is not a list.*'input_ids'"),
        (
            '[{"input_ids": [1, 2], "labels": [3]}]',
            "row 0 has 2 input_ids, but 1 labels; they must",
        ),
        ('{"labels": [[1]], "segment_ids": [[1]]}', "diff has no input_ids, but labels"),
        ('{"input_ids": [[1]], "labels": []}', "columns differ in length"),
    ],
)
def test_wrong_json(text, message):
    with pytest.raises(ValueError, match=message):
        token_set("diff", write("a.json", text))


def test_other_encodings_are_named():
    Path("a.json").write_bytes("[[1]]".encode("utf-16"))
    with pytest.raises(ValueError, match=r"diff: a\.json is not a list of id lists"):
        token_set("diff", "a.json")


def test_what_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        token_set("diff", "gone.json")
    with pytest.raises(FileNotFoundError, match="there is no gone_text_document"):
        token_set("diff", "gone")


def test_files_of_every_kind_are_read_in_chunks():
    rows = {
        "input_ids": Ragged.from_rows([[1, 2], [3], [4]]),
        "labels": Ragged.from_rows([[-100, 2], [3], [4]]),
    }
    md.indexed.write("x", rows)
    md.write("x.json", rows)
    for path, names in (("x", ["input_ids", "attention_mask", "labels"]), ("x.json", [*rows])):
        chunks = list(md.read_tokens(path, chunk_rows=2))
        assert [len(chunk["input_ids"]) for chunk in chunks] == [2, 1]
        assert [*chunks[0]] == names
        assert {name: md.concat(chunks)[name] for name in rows} == rows
    alone = list(md.read_tokens("x_packed_labels_document.idx"))
    assert [[*chunk] for chunk in alone] == [["input_ids"]]
    md.mindrecord.write("x.mindrecord", rows)
    assert md.concat(list(md.read_tokens("x.mindrecord", chunk_rows=1))) == rows


def test_what_holds_no_tokens_is_refused_at_once():
    names = (f"{a}_{b}" for a in ("chosen", "rejected") for b in ("input_ids", "labels"))
    md.indexed.write("pair", dict.fromkeys(names, np.array([[1]])))
    with pytest.raises(
        ValueError, match="read_tokens: pair has no input_ids, but chosen_input_ids"
    ):
        md.read_tokens("pair")
    with pytest.raises(FileNotFoundError, match="there is no"):
        md.read_tokens("nothing")
    with pytest.raises(ValueError, match="read_tokens: chunk_rows must be an integer >= 1, got 0"):
        md.read_tokens("pair", chunk_rows=0)
