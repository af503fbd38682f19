from __future__ import annotations

import attrs
import numpy as np
import pytest
from tests.gguf_files import arrays_of, metadata_of
from tests.tiny_llama import tiny_llama

from mfunc.nn import position
from mfunc.nn.names.llama_gguf import from_gguf, names, to_halves

TINY, TIED = tiny_llama(), tiny_llama("llama_tiny_tied")


def config_with(**changes):
    given = {**metadata_of(TINY), **{k.replace("__", "."): v for k, v in changes.items()}}
    return from_gguf({k: v for k, v in given.items() if v is not ...}, arrays_of(TINY))


def test_the_config_is_that_of_hugging_faces_file():
    assert from_gguf(metadata_of(TINY), arrays_of(TINY)) == TINY.config
    assert from_gguf(metadata_of(TIED), arrays_of(TIED)) == TIED.config


def test_numbers_that_were_float32_come_as_they_were_meant():
    eps = float(np.float32(1e-5))
    assert eps != 1e-5
    assert config_with(llama__attention__layer_norm_rms_epsilon=eps).rms_norm_eps == 1e-5


def test_the_vocabulary_is_that_of_the_tokenizer_where_nothing_else_is_said():
    assert config_with(llama__vocab_size=...).vocab_size == 64


def test_pairs_become_halves():
    arrays, weights = to_halves(arrays_of(TINY), TINY.config), TINY.numbers
    ours = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj"}
    for name, theirs in ours.items():
        found = arrays[f"blk.1.attn_{name}.weight"]
        np.testing.assert_array_equal(found, weights[f"weights/model.layers.1.{theirs}.weight"])


def test_every_parameter_has_a_name():
    assert {name for name, _ in names(TINY.config).values()} == arrays_of(TINY).keys()
    assert {name for name, _ in names(TIED.config).values()} == arrays_of(TIED).keys()


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama_3s_factors_become_its_settings(factor):
    scaling = (factor, 1.0, 4.0, 8192)
    metadata = metadata_of(TINY) | {
        "llama.rope.freq_base": 500000.0, "llama.attention.key_length": 64,
        "llama.rope.dimension_count": 64,
    }  # fmt: skip
    plain, slow = (position.frequencies(64, 500000.0, each) for each in (None, scaling))
    arrays = {**arrays_of(TINY), "rope_freqs.weight": plain / slow}
    config = from_gguf(metadata, arrays)
    assert config.rope_scaling == scaling
    assert "rope_freqs.weight" not in to_halves(arrays, config)
    arrays["rope_freqs.weight"] = (plain / slow) ** 0.9
    with pytest.raises(ValueError, match=r"rope_freqs.weight are not those of Llama 3.1's scaling"):
        from_gguf(metadata, arrays)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"llama__rope__freq_bases": 1.0},
            r"unknown key 'llama.rope.freq_bases'; the nearest .* 'llama.rope.freq_base'",
        ),
        (
            {"llama__rope__scaling__type": "yarn"},
            r"llama.rope.scaling.type='yarn'; this llama computes only 'none'",
        ),
        ({"llama__expert_count": 8}, r"llama.expert_count=8; this llama computes only 0"),
        (
            {"llama__rope__dimension_count": 4},
            r"llama.rope.dimension_count=4; .* only the size of a head, 8",
        ),
        (
            {"llama__attention__head_count_kv": [2, 1]},
            r"llama.attention.head_count_kv is a list; this llama has one number for all layers",
        ),
        (
            {"llama__embedding_length": ..., "llama__block_count": ...},
            r"llama.embedding_length, llama.block_count missing",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_computed_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config_with(**changes)


def test_arrays_of_the_wrong_size_are_left_for_the_check_of_shapes():
    config = attrs.evolve(TINY.config, num_attention_heads=2, num_key_value_heads=2, head_dim=32)
    arrays = arrays_of(TINY)
    found = to_halves(arrays, config)["blk.0.attn_q.weight"]
    np.testing.assert_array_equal(found, arrays["blk.0.attn_q.weight"])
