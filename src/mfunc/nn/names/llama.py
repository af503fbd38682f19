"""LLaMA in Hugging Face's names: `config.json` and the tensors of a checkpoint."""

from __future__ import annotations

import difflib
from typing import Any

import attrs

from mfunc.nn.llama import Config

# Ours -> (theirs, transposed): their linear weights are [out, in].
OUTER = {
    "embed": ("model.embed_tokens.weight", False),
    "norm": ("model.norm.weight", False),
    "head": ("lm_head.weight", True),
}
LAYER = {
    "q": ("self_attn.q_proj.weight", True),
    "k": ("self_attn.k_proj.weight", True),
    "v": ("self_attn.v_proj.weight", True),
    "o": ("self_attn.o_proj.weight", True),
    "attention_norm": ("input_layernorm.weight", False),
    "gate": ("mlp.gate_proj.weight", True),
    "up": ("mlp.up_proj.weight", True),
    "down": ("mlp.down_proj.weight", True),
    "mlp_norm": ("post_attention_layernorm.weight", False),
}

# Llama 3.1's rotary settings, in the order of `Config.rope_scaling`.
ROPE = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")

# What transformers takes, other than `Config` does, where a file says nothing.
DEFAULTS = {"rms_norm_eps": 1e-6}

# Settings that must have this value, since the model computes nothing else.
FIXED = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "pretraining_tp": 1,
}
# Keys that say nothing about what the model computes.
UNUSED = frozenset((
    "architectures", "auto_map", "bos_token_id", "dtype", "eos_token_id", "model_type",
    "pad_token_id", "torch_dtype", "transformers_version", "unk_token_id", "use_cache",
    "_name_or_path",
))  # fmt: skip


def names(config: Config) -> dict[str, tuple[str, bool]]:
    """Return our path -> (their name, transposed) for every parameter.

    Example:
      >>> tiny = Config(vocab_size=8, hidden_size=4, intermediate_size=8, num_hidden_layers=1,
      ...               num_attention_heads=2)
      >>> names(tiny)["layers/0/q"]
      ('model.layers.0.self_attn.q_proj.weight', True)
    """
    outer = {
        path: name
        for path, name in OUTER.items()
        if path != "head" or not config.tie_word_embeddings
    }
    layers = {
        f"layers/{i}/{path}": (f"model.layers.{i}.{name}", turned)
        for i in range(config.num_hidden_layers)
        for path, (name, turned) in LAYER.items()
    }
    return outer | layers


def from_hf(settings: dict[str, Any], where: str = "config.json") -> Config:
    """Read a Hugging Face `config.json`.

    Args:
      settings: the parsed file.
      where: its name, for errors.

    Raises:
      ValueError: a key is unknown (the nearest known one is named), missing, or asks for something
        that this model does not compute.

    Example:
      >>> from_hf({"model_type": "llama", "vocab_size": 8, "hidden_size": 4, "intermediate_size": 8,
      ...          "num_hidden_layers": 1, "num_attention_heads": 2}).num_key_value_heads
      2
    """
    known = {field.name for field in attrs.fields(Config)}
    given = DEFAULTS | settings
    given |= _rope(given.pop("rope_parameters", None) or given.pop("rope_scaling", None), where)
    for key in settings:
        if key not in known | FIXED.keys() | UNUSED | {"rope_parameters", "rope_scaling"}:
            near = difflib.get_close_matches(key, known | FIXED.keys(), n=1)
            hint = f"; the nearest known key is {near[0]!r}" if near else ""
            raise ValueError(f"{where}: unknown key {key!r} for a llama{hint}")
    for key, only in FIXED.items():
        if given.get(key, only) != only:
            raise ValueError(
                f"{where}: {key}={given[key]!r}; this llama computes only {key}={only!r}"
            )
    missing = [
        field.name
        for field in attrs.fields(Config)
        if field.default is attrs.NOTHING and given.get(field.name) is None
    ]
    if missing:
        raise ValueError(f"{where}: {', '.join(missing)} missing")
    return Config(
        **{key: value for key, value in given.items() if key in known and value is not None}
    )


def _rope(settings: dict[str, Any] | None, where: str) -> dict[str, Any]:
    """Read the rotary settings: none, `default`, or Llama 3.1's."""
    if settings is None:
        return {}
    kind = settings.get("rope_type", settings.get("type", "default"))
    theta = {"rope_theta": settings["rope_theta"]} if "rope_theta" in settings else {}
    if kind == "default":
        return theta
    if kind != "llama3":
        raise ValueError(
            f"{where}: rope_type {kind!r} is not computed here; 'default' and 'llama3' are"
        )
    missing = [key for key in ROPE if key not in settings]
    if missing:
        raise ValueError(f"{where}: the rotary settings lack {', '.join(missing)}")
    return theta | {"rope_scaling": tuple([settings[key] for key in ROPE])}


def to_hf(config: Config) -> dict[str, Any]:
    """Write a config as Hugging Face's `config.json` has it.

    Laws:
      `from_hf(to_hf(config)) == config`.

    Example:
      >>> tiny = Config(vocab_size=8, hidden_size=4, intermediate_size=8, num_hidden_layers=1,
      ...               num_attention_heads=2)
      >>> to_hf(tiny)["architectures"], from_hf(to_hf(tiny)) == tiny
      (['LlamaForCausalLM'], True)
    """
    settings = attrs.asdict(config)
    if config.rope_scaling is not None:
        scaling = dict(zip(ROPE, config.rope_scaling, strict=True))
        settings["rope_scaling"] = {"rope_type": "llama3"} | scaling
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
    } | settings
