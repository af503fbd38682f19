from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import attrs
import numpy as np
import pytest
from tests.data.byte_tokenizer import ByteTokenizer

import mfunc.data as md
from mfunc.data import Piece, tokenize

BYTES = ByteTokenizer()


def upstream(shared, case):
    """Rows of a case, and what MindSpeed-LLM v2.1.0 made of them: ids, labels, segments."""
    folder = shared / "golden/mindspeed/e2e" / case
    fields = json.loads((folder / "expected_v210.json").read_text())["fields"]
    names = ("input_ids", "labels", "attention_mask")
    made = {n: fields[f"ds_packed_{n}_document"]["sequences"] for n in names}
    Path("rows.json").write_text((folder / "input.json").read_text())
    return md.concat(list(md.read("rows.json"))), made


@pytest.mark.parametrize(
    ("case", "template"),
    [
        ("alpaca_qwen_nopack", "qwen"),
        ("alpaca_alpaca_hist_nopack", "alpaca"),
        ("alpaca_llama3_hist_nopack", "llama3"),
        ("alpaca_chatml_hist_nopack", "chatml"),
    ],
)
def test_ids_and_labels_are_mindspeeds(shared, case, template):
    rows, made = upstream(shared, case)
    out = tokenize(BYTES)(md.chat(style="alpaca", template=template)(rows))
    assert [r.tolist() for r in out["input_ids"]] == made["input_ids"]
    assert [r.tolist() for r in out["labels"]] == made["labels"]


def test_packed_rows_are_mindspeeds(shared):
    """From the file to the neat-packed rows, byte for byte."""
    rows, made = upstream(shared, "alpaca_qwen_neatpack")
    pack = md.pack(256, strategy="first_fit_decreasing", capacity=255, pad_id=260)
    out = md.pipe(rows, md.chat(style="alpaca", template="qwen"), tokenize(BYTES), pack)
    assert out["input_ids"].tolist() == made["input_ids"]
    assert out["labels"].tolist() == made["labels"]
    assert out["segment_ids"].tolist() == made["attention_mask"]


def test_pieces_become_ids_and_labels():
    pieces = [(Piece("ab"), Piece("<|im_end|>", special=True), Piece("c", trained=True)), ()]
    out, counts = md.counted(tokenize(BYTES), {"pieces": pieces, "_origin": ["x", "y"]})
    assert [r.tolist() for r in out["input_ids"]] == [[97, 98, 262, 99], []]
    assert [r.tolist() for r in out["labels"]] == [[-100, -100, -100, 99], []]
    assert out["_origin"] == ["x", "y"]
    assert out["input_ids"].dtype == out["labels"].dtype == np.int32
    assert counts == {"tokenize.samples": 2, "tokenize.tokens": 4, "tokenize.trained": 1}


def test_the_name_of_a_special_token_is_text_when_it_is_text():
    out = tokenize(BYTES)({"pieces": [(Piece("eos"), Piece("eos", special=True))]})
    assert out["input_ids"][0].tolist() == [*b"eos", 258]


@pytest.mark.parametrize(
    ("settings", "ids", "labels"),
    [
        ({}, [97, 98, 258], [-100, 98, 258]),
        ({"append_eos": False}, [97, 98], [-100, 98]),
        ({"prepend_bos": True}, [257, 97, 98, 258], [-100, 97, 98, 258]),
    ],
)
def test_plain_text_is_trained_and_ends_with_eos(settings, ids, labels):
    out = tokenize(BYTES, **settings)({"text": ["ab"]})
    assert out["input_ids"][0].tolist() == ids
    assert out["labels"][0].tolist() == labels


def test_templates_end_rows_themselves_unless_asked():
    pieces = md.chat(style="alpaca", template="alpaca")({"instruction": ["a"], "output": ["b"]})
    assert tokenize(BYTES)(pieces)["input_ids"][0].tolist()[-2:] == [98, 258]
    assert tokenize(BYTES, append_eos=True)(pieces)["labels"][0].tolist()[-3:] == [98, 258, 258]


