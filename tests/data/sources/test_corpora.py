from __future__ import annotations

import json
import re

import numpy as np
import pytest

import mfunc.data as md
from mfunc.data.sources.corpora import clean_wikitext


def article(*qas, context="It is 3."):
    return {"paragraphs": [{"context": context, "qas": list(qas)}]}


def asked(question, *answers):
    return {"question": question, "answers": [{"text": text} for text in answers]}


FILE = {"data": [[article(asked("What?", "3", "three"), asked("Why?", "so")), article(asked("?"))]]}


def test_squad_prompt_and_which_rows_are_kept():
    out, counts = md.counted(md.squad(), FILE)
    assert out["prompt"][0] == (
        "Read the passage and answer the question below.\n\n### Instruction:\nIt is 3.\n\n"
        "### Input:\nWhat?\n\n### Response:"
    )
    assert out["answer"] == ["3", "so"]
    assert counts == {
        "squad.questions": 3,
        "squad.rows": 2,
        "squad.unanswered": 1,
        "squad.skipped": 0,
    }
    everything = md.squad(answers="all")(FILE)
    assert everything["answer"] == ["3", "three", "so"]
    upstream, counts = md.counted(md.squad(questions="first"), FILE)
    assert upstream["answer"] == ["3"]
    assert (counts["squad.questions"], counts["squad.skipped"]) == (2, 1)


def test_cmrc2018_and_braces_in_a_passage():
    file = {"data": [[article(asked("谁？", "我"), context="{question} {x}")]]}
    out = md.squad(prompt="cmrc2018")(file)
    assert out == {"prompt": ["阅读文章：{question} {x}\n问：谁？\n答："], "answer": ["我"]}


def test_a_file_is_read_and_becomes_pieces(tmp_path):
    path = tmp_path / "train-v1.1.json"
    path.write_text(json.dumps({"version": "1.1", "data": FILE["data"][0]}))
    pieces = md.pipe(next(md.read(path)), md.squad(), md.sft("default"))["pieces"]
    assert [piece.trained for piece in pieces[0]] == [False, False, True, True]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, r"row 0: data is {}, but must be a list"),
        ([{"title": "x"}], r"data\[0\] is .*, but must be an object with 'paragraphs'"),
        ([article({"question": "?"})], r"paragraphs\[0\].qas\[0\] is .* with 'answers'"),
        ([article(asked(3, "x"))], r"qas\[0\].question is 3, but must be text"),
        ([article(asked("?", None))], r"answers\[0\].text is None, but must be text"),
        ([article(context=["x" * 99])], r"context is \['x{50,}\.\.\., but must be text"),
    ],
)
def test_other_structures_are_refused_with_their_place(data, message):
    with pytest.raises(ValueError, match=message):
        md.squad()({"data": [data]})


def test_settings_are_refused_when_built():
    with pytest.raises(ValueError, match="prompt must be one of 'squad', 'cmrc2018', got 'squat'"):
        md.squad(prompt="squat")
    with pytest.raises(ValueError, match="questions must be one of 'first', 'all'"):
        md.squad(questions="some")
    with pytest.raises(ValueError, match="answers must be one of 'first', 'all'"):
        md.squad(answers="some")
    with pytest.raises(ValueError, match="unit must be one of 'paragraph', 'file'"):
        md.wikitext(unit="line")
    with pytest.raises(ValueError, match="row 0 has no 'data'; columns are text"):
        md.squad()({"text": ["x"]})


def test_ag_news():
    lines = ['"3","Wall St.","Short, ""sellers"" win."\n', '"1", "b"  ,"c"', "4,a,b"]
    out = md.ag_news()({"text": lines[:1] + lines[2:], "_origin": ["x line 1", "x line 3"]})
    assert out["sentence"] == ['Wall St.. Short, "sellers" win.', "a. b"]
    assert (out["label"].dtype, out["label"].tolist()) == (np.int32, [2, 3])
    assert out["_origin"] == ["x line 1", "x line 3"]
    pieces = md.sft("ag-news")(out)
    assert pieces["label"].tolist() == [2, 3]


