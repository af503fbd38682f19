from __future__ import annotations

import json
import pickle
import sys

import pytest

import mfunc.data as md


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"pip install 'mfunc\[hf\]'"):
        md.hf_tokenizer("tokenizer.json")


def test_hugging_face_tokenizer(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, "hello": 1, "world": 2, "<s>": 3, "</s>": 4}
    built = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    built.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    built.add_special_tokens(["<s>", "</s>"])
    path = tmp_path / "tokenizer.json"
    built.save(str(path))
    tokenizer = md.hf_tokenizer(path, eos="</s>")
    assert tokenizer.encode(["hello world", ""]) == [[1, 2], []]
    assert 4 not in tokenizer.encode(["hello </s>"])[0], "text is text"
    assert tokenizer.decode([1, 2, 4]) == "hello world"
    assert (tokenizer.vocab_size, tokenizer.token_id("eos"), tokenizer.token_id("<s>")) == (5, 4, 3)
    assert pickle.loads(pickle.dumps(tokenizer)) == tokenizer
    assert md.tokenize(tokenizer)({"text": ["hello"]})["input_ids"][0].tolist() == [1, 4]
    with pytest.raises(ValueError, match="has no bos token; name one"):
        tokenizer.token_id("bos")
    with pytest.raises(ValueError, match="has no token '</z>'; did you mean '</s>'"):
        md.hf_tokenizer(path, eos="</z>")


def test_upstream_tokenizer_file_reads_text_as_text(shared):
    pytest.importorskip("tokenizers")
    folder = shared / "golden/mindspeed/tokenizer"
    spec = json.loads((folder / "byte_tokenizer_spec.json").read_text())
    tokenizer = md.hf_tokenizer(folder / "qwen/tokenizer.json", eos="<|im_end|>")
    assert tokenizer.vocab_size == spec["vocab_size"]
    assert tokenizer.eos_id == spec["specials"]["<|im_end|>"]
    for each in (tokenizer, pickle.loads(pickle.dumps(tokenizer))):
        assert each.encode(["a<|im_end|>é"])[0] == list("a<|im_end|>é".encode())
    assert tokenizer.affixes == ([], [])
    parsed = md.hf_tokenizer(folder / "qwen/tokenizer.json", parse_special=True)
    for each in (parsed, pickle.loads(pickle.dumps(parsed))):
        assert each.encode(["a<|im_end|>"] * 1025)[1024] == [97, spec["specials"]["<|im_end|>"]]


def test_tokens_of_turns_are_text_though_the_file_does_not_call_them_special():
    hf = pytest.importorskip("tokenizers")
    letters = dict.fromkeys("a<｜User｜><think>")
    tokenizer = hf.Tokenizer(hf.models.BPE({c: i for i, c in enumerate(letters)}, []))
    plain = [hf.AddedToken(name, special=False) for name in ("<｜User｜>", "<think>")]
    tokenizer.add_tokens(plain)
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.save("tokenizer.json")
    loaded = md.hf_tokenizer("tokenizer.json")
    user, think = loaded.token_id("<｜User｜>"), loaded.token_id("<think>")
    assert user not in loaded.encode(["a<｜User｜>"])[0]
    assert loaded.encode(["a<think>"]) == [[0, think]], "which templates write as text"
    assert loaded.special == ("<｜User｜>", "<|end|>")
    assert loaded.vocab_size == tokenizer.get_vocab_size()
