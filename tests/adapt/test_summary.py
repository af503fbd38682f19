from __future__ import annotations

import attrs
from tests import adapters, models
from tests.models import TINY

from mfunc.adapt import lora, summary
from mfunc.nn import llama


def test_the_share_of_what_is_trained():
    seen = summary.trained_share(llama.specs(TINY), adapters.made("ptuning"))
    assert seen == "trained: 64 numbers beside the model's 5,200 (1.23 %)"
    assert summary.trained_share(models.params(), None).startswith("trained: 0 numbers beside")


def test_lora_of_rank_8_on_smollm2():
    smollm = llama.Config(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
    )  # fmt: skip
    model = llama.specs(smollm)
    config = attrs.evolve(lora.PRESETS["llama"], rank=8)
    line = summary.trained_share(model, lora.specs(model, config))
    assert line == "trained: 921,600 numbers beside the model's 134,515,008 (0.69 %)"
