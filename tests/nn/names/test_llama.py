from __future__ import annotations

import json

import pytest
from tests.tiny_llama import tiny_llama

from mfunc import tree
from mfunc.nn import llama
from mfunc.nn.names.llama import from_hf, names, to_hf

SIZES = {
    "vocab_size": 8,
    "hidden_size": 4,
    "intermediate_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


# --- names ---


@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_has_one_name_and_every_name_one_parameter(tied):
    config = llama.Config(**SIZES, tie_word_embeddings=tied)
    table = names(config)
    assert sorted(table) == sorted(tree.paths(llama.specs(config)))
    assert len({name for name, _ in table.values()}) == len(table)
    assert ("lm_head.weight" in {name for name, _ in table.values()}) is not tied


@pytest.mark.parametrize("file", ["llama_tiny_untied", "llama_tiny_tied"])
def test_names_are_those_of_a_transformers_state_dict(file):
    config, _, numbers = tiny_llama(file)
    weights = {key.removeprefix("weights/") for key in numbers if key.startswith("weights/")}
    assert {name for name, _ in names(config).values()} == weights


def test_linear_weights_are_turned_and_nothing_else():
    config = llama.Config(**SIZES)
    turned = {path.rpartition("/")[2] for path, (_, turned) in names(config).items() if turned}
    assert turned == {"q", "k", "v", "o", "gate", "up", "down", "head"}


# --- config.json -> Config ---


def test_a_whole_file_with_keys_that_say_nothing():
    settings = {
        **SIZES,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "head_dim": None,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "rope_theta": 5e5,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": [2, 3],
        "use_cache": True,
    }
    assert from_hf(settings) == llama.Config(
        **SIZES, num_key_value_heads=1, rms_norm_eps=1e-5, rope_theta=5e5, tie_word_embeddings=True
    )


def test_what_a_file_leaves_out_is_what_transformers_takes():
    config = from_hf(SIZES)
    assert (config.num_key_value_heads, config.head_dim) == (2, 2)
    assert (config.rms_norm_eps, config.rope_theta, config.rope_scaling) == (1e-6, 10000.0, None)
    assert (config.tie_word_embeddings, config.max_position_embeddings) == (False, 2048)


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_theta": 1e4, "rope_scaling": LLAMA3},
        {"rope_parameters": {**LLAMA3, "rope_theta": 1e4}},
        {"rope_theta": 1e4, "rope_scaling": {"type": "llama3", **LLAMA3}},
    ],
)
def test_llama3_rotary_in_every_spelling(settings):
    assert from_hf({**SIZES, **settings}).rope_scaling == (8.0, 1.0, 4.0, 64)
    assert from_hf({**SIZES, **settings}).rope_theta == 1e4


@pytest.mark.parametrize(
    "settings",
    [{"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}, {"rope_theta": 7.0}],
)
def test_plain_rotary_in_every_spelling(settings):
    config = from_hf({**SIZES, **settings})
    assert (config.rope_theta, config.rope_scaling) == (7.0, None)


@pytest.mark.parametrize("scaling", [None, (8.0, 1.0, 4.0, 64)])
def test_to_hf_is_undone_by_from_hf_by_way_of_json(scaling):
    config = llama.Config(
        **SIZES, num_key_value_heads=1, head_dim=6, rope_scaling=scaling, rms_norm_eps=1e-4,
        tie_word_embeddings=True, max_position_embeddings=99, rope_theta=3.0,
    )  # fmt: skip
    written = json.loads(json.dumps(to_hf(config)))
    assert from_hf(written) == config
    assert (written["model_type"], written["architectures"]) == ("llama", ["LlamaForCausalLM"])


# --- bad input ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 2}, r"config.json: unknown key 'num_heads' for a llama"),
        (
            {"rms_norm_epsilon": 1e-5},
            r"unknown key 'rms_norm_epsilon'.* nearest known key is 'rms_n",
        ),
        ({"hidden_acts": "silu"}, r"unknown key 'hidden_acts' .* is 'hidden_act'"),
        ({"hidden_act": "gelu"}, r"hidden_act='gelu'; this llama computes only hidden_act='silu'"),
        (
            {"attention_bias": True},
            r"attention_bias=True; this llama computes only attention_bias=F",
        ),
        ({"vocab_size": None}, r"config.json: vocab_size missing"),
        (
            {"num_key_value_heads": 3},
            r"num_attention_heads=2 is not a multiple of num_key_value_hea",
        ),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
            r"config.json: rope_type 'yarn' is not computed here; 'default' and 'llama3' are",
        ),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0}},
            r"rotary settings lack high_freq_factor, original_max_position_embeddings",
        ),
    ],
)
def test_what_the_model_does_not_compute_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        from_hf({**SIZES, **change})


def test_errors_say_where_and_name_all_that_is_missing():
    with pytest.raises(ValueError, match=r"my/config.json: vocab_size, hidden_size missing"):
        from_hf(
            {k: SIZES[k] for k in SIZES if k not in ("vocab_size", "hidden_size")}, "my/config.json"
        )
