"""LLaMA in MindFormers' names: the arrays of a `.ckpt` file."""

from __future__ import annotations

from mfunc.nn.llama import Config

# Ours -> (theirs, transposed): their linear weights are [out, in], rotary halves are as ours.
OUTER = {
    "embed": ("model.tok_embeddings.embedding_weight", False),
    "norm": ("model.norm_out.weight", False),
    "head": ("lm_head.weight", True),
}
LAYER = {
    "q": ("attention.wq.weight", True),
    "k": ("attention.wk.weight", True),
    "v": ("attention.wv.weight", True),
    "o": ("attention.wo.weight", True),
    "attention_norm": ("attention_norm.weight", False),
    "gate": ("feed_forward.w1.weight", True),
    "up": ("feed_forward.w3.weight", True),
    "down": ("feed_forward.w2.weight", True),
    "mlp_norm": ("ffn_norm.weight", False),
}


def names(config: Config) -> dict[str, tuple[str, bool]]:
    """Return our path -> (their name, transposed) for every parameter.

    Example:
      >>> tiny = Config(vocab_size=8, hidden_size=4, intermediate_size=8, num_hidden_layers=1,
      ...               num_attention_heads=2)
      >>> names(tiny)["layers/0/q"]
      ('model.layers.0.attention.wq.weight', True)

    Source:
      MindFormers 0.6 to 1.3 `LlamaForCausalLM`; `qkv_concat=True` has other arrays.
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