def test_ids_outside_the_vocabulary_are_refused_by_row():
    small = attrs.evolve(BYTES, vocab_size=100)
    with pytest.raises(
        ValueError, match=r"row 2 \(c\) has the id 100, but .* vocabulary is 0\.\.99"
    ):
        tokenize(small, append_eos=False)({"text": ["a", "", "abd"], "_origin": ["a", "b", "c"]})


def test_bad_text_is_refused_by_row():
    with pytest.raises(ValueError, match=r"row 1: 'text' is None \(NoneType\), but must be text"):
        tokenize(BYTES)({"text": ["a", None]})
    with pytest.raises(ValueError, match=r"row 1 holds the lone surrogate '\\ud83d'"):
        tokenize(BYTES)({"text": ["a", "b\ud83d"]})


def test_one_column_of_text_or_pieces():
    with pytest.raises(
        ValueError, match=r"needs one column, 'pieces' .* or 'text', got x \(list\)"
    ):
        tokenize(BYTES)({"x": ["a"]})
    with pytest.raises(ValueError, match="needs one column"):
        tokenize(BYTES)({"text": ["a"], "pieces": [()]})


class OnlyEncode:
    def encode(self, texts):
        return [[7] * len(text) for text in texts]

    def __repr__(self):
        return "OnlyEncode()"


def test_any_tokenizer_will_do():
    out = tokenize(OnlyEncode(), append_eos=False)({"text": ["abc"]})
    assert out["input_ids"][0].tolist() == [7, 7, 7]
    with pytest.raises(ValueError, match=r"OnlyEncode\(\) has no token_id\(name\), which .* 'eos'"):
        tokenize(OnlyEncode())({"text": ["abc"]})
    with pytest.raises(
        TypeError, match=r"needs a tokenizer with encode.*got 'llama'; load one with"
    ):
        tokenize("llama")


def test_a_tokenizer_that_loses_texts_is_noticed():
    class Loses(OnlyEncode):
        def encode(self, texts):
            return [[7]]

    with pytest.raises(ValueError, match="gave another number of results than of texts"):
        tokenize(Loses(), append_eos=False)({"text": ["a", "b"]})


def test_settings():
    with pytest.raises(TypeError, match="append_eos must be True or False, got 'yes'"):
        tokenize(BYTES, append_eos="yes")
    assert repr(tokenize(OnlyEncode(), append_eos=True)) == (
        "tokenize(tokenizer=OnlyEncode(), append_eos=True)"
    )


def test_real_rows_with_a_real_tokenizer(shared):
    """Alpaca and Llama: ids of every piece as SentencePiece alone gives them; packs 99 % full."""
    engine = pytest.importorskip("sentencepiece")
    path = shared / "data/tokenizers/llama/tokenizer.model"
    chunk = next(md.read(shared / "data/alpaca/alpaca_51k.json", chunk_rows=3000))
    pieces = md.chat(style="alpaca", template="alpaca")(chunk)
    samples = tokenize(md.sentencepiece(path))(pieces)
    model = engine.SentencePieceProcessor(model_file=str(path))
    for row in (0, 17, 2999):
        parts = [[2] if p.special else model.encode(p.text) for p in pieces["pieces"][row]]
        assert samples["input_ids"][row].tolist() == list(chain.from_iterable(parts))
        trained = [
            p.trained for p, ids in zip(pieces["pieces"][row], parts, strict=True) for _ in ids
        ]
        assert (samples["labels"][row] != -100).tolist() == trained
    packed, counts = md.counted(md.pack(2048), samples)
    tokens = int(samples["input_ids"].lengths.sum())
    assert counts["pack.rows"] <= -(-tokens // 2048) + 1
    assert int((packed["segment_ids"] != 0).sum()) == tokens
