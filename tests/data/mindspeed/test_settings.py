"""Flags of MindSpeed-LLM: what is taken, what is refused, and that all are known."""

from __future__ import annotations

import json

import attrs
import pytest

from mfunc.cli.data_pack_mindspeed import TAKEN
from mfunc.data.mindspeed.settings import (
    HANDLERS,
    NO_EFFECT,
    OTHER_HANDLERS,
    PROMPT_TYPES,
    REFUSED,
    Settings,
)

GOOD = {
    "input": "rows.json",
    "output_prefix": "out/ds",
    "tokenizer_name_or_path": "folder",
    "handler_name": "AlpacaStyleInstructionHandler",
    "prompt_type": "qwen",
}
# Those of the tables of facts about `preprocess_data.py`: v2.1.0's, then the later ones.
UPSTREAM = [
    "input", "output-prefix", "handler-name", "tokenizer-type", "tokenizer-name-or-path",
    "tokenizer-not-use-fast", "tokenizer-model", "vocab-file", "merge-file", "append-eod",
    "seq-length", "pack", "neat-pack", "prompt-type", "prompt-type-path", "map-keys",
    "overwrite-cache", "cache-dir", "workers", "n-subs", "log-interval", "json-keys",
    "split-sentences", "keep-newlines", "pad-to-multiple-of", "streaming", "hf-datasets-params",
    "script-data-dir", "dataset-dir", "max-samples", "mix-strategy", "interleave-probs", "seed",
    "dataset-additional-keys", "merge-group-keys", "reward-tokens", "placeholder-token",
    "make-vocab-size-divisible-by", "pad-vocab-size-to", "dataset-impl", "datasets",
    "enable-thinking", "reasoning-effort", "drop-thinking", "data-obfuscation",
    "obf-seed-content",
]  # fmt: skip


def test_every_flag_of_upstream_is_taken_without_effect_or_refused():
    known = [*TAKEN, *(name.replace("_", "-") for name in (*NO_EFFECT, *REFUSED))]
    assert sorted([*known, "merge-group-keys"]) == sorted(UPSTREAM)
    fields = {field.name.replace("_", "-") for field in attrs.fields(Settings)}
    assert fields == set(TAKEN)


def test_prompt_types_are_those_of_the_version_and_two_more(shared):
    summary = json.loads((shared / "golden/mindspeed/templates_summary.json").read_text())
    choices = summary["mindspeed_v2.1.0"]["choices_in_preprocess_data"]
    assert sorted(PROMPT_TYPES) == sorted([*choices, "qwen3", "qwen_lf"])


@pytest.mark.parametrize("name", OTHER_HANDLERS)
def test_handlers_that_are_not_ours_say_what_to_use(name):
    with pytest.raises(ValueError, match=f"--handler-name {name} is not supported: .{{8}}"):
        Settings(**{**GOOD, "handler_name": name})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"handler_name": "AlpacaStyleInstructHandler"}, "did you mean 'AlpacaStyleInstruction"),
        ({"handler_name": ""}, "unknown --handler-name ''; .*take GeneralPretrainHandler"),
        ({"prompt_type": "qwen_"}, "--prompt-type must be one of .*; did you mean 'qwen'"),
        ({"prompt_type": "minicpm3"}, "--prompt-type minicpm3 is not in v2.1.0"),
        ({"prompt_type": "vicuna"}, "--prompt-type must be one of"),
        ({"prompt_type": None}, "AlpacaStyleInstructionHandler needs --prompt-type"),
        ({"handler_name": "GeneralPretrainHandler"}, "of its own and takes no --prompt-type"),
        ({"neat_pack": True}, "--neat-pack tells .* it needs --pack"),
        ({"pack": True}, "--pack needs --seq-length"),
        ({"pack": 1}, "--pack must be True or False, got 1"),
        ({"seq_length": 1}, "--seq-length must be an integer >= 2, got 1"),
        ({"n_subs": 0}, "--n-subs must be an integer >= 1, got 0"),
        ({"pad_to_multiple_of": 8}, "--pad-to-multiple-of 8 is refused: .*outside the vocabulary"),
        ({"tokenizer_type": "GPTSentencePieceTokenizer"}, "--tokenizer-type GPTSentencePiece"),
        ({"tokenizer_name_or_path": ""}, "--tokenizer-name-or-path is missing"),
        ({"enable_thinking": "true"}, "--enable-thinking changes nothing with .* qwen,"),
        ({"enable_thinking": "yes", "prompt_type": "qwen3"}, "--enable-thinking must be one of"),
        ({"dataset_dir": "x"}, "--dataset-dir is read by LlamaFactoryInstructionHandler only"),
        ({"max_samples": 3}, "--max-samples is read by LlamaFactoryInstructionHandler only"),
        ({"handler_name": "LlamaFactoryInstructionHandler"}, "needs --dataset-dir"),
    ],
)
def test_refused_when_built(changes, message):
    Settings(**GOOD)
    with pytest.raises((ValueError, TypeError), match=message):
        Settings(**{**GOOD, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pack": True, "seq_length": 8}, "GeneralPretrainHandler does not pack"),
        ({"map_keys": {}}, "--map-keys is not read by GeneralPretrainHandler"),
        ({"json_keys": ["a", "a"]}, "--json-keys must be different names"),
        ({"json_keys": ["a", "b"], "seq_length": 8}, "--seq-length with several --json-keys"),
    ],
)
def test_refused_for_pretraining(changes, message):
    text = {**GOOD, "handler_name": "GeneralPretrainHandler", "prompt_type": None}
    assert Settings(**text).handler == HANDLERS["GeneralPretrainHandler"]
    with pytest.raises(ValueError, match=message):
        Settings(**{**text, **changes})


def test_pairs_do_not_pack():
    with pytest.raises(ValueError, match="AlpacaStylePairwiseHandler does not pack"):
        Settings(**{**GOOD, "handler_name": "AlpacaStylePairwiseHandler"}, pack=True, seq_length=8)
