from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests import adapters, models
from tests.tiny_llama import GOLDEN, tiny_llama
from tests.trees import assert_close

from mfunc import random
from mfunc.adapt import prefix, ptuning
from mfunc.gradient import value_and_grad
from mfunc.loss import next_token_loss
from mfunc.nn import llama
from mfunc.transform import jit

CONFIG, PARAMS, BASE = tiny_llama()
with np.load(GOLDEN / "prefix.npz") as file:
    PEFT = {key.removeprefix("plain/"): file[key] for key in file.files if key.startswith("plain/")}
PTUNING = ptuning.Config(pre_seq_len=len(PEFT["adapter/embedding.weight"]))


def test_logits_loss_and_gradient_are_those_of_peft():
    ids, labels = (ms.Tensor(BASE[f"plain/{key}"]) for key in ("input_ids", "labels"))

    def loss(adapter, params):
        logits = llama.apply(ptuning.apply(params, adapter, PTUNING), CONFIG, ids)
        return next_token_loss(logits, labels)[0], logits

    adapter = {"embed": ms.Tensor(PEFT["adapter/embedding.weight"])}
    (value, logits), grads = value_and_grad(loss, has_aux=True)(adapter, PARAMS)
    assert float(value) == pytest.approx(float(PEFT["loss"]), abs=2e-6)
    np.testing.assert_allclose(logits.asnumpy(), PEFT["logits"], rtol=0, atol=5e-6)
    wanted = PEFT["grad/embedding.weight"]
    np.testing.assert_allclose(grads["embed"].asnumpy(), wanted, rtol=0, atol=1e-6)


def test_with_a_projection_it_is_prefix_tuning():
    config = ptuning.Config(pre_seq_len=3, prefix_projection=True, projection_dim=6, dropout=0.3)
    params, adapter = models.params(), adapters.made("prefix")
    assert ptuning.specs(params, config) == prefix.specs(params, adapters.METHODS["prefix"].config)
    for key in (None, random.key(1)):
        seen = ptuning.apply(params, adapter, config, key)
        assert_close(seen, adapters.laid("prefix", params, adapter, key))


def test_upstreams_defaults():
    config = ptuning.Config()
    assert (config.pre_seq_len, config.prefix_projection) == (128, False)
    assert (config.projection_dim, config.dropout) == (128, 0.01)
    made = ptuning.init(random.key(0), PARAMS, config)
    assert made["embed"].shape == (128, 2 * 2 * 16)
    assert made["embed"].asnumpy().std() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"pre_seq_len": 0}, ValueError, "'pre_seq_len' must be > 0: 0"),
        ({"projection_dim": -1}, ValueError, "'projection_dim' must be > 0: -1"),
        ({"prefix_projection": 1}, TypeError, "'prefix_projection' must be <class 'bool'>"),
        ({"dropout": 1}, ValueError, "'dropout' must be < 1: 1"),
    ],
)
def test_settings_out_of_range(settings, error, message):
    with pytest.raises(error, match=message):
        ptuning.Config(**settings)


def test_an_adapter_of_another_width_is_refused():
    def laid(width):
        return ptuning.apply(PARAMS, {"embed": ms.Tensor(np.zeros((2, width), "f4"))}, PTUNING)

    message = (
        "ptuning: the adapter has 62 numbers a virtual token, which are not keys and values of 2"
    )
    with pytest.raises(ValueError, match=message):
        laid(62)
    message = (
        "prefix: prefix_k has 32 numbers a virtual token, the model has 2 key/value heads of 8"
    )
    for apply in (llama.apply, jit(llama.apply, static_argnums=1)):
        with pytest.raises(ValueError, match=message):
            apply(laid(128), CONFIG, ms.Tensor(BASE["plain/input_ids"]))
