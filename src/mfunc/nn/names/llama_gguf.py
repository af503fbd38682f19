"""LLaMA in GGUF's names: the metadata and the arrays of a file of architecture `llama`.

llama.cpp turns neighbouring features (0, 1), (2, 3), ... of a head where Hugging Face and we turn
(0, D / 2), (1, D / 2 + 1), ...: its q and k have their rows in another order, which is undone here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from mfunc.nn import position
from mfunc.nn.llama import Config

# Ours -> (theirs, transposed): their linear weights are [out, in].
OUTER = {
    "embed": ("token_embd.weight", False),
    "norm": ("output_norm.weight", False),
    "head": ("output.weight", True),
}
LAYER = {
    "q": ("attn_q.weight", True),
    "k": ("attn_k.weight", True),
    "v": ("attn_v.weight", True),
    "o": ("attn_output.weight", True),
    "attention_norm": ("attn_norm.weight", False),
    "gate": ("ffn_gate.weight", True),
    "up": ("ffn_up.weight", True),
    "down": ("ffn_down.weight", True),
    "mlp_norm": ("ffn_norm.weight", False),
}
ROPE_FACTORS = "rope_freqs.weight"

# Theirs, behind "llama." -> ours.
SETTINGS = {
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}
# Settings that must have this value, since the model computes nothing else.
FIXED = {
    "rope.scaling.type": "none",
    "expert_count": 0,
    "expert_used_count": 0,
    "tensor_data_layout": "Meta AI original pth",
}
# Settings that must be the size of a head.
HEAD = ("rope.dimension_count", "attention.value_length")


def names(config: Config) -> dict[str, tuple[str, bool]]:
    """Return our path -> (their name, transposed) for every parameter.

    Example:
      >>> tiny = Config(vocab_size=8, hidden_size=4, intermediate_size=8, num_hidden_layers=1,
      ...               num_attention_heads=2)
      >>> names(tiny)["layers/0/q"]
      ('blk.0.attn_q.weight', True)
    """
    outer = {
        path: name
        for path, name in OUTER.items()
        if path != "head" or not config.tie_word_embeddings
    }
    layers = {
        f"layers/{i}/{path}": (f"blk.{i}.{name}", turned)
        for i in range(config.num_hidden_layers)
        for path, (name, turned) in LAYER.items()
    }
    return outer | layers


def from_gguf(
    metadata: Mapping[str, Any], arrays: Mapping[str, np.ndarray], where: str = "model.gguf"
) -> Config:
    """Read the sizes of a model.

    Args:
      metadata: of the file.
      arrays: all of the file; the head is tied if there is none.
      where: the file, for errors.

    Raises:
      ValueError: a key of `llama.` is unknown (the nearest known one is named), missing, or asks
        for something that this model does not compute.

    Example:
      >>> sizes = {"embedding_length": 4, "feed_forward_length": 8, "block_count": 1,
      ...          "attention.head_count": 2, "vocab_size": 8}
      >>> config = from_gguf({f"llama.{name}": size for name, size in sizes.items()}, {})
      >>> config.head_dim, config.tie_word_embeddings
      (2, True)
    """
    given = {
        key.removeprefix("llama."): value
        for key, value in metadata.items()
        if key.startswith("llama.")
    }
    tokens = metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, list):
        given.setdefault("vocab_size", len(tokens))
    _check(given, where)
    sizes: dict[str, Any] = {
        ours: _plain(given[key]) for key, ours in SETTINGS.items() if key in given
    }
    config = Config(**sizes, tie_word_embeddings="output.weight" not in arrays)
    for key in HEAD:
        if given.get(key, config.head_dim) != config.head_dim:
            raise ValueError(
                f"{where}: llama.{key}={given[key]}; this llama computes only the size of a head, "
                f"{config.head_dim}"
            )
    if ROPE_FACTORS not in arrays:
        return config
    return attrs.evolve(config, rope_scaling=_scaling(arrays[ROPE_FACTORS], config, where))


def _check(given: Mapping[str, Any], where: str) -> None:
    """Refuse what is unknown, missing or not computed."""
    known = [*SETTINGS, *FIXED, *HEAD]
    for key, value in given.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; the nearest known key is 'llama.{near[0]}'" if near else ""
            raise ValueError(f"{where}: unknown key 'llama.{key}'{hint}")
        if value != FIXED.get(key, value):
            raise ValueError(
                f"{where}: llama.{key}={value!r}; this llama computes only {FIXED[key]!r}"
            )
        if key in SETTINGS and not isinstance(value, int | float):
            raise ValueError(
                f"{where}: llama.{key} is a {type(value).__name__}; this llama has one number for "
                "all layers"
            )
    needed = {f.name for f in attrs.fields(Config) if f.default is attrs.NOTHING}
    missing = [key for key, ours in SETTINGS.items() if ours in needed and key not in given]
    if missing:
        raise ValueError(f"{where}: {', '.join(f'llama.{key}' for key in missing)} missing")


def _plain(number: float) -> float:
    """The shortest decimal of a float32, as 1e-05 of 9.999999747378752e-06; an int stays one."""
    return number if isinstance(number, int) else float(str(np.float32(number)))


def _scaling(factors: np.ndarray, config: Config, where: str) -> tuple[float, float, float, int]:
    """Find Llama 3's rotary settings from what llama.cpp keeps: how much slower each pair turns."""
    # All models of the family have 1, 4 and 8192; only the factor differs.
    scaling = (_plain(float(factors.max())), 1.0, 4.0, 8192)
    plain, slow = (
        position.frequencies(config.head_dim, config.rope_theta, each) for each in (None, scaling)
    )
    if factors.shape != plain.shape or not np.allclose(plain / slow, factors, rtol=1e-4):
        raise ValueError(
            f"{where}: the rotary factors of {ROPE_FACTORS} are not those of Llama 3.1's scaling "
            "with low_freq_factor=1, high_freq_factor=4, original_max_position_embeddings=8192; "
            "convert the model's Hugging Face folder instead"
        )
    return scaling


def to_halves(arrays: Mapping[str, np.ndarray], config: Config) -> dict[str, np.ndarray]:
    """Put the rows of q and k in the order in which features D / 2 apart turn together.

    Args:
      arrays: their name -> array, [out, in].
      config: the sizes.

    Returns:
      The arrays that are parameters; those of the wrong size as they are, for a later check.

    Example:
      >>> tiny = Config(vocab_size=8, hidden_size=4, intermediate_size=8, num_hidden_layers=1,
      ...               num_attention_heads=1)
      >>> rows = {"blk.0.attn_q.weight": np.float32([[0], [1], [2], [3]])}
      >>> to_halves(rows, tiny)["blk.0.attn_q.weight"].ravel().tolist()
      [0.0, 2.0, 1.0, 3.0]

    Source:
      llama.cpp `LlamaModel.permute` in convert_hf_to_gguf.py, of which this is the inverse.
    """
    heads = {
        "attn_q.weight": config.num_attention_heads,
        "attn_k.weight": config.num_key_value_heads,
    }
    halves = {}
    for name, array in arrays.items():
        count = heads.get(name.split(".", 2)[-1])
        if count and array.shape[0] == count * config.head_dim:
            pairs = array.reshape(count, config.head_dim // 2, 2, -1)
            halves[name] = pairs.swapaxes(1, 2).reshape(array.shape)
        elif name != ROPE_FACTORS:
            halves[name] = array
    return halves