@pytest.mark.parametrize(
    "line",
    [
        "",
        '"0","a","b"',
        '"5","a","b"',
        '"1","a"',
        '"1","a","b","c"',
        '"1","a","b\nc"',
        "x",
        '"1","a","b',
        "1,a," + "b" * 200_000,
    ],
)
def test_ag_news_lines_are_refused(line):
    with pytest.raises(
        ValueError, match=r'row 0 is .* but must be "class 1..4","title","descripti'
    ):
        md.ag_news()({"text": [line]})


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("the dogs ' tails", "the dogs' tails"),
        ("10 @-@ year 1 @,@ 000 0 @.@ 5", "10-year 1,000 0.5"),
        ("a : b ; c . d ! e ? f , g", "a: b; c. d! e? f, g"),
        ("a ? , b ! , c ; . d", "a?, b!, c;. d"),
        ("( a ) [ b ] { c } ( d", "(a) [b] {c} ( d"),
        ("\" a b \" and ' c '", "\"a b\" and 'c'"),
        ("( a [ b ) c ]", "(a [b) c]"),
        ("= = = = x = = = y = =", "==== x === y =="),
        ("3 ° C \n next \n line", "3°C\nnext\nline"),
        ("in N ways , it 's", "in 1 ways, it's"),
    ],
)
def test_every_rule_of_clean_wikitext(raw, clean):
    assert clean_wikitext(raw) == clean


def test_full_stops_at_the_end_of_a_line():
    assert clean_wikitext("a ; . b .", stops=True) == "a;. b."
    assert clean_wikitext("a ; . b .") == "a;. b ."


def test_brackets_without_end_take_linear_time():
    """The rules as regular expressions would search to the end of the text for each of them."""
    for hostile in (
        "( " * 500_000,
        "(" + " " * 1_000_000,
        "[ ] " + "[" * 1_000_000,
        "'\" " * 333_333,
    ):
        clean_wikitext(hostile)


def test_files_end_lines_as_they_like():
    unix = " = T = \n \n One . \n Two . \n \n Three . \n"
    expected = {"text": ["One.\nTwo.", "Three."]}
    assert md.wikitext()({"text": [unix]}) == expected
    assert md.wikitext()({"text": [unix.replace("\n", "\r\n")]}) == expected


def test_the_last_section_of_a_file_is_kept():
    file = " = A = \n \n One . \n Two ' s . \n \n = = B = = \n \n Three @.@ 0 . \n"
    assert md.wikitext(unit="file")({"text": [file]}) == {"text": ["One. Two ' s.\nThree.0."]}


@pytest.fixture(scope="module")
def valid(shared):
    return (shared / "data/wikitext2/valid.txt").read_text(encoding="utf-8")


def test_wikitext_to_rows_of_tokens_is_that_of_the_preprocessing_script(shared, valid):
    """Oracle: every paragraph with bos and eos, all joined, cut at S + 1."""
    llama = md.sentencepiece(shared / "data/tokenizers/llama/tokenizer.model")
    width = 129
    paragraphs = [p for p in clean_wikitext(valid).split("\n\n") if p.strip()]
    texts = [p.strip() for p in paragraphs if not p.strip().startswith("=")]
    stream = [t for ids in llama.encode(texts) for t in (1, *ids.tolist(), 2)]
    out = md.pipe(
        {"text": [valid]},
        md.wikitext(),
        md.tokenize(llama, prepend_bos=True),
        md.pack(width, strategy="concat"),
    )
    whole = len(stream) // width  # the script leaves the rest out, pack fills it up
    assert out["input_ids"][:whole].reshape(-1).tolist() == stream[: whole * width]
    assert len(out["input_ids"]) == whole + bool(len(stream) % width)


def test_nothing_of_wikitext_is_left(valid):
    paragraphs = md.wikitext()({"text": [valid]})["text"]
    assert len(paragraphs) > 500
    left = re.compile(r" @[-,.]@ | [;!,] |^=|\n\n|^\s|\s$")
    assert [text for text in paragraphs if left.search(text)] == []
