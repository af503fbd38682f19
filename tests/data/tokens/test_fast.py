from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.data.spelling import HARD, OTHER_KINDS, model, processor, same

import mfunc.data as md
from mfunc.data.tokens.fast import gigatoken

READ = ("identity", "identity with symbols")


@pytest.mark.parametrize("kind", READ)
def test_ids_of_hard_texts_are_the_engines(kind):
    engine = processor(model(kind))
    quick = gigatoken(engine)
    assert same(quick.encode(list(HARD)), HARD, engine)
    for text in HARD:
        assert same(quick.encode([text]), [text], engine), repr(text)
    assert len(quick.encode([])) == 0


def test_its_own_reading_of_control_tokens_is_why_they_are_looked_for():
    engine = processor(model("identity"))
    found = gigatoken(engine).engine.encode_batch_list(["a<s>b"])
    assert found != engine.encode(["a<s>b"])


@pytest.mark.parametrize(
    "kind", ["nfkc", "extra spaces removed", "no prefix", "symbols", *OTHER_KINDS]
)
def test_models_that_it_does_not_read_exactly_are_refused(kind):
    with pytest.raises(ValueError, match=r"sentencepiece: fast=True.*; leave it away"):
        gigatoken(processor(model(kind)))


def test_as_a_tokenizer(tmp_path):
    path = tmp_path / "x.model"
    path.write_bytes(model("identity with symbols"))
    for settings in ({}, {"dummy_prefix": False}, {"special": []}):
        plain, quick = (
            md.sentencepiece(path, **settings),
            md.sentencepiece(path, fast=True, **settings),
        )
        assert plain == quick, "the ids are the same, so the values are"
        assert hash(plain) == hash(quick)
        for one in (quick, pickle.loads(pickle.dumps(quick))):
            found, wanted = one.encode(HARD), plain.encode(HARD)
            assert [i.tolist() for i in found] == [i.tolist() for i in wanted]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(quick.encode_ragged, [HARD] * 40))
    assert set(map(str, found)) == {str(plain.encode_ragged(HARD))}
    assert all(one == plain.encode_ragged(HARD) for one in found)
    with pytest.raises(UnicodeEncodeError):
        quick.encode(["\ud800"])


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    (tmp_path / "x.model").write_bytes(model("identity"))
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    with pytest.raises(ImportError, match=r"fast=True\) needs .* pip install 'mfunc\[fast\]'"):
        md.sentencepiece(tmp_path / "x.model", fast=True)


@pytest.mark.parametrize("name", ["llama", "chatglm3"])
def test_real_models(shared, name):
    path = shared / "data/tokenizers" / name / "tokenizer.model"
    texts = [*HARD, *(shared / "data/belle/school_math_900.jsonl").read_text().splitlines()]
    texts += (shared / "data/gsm8k/train.jsonl").read_text().splitlines()
    quick = md.sentencepiece(path, fast=True)
    assert same(quick.encode(texts), texts, processor(path.read_bytes()))
