from __future__ import annotations

import json
import pickle
import sys

import attrs
import pytest
from tests.gguf_files import PLAIN, TOKENIZER

import mfunc.data as md

END, THINK = len(PLAIN), len(PLAIN) + 1


def made(**changes):
    given = {**TOKENIZER, **{f"tokenizer.ggml.{name}": value for name, value in changes.items()}}
    return md.gguf_tokenizer({k: v for k, v in given.items() if v is not ...}, "x.gguf")


def tokens(tokenizer, text):
    (ids,) = tokenizer.encode([text])
    return [TOKENIZER["tokenizer.ggml.tokens"][i] for i in ids]


def test_text_is_cut_and_merged():
    tokenizer = made()
    assert tokens(tokenizer, "in the inn") == ["in", "Ġt", "h", "e", "Ġin", "n"]
    assert tokenizer.decode(tokenizer.encode(["in the inn\n"])[0]) == "in the inn\n"
    assert (tokenizer.eos_id, tokenizer.bos_id, tokenizer.vocab_size) == (END, None, 64)
    assert tokenizer.roles == {"eos": "<|end|>"}


def test_control_tokens_never_come_of_text_unless_asked():
    assert END not in made().encode(["a<|end|>"])[0]
    assert made().token_id("<|end|>") == END
    asked = attrs.evolve(made(), parse_special=True)
    assert asked.encode(["a<|end|>"])[0] == [0, END]


def test_tokens_of_the_users_own_are_found_in_text():
    assert made().encode(["a<think>b"])[0] == [0, THINK, 1]


def test_the_names_cut_differently():
    ten = {"tokens": [*PLAIN, "10", "<|end|>"], "token_type": [*[1] * (len(PLAIN) + 1), 3]}
    merges = {**ten, "merges": ["1 0"], "eos_token_id": END + 1}
    one, zero, both = PLAIN.index("1"), PLAIN.index("0"), END
    cut = {pre: made(pre=pre, **merges).encode(["10 10"])[0] for pre in ("smollm", "gpt-2")}
    space = PLAIN.index("Ġ")
    assert cut["smollm"] == [one, zero, space, one, zero], "each digit alone, the space before too"
    assert cut["gpt-2"] == [both, space, both]
    four = made(pre="llama-bpe", **merges).encode(["1010"])[0]
    assert four == [both, one, zero], "at most three digits together"
    assert made(pre="llama-bpe", **ten, merges=[], eos_token_id=END + 1).encode(["10"]) == [[both]]


def test_bos_is_in_the_file_for_programs_that_put_it():
    tokenizer = made(bos_token_id=END, add_bos_token=True)
    assert tokenizer.affixes == ([END], [])
    assert tokenizer.encode(["a"]) == [[0]]
    assert made(pre="llama-bpe", bos_token_id=END).affixes == ([END], [])
    assert made(bos_token_id=END, add_eos_token=True).affixes == ([], [END])
    assert made(bos_token_id=END).affixes == ([], [])


def test_it_is_a_value_and_keeps_the_template(tmp_path):
    tokenizer = made()
    again = pickle.loads(pickle.dumps(tokenizer))
    assert (again, again.chat_template) == (tokenizer, TOKENIZER["tokenizer.chat_template"])
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.content)
    assert md.hf_tokenizer(tmp_path / "tokenizer.json", eos="<|end|>") == tokenizer
    assert json.loads(tokenizer.content)["model"]["type"] == "BPE"


@pytest.mark.parametrize("changes", [{"model": ...}, {"model": "no_vocab"}])
def test_a_file_without_a_tokenizer_has_none(changes):
    assert made(**changes) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "llama"},
            r"x.gguf: tokenizer.ggml.model is 'llama' \(SentencePiece\); only 'gpt2' .* is read",
        ),
        ({"model": "rwkv"}, r"tokenizer.ggml.model is 'rwkv'; only 'gpt2'"),
        (
            {"pre": "tekken"},
            r"tokenizer.ggml.pre is 'tekken'; known are gpt-2, llama-bpe, smollm, starcoder",
        ),
        ({"pre": ...}, r"tokenizer.ggml.pre is None"),
        ({"merges": ...}, r"tokenizer.ggml.merges is missing, or no list"),
        ({"tokens": ["a"] * 64}, r"63 of 64 tokens are there twice"),
        ({"token_type": [1]}, r"there are 64 tokens but 1 in token_type"),
        ({"merges": ["in"]}, r"the merge 'in' is not two tokens with a space between"),
        ({"merges": ["i nn"]}, r"x.gguf is not a tokenizer.json: .*nn"),
        ({"eos_token_id": 64}, r"eos is token 64 of 64"),
    ],
)
def test_what_is_not_read_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        made(**changes)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"pip install 'mfunc\[hf\]'"):
        made()
