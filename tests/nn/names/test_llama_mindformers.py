from __future__ import annotations

import pytest

from mfunc import tree
from mfunc.nn import llama
from mfunc.nn.names import llama as hugging_face
from mfunc.nn.names.llama_mindformers import names

SIZES = {
    "vocab_size": 8,
    "hidden_size": 4,
    "intermediate_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}

# What MindFormers' conversion of Hugging Face weights replaces.
RENAMED = {
    "embed_tokens.weight": "tok_embeddings.embedding_weight",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.norm.": "model.norm_out.",
}


@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_has_one_name_and_every_name_one_parameter(tied):
    config = llama.Config(**SIZES, tie_word_embeddings=tied)
    table = names(config)
    assert sorted(table) == sorted(tree.paths(llama.specs(config)))
    assert len({name for name, _ in table.values()}) == len(table)
    assert ("lm_head.weight" in {name for name, _ in table.values()}) is not tied


def test_names_are_those_that_a_conversion_from_hugging_face_gives():
    config = llama.Config(**SIZES)
    converted = {}
    for path, (name, turned) in hugging_face.names(config).items():
        for theirs, new in RENAMED.items():
            name = name.replace(theirs, new)
        converted[path] = (name, turned)
    assert converted == names(config)
