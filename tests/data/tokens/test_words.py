from __future__ import annotations

import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import attrs
import numpy as np
import pytest
from tests.data.spelling import HARD, KINDS, OTHER_KINDS, made, model, processor, same

import mfunc.data as md
from mfunc.data.tokens import words
from mfunc.data.tokens.words import Memo, remembering

MODELS = (
    "llama/tokenizer.model",
    "chatglm3/tokenizer.model",
    "t5/spiece.model",
    "pangualpha/vocab.model",
)


def fresh(kind):
    """Without what other tests left in its memory."""
    engine, quick = made(kind)
    return engine, quick and attrs.evolve(quick, memos=[])


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_hard_texts_are_the_engines(kind):
    engine, quick = fresh(kind)
    for _ in range(2):
        assert same(quick.encode(HARD), HARD, engine)
    for text in HARD:
        assert same(quick.encode([text]), [text], engine), repr(text)
    assert len(quick.encode([])) == 0


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_kinds_for_which_it_is_not_exact_are_left_to_the_engine(kind, tmp_path):
    engine, quick = fresh(kind)
    assert quick is None
    (tmp_path / "x.model").write_bytes(model(kind))
    assert same(md.sentencepiece(tmp_path / "x.model", special=[]).encode(HARD), HARD, engine)


def test_unused_pieces_and_unescaped_spaces_are_left_to_the_engine():
    content = model("identity")
    unused = content + b"\x0a\x06\x0a\x02zq\x18\x05"
    assert remembering(processor(unused), processor) is None
    assert remembering(processor(content + b"\x1a\x02\x28\x00"), processor) is None


def test_unknown_characters_in_a_row_are_why_bytes_are_needed():
    engine = processor(model("no bytes"))
    assert len(engine.encode("☃☃")) < 2 * len(engine.encode("☃"))


def test_an_unsafe_cut_is_seen():
    """The check can fail: with every cut allowed the ids are wrong."""
    engine, quick = fresh("identity")
    everywhere = attrs.evolve(quick, cuts=np.ones_like(quick.cuts), memos=[])
    assert not same(everywhere.encode(["the quick"]), ["the quick"], engine)


def test_fewer_cuts_change_nothing():
    """With none but between texts, words end in NUL and hold spaces."""
    engine, quick = fresh("identity")
    nowhere = attrs.evolve(quick, cuts=np.zeros_like(quick.cuts), memos=[])
    texts = [*HARD, "a\0\0", "the fox", "abcdefg", "abcdefg\0", "abcdefgh\0", "abcdefgh"]
    for _ in range(2):
        assert same(nowhere.encode(texts), texts, engine)


def test_the_memo_is_bounded(monkeypatch):
    monkeypatch.setattr(words, "MOST_WORDS", 50)
    monkeypatch.setattr(words, "CHUNK", 100)
    engine, quick = fresh("identity")
    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, rng.integers(97, 123, rng.integers(1, 9)))) for _ in range(3000)]
    assert same(quick.encode(texts), texts, engine)
    (memo,) = quick.memos
    assert len(memo.numbers) <= 50 + 100
    assert len(memo.offsets) == len(memo.numbers) + 1


def test_a_long_word_is_not_kept():
    engine, quick = fresh("identity")
    texts = ["a" * 1_000_000, "b", "a" * 64, "a" * 63]
    assert same(quick.encode(texts), texts, engine)
    assert max(map(len, quick.memos[0].numbers)) == 64
    assert same(quick.encode(texts), texts, engine)


def test_words_that_share_their_slots(monkeypatch):
    """Two slots in all: nearly every word is found in the dict behind them."""
    monkeypatch.setattr(words, "FIRST_SLOT", np.uint64(63))
    monkeypatch.setattr(words, "LAST_SLOT", np.uint64(1))
    engine, quick = fresh("identity")
    for _ in range(2):
        assert same(quick.encode(HARD), HARD, engine)
    assert np.count_nonzero(quick.memos[0].high) <= 2


def test_threads_have_memos_of_their_own_and_processes_begin_with_none():
    engine, quick = fresh("identity")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(quick.encode, [HARD] * 40))
    assert all(same(one, HARD, engine) for one in found)
    assert 1 <= len(quick.memos) <= 4
    copy = pickle.loads(pickle.dumps(quick))
    assert copy.memos == []
    assert same(copy.encode(HARD), HARD, engine)


def test_a_text_that_cannot_be_encoded_leaves_nothing_behind():
    engine, quick = fresh("identity")
    with pytest.raises(UnicodeEncodeError):
        quick.encode(["the fox", "\ud800"])
    assert quick.memos == []
    assert same(quick.encode(["the fox"]), ["the fox"], engine)


def test_memory_of_an_empty_memo():
    memo = Memo()
    assert memo.low.nbytes + memo.high.nbytes + memo.number.nbytes == 20 << words.SLOT_BITS
    assert sys.getsizeof(memo.numbers) < 100


def rows_of(path) -> list[str]:
    """All texts of a file of JSON rows."""
    text = path.read_text(encoding="utf-8")
    rows = json.loads(text) if text.lstrip()[0] == "[" else map(json.loads, text.splitlines())
    return [value for row in rows for value in row.values() if isinstance(value, str)]


@pytest.mark.parametrize("name", MODELS)
def test_real_models_on_hard_texts_and_a_sample(shared, name):
    path = shared / "data/tokenizers" / name
    engine, quick = processor(path.read_bytes()), md.sentencepiece(path)
    chinese = rows_of(shared / "data/belle/school_math_900.jsonl")[:200]
    english = rows_of(shared / "data/gsm8k/train.jsonl")[:500]
    long = ["x" * 1_000_000] if name.startswith("llama") else []
    for texts in (HARD, chinese, english, long):
        assert same(quick.encode(texts), texts, engine)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_real_models_on_whole_files(shared, name):
    path = shared / "data/tokenizers" / name
    engine, quick = processor(path.read_bytes()), md.sentencepiece(path)
    files = [
        shared / "data/alpaca/alpaca_51k.json",
        shared / "data/belle/school_math_900.jsonl",
        shared / "data/gsm8k/train.jsonl",
        shared / "data/advertisegen/dev.json",
        *sorted((shared / "data/llamafactory").glob("alpaca*.json")),
    ]
    texts = list(chain.from_iterable(map(rows_of, files)))
    texts += ["一" * 333_333, "x" * 1_000_000]
    found = quick.encode_ragged(texts)
    wanted = md.Ragged.from_rows(engine.encode(texts, return_type="numpy"), np.int32)
    assert found == wanted


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("t5/spiece.model", "------|--------------------------"),
        ("pangualpha/vocab.model", "Waterloo"),
    ],
)
def test_a_word_of_a_unigram_model_depends_on_what_stands_before_it(shared, name, word):
    """Why these models are left alone."""
    engine = processor((shared / "data/tokenizers" / name).read_bytes())
    before = ["qz " * count for count in (0, 10, 3000)]
    found = {tuple(engine.encode(b + word)[len(engine.encode(b)) :]) for b in before}
    assert len(found) == 2
