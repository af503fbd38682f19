from __future__ import annotations

import pytest
from tests.cli import byte_level

import mfunc.data as md
from mfunc.cli import main
from mfunc.data import Ragged

pytest.importorskip("tokenizers")


def saved(name, *texts, bos=True):
    rows = [[*[byte_level.BOS] * bos, *text.encode(), byte_level.EOS] for text in texts]
    md.write(name, {"input_ids": Ragged.from_rows(rows)})
    return name


def test_equal(capsys):
    a, b = saved("a.json", "Hi", "No"), saved("b.jsonl", "Hi", "No")
    assert main(["data", "diff", a, b]) == 0
    assert capsys.readouterr().out == (
        "a: a.json, 2 rows\nb: b.jsonl, 2 rows\n2 rows compared; rows that differ: input_ids in 0\n"
    )


def test_different(capsys, tmp_path):
    folder = byte_level.folder(tmp_path / "bytes")
    loaded = md.hf_tokenizer(folder / "tokenizer.json", bos="<s>", eos="</s>")
    ids = loaded.encode(["Hi", "No"])
    md.write("a.json", {"input_ids": [[256, *row, 257] for row in ids]})
    md.write("b.json", {"input_ids": [[*row, 257] for row in ids]})
    assert (
        main(["data", "diff", "a.json", "b.json", "--tokenizer", str(folder), "--limit", "1"]) == 1
    )
    h, i = ids[0]
    assert capsys.readouterr().out == (
        "a: a.json, 2 rows\n"
        "b: b.json, 2 rows\n"
        "2 rows compared; rows that differ: input_ids in 2\n"
        "causes of the first 2 rows that differ:\n"
        "       2  bos missing in b\n"
        "\n"
        "row 0, input_ids, position 0: bos missing in b\n"
        f"  a  256 {h} {i} 257\n"
        "     'Hi'\n"
        f"  b  {h} {i} 257\n"
        "     'Hi'\n"
    )


def test_an_error_is_one_line_and_2(capsys):
    saved("a.json", "Hi")
    assert main(["data", "diff", "a.json", "b.json"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mfunc data diff: ")
    assert "b.json" in error
    assert error.count("\n") == 1
