"""The weights and the data that every peer starts from, so that their losses must agree.

A size is `{"layers", "hidden", "heads", "kv_heads", "intermediate", "vocab", "batch", "seq"}`.
Names and shapes ([out, in]) are those of a Hugging Face LLaMA, whose head is not tied unless the
size says `"tied": 1`.
"""

from __future__ import annotations

import numpy as np

RMS_EPS = 1e-6
ROPE_THETA = 10000.0


def shapes(size: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """The shape of every weight, by name."""
    hidden, inner = size["hidden"], size["intermediate"]
    kv = hidden // size["heads"] * size["kv_heads"]
    layer = {
        "input_layernorm": (hidden,),
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "post_attention_layernorm": (hidden,),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    layers = {
        f"model.layers.{i}.{name}.weight": shape
        for i in range(size["layers"])
        for name, shape in layer.items()
    }
    table = (size["vocab"], hidden)
    ends: dict[str, tuple[int, ...]] = {"model.norm.weight": (hidden,)}
    if not size.get("tied"):
        ends["lm_head.weight"] = table
    return {"model.embed_tokens.weight": table, **layers, **ends}


def weights(size: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """float32 weights: matrices 0.02 x normal, norms 1."""
    rng = np.random.default_rng(seed)
    return {
        name: (0.02 * rng.standard_normal(s) if len(s) > 1 else np.ones(s)).astype(np.float32)
        for name, s in shapes(size).items()
    }


def tokens(size: dict[str, int], seed: int) -> np.ndarray:
    """int32 ids [batch, seq]; each position predicts the next, so batch * (seq - 1) are trained."""
    rng = np.random.default_rng((seed, 1))
    return rng.integers(0, size["vocab"], (size["batch"], size["seq"]), dtype=np.int32)


def rotary(size: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """float32 cos and sin [seq, head_dim], the halves repeated as Hugging Face has them."""
    dim = size["hidden"] // size["heads"]
    frequencies = ROPE_THETA ** (-np.arange(0, dim, 2) / dim)
    angles = np.outer(np.arange(size["seq"]), np.tile(frequencies, 2))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def adapter(size: dict[str, int], rank: int, seed: int) -> dict[str, np.ndarray]:
    """float32 LoRA beside every projection: A [rank, in] 0.02 x normal, B [out, rank] zero."""
    rng = np.random.default_rng((seed, 2))
    pairs = {}
    for name, shape in shapes(size).items():
        if "_proj" in name:
            rows = 0.02 * rng.standard_normal((rank, shape[1]))
            pairs[name.replace(".weight", ".lora_A")] = rows.astype(np.float32)
            pairs[name.replace(".weight", ".lora_B")] = np.zeros((shape[0], rank), np.float32)
    return pairs
