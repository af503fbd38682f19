from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest

import mfunc.data as md

engine = pytest.importorskip("sentencepiece")

LINES = ["the quick brown fox jumps over the lazy dog", "user end system assistant hello", "一二三"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A small BPE model with bytes, one control and three user-defined symbols."""
    writer = io.BytesIO()
    engine.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 20),
        model_writer=writer,
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        hard_vocab_limit=False,
        control_symbols=["<|ctl|>"],
        user_defined_symbols=["<|im_start|>", "<|im_end|>", "<turn>"],
        minloglevel=2,
    )
    path = tmp_path_factory.mktemp("model") / "tokenizer.model"
    path.write_bytes(writer.getvalue())
    return path


def test_ids_are_the_engines(model):
    tokenizer = md.sentencepiece(model)
    plain = engine.SentencePieceProcessor(model_file=str(model))
    texts = ["the fox", "", " the fox", "a\0b", "二 hello é😀", "line\nline"]
    assert [ids.tolist() for ids in tokenizer.encode(texts)] == plain.encode(texts)
    assert tokenizer.encode([]) == []
    assert tokenizer.decode(plain.encode("the fox 二")) == "the fox 二"
    assert tokenizer.vocab_size == plain.vocab_size()
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.unk_id) == (
        1,
        2,
        None,
        0,
    )
    assert tokenizer.model == model.read_bytes()


def test_pieces_get_the_dummy_prefix_unless_told_otherwise(model):
    """'the' + 'fox' is 'the fox' with a prefix on every piece, 'thefox' without."""
    with_prefix, without = md.sentencepiece(model), md.sentencepiece(model, dummy_prefix=False)
    parts = ["the quick", "brown"]
    joined = [i for ids in with_prefix.encode(parts) for i in ids]
    assert with_prefix.decode(joined) == "the quick brown"
    joined = [i for ids in without.encode(parts) for i in ids]
    assert without.decode(joined) == "the quickbrown"
    assert with_prefix != without
    assert (with_prefix.dummy_prefix, without.dummy_prefix) == (True, False)


def test_a_prefix_cannot_be_added_to_a_model_without(model, tmp_path):
    bare = tmp_path / "bare.model"
    bare.write_bytes(model.read_bytes() + b"\x1a\x02\x18\x00")
    assert md.sentencepiece(bare).dummy_prefix is False
    with pytest.raises(ValueError, match="adds no dummy prefix, so dummy_prefix=True cannot"):
        md.sentencepiece(bare, dummy_prefix=True)


@pytest.mark.parametrize(
    "text", ["<|im_end|>", "a<|im_end|>b <|im_start|>", "<|im_end|>" * 3, "<|ctl|>"]
)
def test_text_never_becomes_a_special_token(model, text):
    tokenizer = md.sentencepiece(model)
    ids = tokenizer.encode([text])[0].tolist()
    special = {tokenizer.token_id(n) for n in ("<|im_start|>", "<|im_end|>", "<|ctl|>")}
    assert not special & set(ids)
    assert tokenizer.decode(ids) == text
    assert tokenizer.special == ("<|im_start|>", "<|im_end|>")


def test_user_defined_pieces_are_text_until_said_to_be_special(model):
    plain = md.sentencepiece(model)
    with pytest.raises(
        ValueError, match=r"piece '<turn>' can come of plain text; say .* special=\["
    ):
        plain.token_id("<turn>")
    guarded = md.sentencepiece(model, special=["<turn>"])
    turn = guarded.token_id("<turn>")
    assert turn in plain.encode(["a<turn>b"])[0]
    assert turn not in guarded.encode(["a<turn>b"])[0]
    assert guarded.decode(guarded.encode(["a<turn>b"])[0]) == "a<turn>b"


def test_special_tokens_that_are_not_there(model):
    tokenizer = md.sentencepiece(model)
    with pytest.raises(ValueError, match=r"has no piece '<\|eot_id\|>'; use a template without it"):
        tokenizer.token_id("<|eot_id|>")
    with pytest.raises(ValueError, match="has no pad token; name one when loading it: pad="):
        tokenizer.token_id("pad")
    with pytest.raises(ValueError, match="has no token '<pad>'"):
        md.sentencepiece(model, pad="<pad>")
    with pytest.raises(ValueError, match="has no token '<trun>'; did you mean '<turn>'"):
        md.sentencepiece(model, special=["<trun>"])
    with pytest.raises(ValueError, match="special piece 'a' is a single character"):
        md.sentencepiece(model, special=["a"])
    chosen = md.sentencepiece(model, eos="<|im_end|>", pad="<unk>")
    assert chosen.token_id("eos") == chosen.token_id("<|im_end|>") == chosen.eos_id
    assert chosen.pad_id == 0


def test_frozen_hashable_and_sent_to_other_processes(model, tmp_path):
    tokenizer = md.sentencepiece(model)
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy == tokenizer
    assert hash(copy) == hash(tokenizer)
    assert [i.tolist() for i in copy.encode(["the <|im_end|>"])] == [
        i.tolist() for i in tokenizer.encode(["the <|im_end|>"])
    ]
    other = tmp_path / "other.model"
    other.write_bytes(model.read_bytes())
    assert md.sentencepiece(other) == tokenizer, "equal by content"
    with pytest.raises(AttributeError):
        tokenizer.eos_id = 5
    assert repr(tokenizer) == f"sentencepiece({str(model)!r}, vocab_size={tokenizer.vocab_size})"


@pytest.mark.parametrize("load", [md.sentencepiece, md.hf_tokenizer])
@pytest.mark.parametrize("content", [b"", b"not a model", b"{}"])
def test_files_that_are_no_tokenizers(load, content, tmp_path):
    if load is md.hf_tokenizer:
        pytest.importorskip("tokenizers")
    path = tmp_path / "x.model"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.model is not a "):
        load(path)
    with pytest.raises(FileNotFoundError, match=r"there is no file gone\.model"):
        load("gone.model")


def test_special_ids_are_those_that_are_no_text(model):
    tokenizer = md.sentencepiece(model, special=["<turn>"])
    turn = tokenizer.token_id("<turn>")
    assert tokenizer.special_ids == {
        0: "<unk>", 1: "<s>", 2: "</s>", tokenizer.token_id("<|ctl|>"): "<|ctl|>", turn: "<turn>"
    }  # fmt: skip
