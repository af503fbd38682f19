"""Models from GGUF files: the tiny LLaMA as llama.cpp would have it, and SmolLM2 where it is."""

from __future__ import annotations

import json

import gguf
import mindspore as ms
import numpy as np
import pytest
from tests.gguf_files import TOKENIZER, arrays_of, metadata_of, smollm2, write_gguf
from tests.tiny_llama import GOLDEN, tiny_llama

import mfunc.data as md
from mfunc import tree
from mfunc.auto import from_pretrained, save_pretrained
from mfunc.loss import token_losses
from mfunc.nn import llama

TINY = tiny_llama()


def bits(params):
    return [leaf.asnumpy().tobytes() for leaf in tree.leaves(params)]


def written(path, *, metadata=None, arrays=None, **settings):
    everything = {**metadata_of(TINY), **(metadata or {})}
    return write_gguf(path, everything, {**arrays_of(TINY), **(arrays or {})}, **settings)


def test_weights_come_to_the_bit(tmp_path):
    found = from_pretrained(written(tmp_path / "tiny.gguf"))
    assert (found.model, found.config) == (llama, TINY.config)
    assert tree.flatten(found.params)[1] == tree.flatten(TINY.params)[1]
    assert bits(found.params) == bits(TINY.params)


def test_without_a_head_it_is_tied(tmp_path):
    found = from_pretrained(written(tmp_path / "tied.gguf", arrays={"output.weight": ...}))
    assert found.config.tie_word_embeddings
    assert "head" not in found.params


@pytest.mark.parametrize("kind", [gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.F16])
def test_blocks_give_nearly_the_same_logits(tmp_path, kind):
    found = from_pretrained(written(tmp_path / "q.gguf", kind=kind))
    ids = ms.Tensor(TINY.numbers["plain/input_ids"])
    logits = llama.apply(found.params, found.config, ids).asnumpy()
    assert 1e-6 < np.abs(logits - TINY.numbers["plain/logits"]).max() < 0.1


def test_what_was_read_is_saved_as_a_folder_that_is_read_to_the_bit(tmp_path):
    kind = gguf.GGMLQuantizationType.Q4_1
    found = from_pretrained(written(tmp_path / "tiny.gguf", kind=kind))
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "chat_template.jinja").write_text("of another model")
    for origin, folder in ((found, "hf"), (from_pretrained(tmp_path / "tiny.gguf"), "again")):
        save_pretrained(tmp_path / folder, origin)
        again = from_pretrained(tmp_path / folder)
        assert (again.config, bits(again.params)) == (found.config, bits(found.params))
        assert (again.tokenizer, again.tokenizer.roles) == (found.tokenizer, {"eos": "<|end|>"})
        assert again.tokenizer.chat_template == TOKENIZER["tokenizer.chat_template"]
    save_pretrained(tmp_path / "third", again)
    settings = json.loads((tmp_path / "third" / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == TOKENIZER["tokenizer.chat_template"]
    rendered = md.render_chat_template(
        md.hf_template(tmp_path / "hf"), [md.Message("user", "in"), md.Message("assistant", "it")]
    )
    assert [(piece.text, piece.special) for piece in rendered][-1] == ("<|end|>", True)


def test_a_file_without_a_tokenizer(tmp_path):
    path = written(tmp_path / "bare.gguf", metadata={"tokenizer.ggml.model": "no_vocab"})
    assert from_pretrained(path).tokenizer is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "mamba"}, r"general.architecture is 'mamba'; known are llama"),
        ({"metadata": {"general.type": "adapter"}}, r"holds a 'adapter', not a 'model'"),
        ({"metadata": {"split.count": 3}}, r"is one of 3 parts; join them with .* --merge"),
        ({"arrays": {"blk.1.ffn_up.weight": ...}}, r"x.gguf: missing blk.1.ffn_up.weight"),
        (
            {"arrays": {"blk.0.attn_q.bias": np.zeros(32, np.float32)}},
            r"x.gguf: unexpected blk.0.attn_q.bias",
        ),
        (
            {"arrays": {"blk.0.attn_k.weight": np.zeros((8, 32), np.float32)}},
            r"blk.0.attn_k.weight has shape \(8, 32\), the config asks for \(16, 32\)",
        ),
        (
            {"metadata": {"llama.vocab_size": 65}},
            r"token_embd.weight has shape \(64, 32\), the config asks for \(65, 32\)",
        ),
        (
            {"arrays": {"output_norm.weight": np.zeros(32, np.int32)}},
            r"x.gguf: output_norm.weight: blocks of kind I32 are not read",
        ),
        (
            {"metadata": {"tokenizer.ggml.model": "llama"}},
            r"tokenizer.ggml.model is 'llama' \(SentencePiece\)",
        ),
    ],
)
def test_what_is_not_computed_is_refused(tmp_path, settings, message):
    path = written(tmp_path / "x.gguf", **settings)
    with pytest.raises(ValueError, match=message):
        from_pretrained(path)


# --- SmolLM2-135M-Instruct ---


@pytest.mark.slow
def test_smollm2_is_the_model_that_transformers_reads():
    golden = np.load(GOLDEN / "smollm2_gguf.npz")
    found = from_pretrained(smollm2())
    text = str(golden["text"])
    (ids,) = found.tokenizer.encode([text])
    np.testing.assert_array_equal(ids, golden["input_ids"])
    batch = ms.Tensor(golden["input_ids"][None])
    logits = llama.apply(found.params, found.config, batch)
    some = logits.asnumpy()[0][:, golden["vocabulary"]]
    np.testing.assert_allclose(some, golden["logits"], atol=5e-4)
    losses = token_losses(logits, batch)[0].asnumpy()[0, :-1]
    np.testing.assert_allclose(losses, golden["losses"], atol=5e-4)
    assert losses.mean() < 3.0
