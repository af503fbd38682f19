from __future__ import annotations

import json

import attrs
import mindspore as ms
import numpy as np
import pytest
from tests import adapters, models
from tests.models import TINY
from tests.tiny_llama import GOLDEN, tiny_llama

from mfunc import random, spec, tree
from mfunc.adapt import prefix
from mfunc.gradient import value_and_grad
from mfunc.loss import next_token_loss
from mfunc.nn import llama
from mfunc.transform import jit

CONFIG, PARAMS, BASE = tiny_llama()
with np.load(GOLDEN / "prefix.npz") as file:
    PEFT = {key: file[key] for key in file.files}
SETTINGS = json.loads(str(PEFT["config"]))["projected"]
PREFIX = prefix.Config(
    num_virtual_tokens=SETTINGS["num_virtual_tokens"], mid_dim=SETTINGS["encoder_hidden_size"]
)
THEIRS = {
    "embed": "embedding.weight",
    "hidden": "transform.0.weight",
    "hidden_bias": "transform.0.bias",
    "out": "transform.2.weight",
    "out_bias": "transform.2.bias",
}


def from_peft(kind):
    """The adapter, or its gradient, in our tree; PEFT's matrices are [out, in], its table not."""
    arrays = {name: PEFT[f"projected/{kind}/{theirs}"] for name, theirs in THEIRS.items()}
    turned = {name: x.T if name in ("hidden", "out") else x for name, x in arrays.items()}
    return {name: ms.Tensor(np.ascontiguousarray(x)) for name, x in turned.items()}


def loss(adapter, params, batch):
    logits = llama.apply(prefix.apply(params, adapter, PREFIX), CONFIG, batch["input_ids"])
    return next_token_loss(logits, batch["labels"]), logits


def test_logits_loss_and_gradients_are_those_of_peft():
    batch = {key: ms.Tensor(BASE[f"plain/{key}"]) for key in ("input_ids", "labels")}

    def first(adapter, params, batch):
        (value, _), logits = loss(adapter, params, batch)
        return value, logits

    (value, logits), grads = jit(value_and_grad(first, has_aux=True))(
        from_peft("adapter"), PARAMS, batch
    )
    assert float(value) == pytest.approx(float(PEFT["projected/loss"]), abs=2e-6)
    np.testing.assert_allclose(logits.asnumpy(), PEFT["projected/logits"], rtol=0, atol=5e-6)
    wanted = from_peft("grad")
    assert sorted(grads) == sorted(wanted)
    for name in wanted:
        np.testing.assert_allclose(
            grads[name].asnumpy(), wanted[name].asnumpy(), rtol=0, atol=1e-6, err_msg=name
        )


def test_keys_are_not_values_and_both_are_trained():
    """MindPet hands one tensor out as both, and computes it once, without a gradient."""
    adapter = adapters.made("prefix", 4)
    laid = prefix.apply(models.params(), adapter, adapters.METHODS["prefix"].config)
    every = [layer[name].asnumpy() for layer in laid["layers"] for name in ("prefix_k", "prefix_v")]
    assert all(np.abs(a - b).max() > 0.1 for i, a in enumerate(every) for b in every[:i])
    batch = models.batch_of(np.ones((2, 6), int))

    def of_prefix(parts, rest):
        layers = [a | b for a, b in zip(rest["layers"], parts, strict=True)]
        return models.loss(rest | {"layers": tuple(layers)}, TINY, batch)

    parts = tuple({n: layer[n] for n in ("prefix_k", "prefix_v")} for layer in laid["layers"])
    _, grads = value_and_grad(of_prefix, has_aux=True)(parts, models.params())
    for layer in grads:
        keys, values = layer["prefix_k"].asnumpy(), layer["prefix_v"].asnumpy()
        assert np.abs(keys).max() > 1e-4
        assert np.abs(values).max() > 1e-4
        assert np.abs(keys - values).max() > 1e-4


def test_columns_are_layer_by_layer_keys_then_values():
    table = np.arange(2 * 4 * 8, dtype=np.float32).reshape(2, -1)
    laid = prefix.lay(models.params(), ms.Tensor(table), "prefix")
    for i, (layer, name) in enumerate(
        (layer, name) for layer in laid["layers"] for name in ("prefix_k", "prefix_v")
    ):
        np.testing.assert_array_equal(layer[name].asnumpy(), table[:, 8 * i : 8 * i + 8])


def test_dropout_needs_a_key():
    params, adapter = models.params(), adapters.made("prefix")
    config = attrs.evolve(adapters.METHODS["prefix"].config, dropout=0.5)
    plain = prefix.apply(params, adapter, config)["layers"][1]["prefix_v"].asnumpy()
    dropped = prefix.apply(params, adapter, config, random.key(0))["layers"][1]["prefix_v"]
    kept = dropped.asnumpy() != 0
    assert 0.2 < kept.mean() < 0.8
    np.testing.assert_allclose(dropped.asnumpy()[kept], 2 * plain[kept], rtol=1e-6)
    again = prefix.apply(params, adapter, config, random.key(0))["layers"][1]["prefix_v"]
    np.testing.assert_array_equal(again.asnumpy(), dropped.asnumpy())


def test_specs_are_the_same_from_specs_and_from_weights():
    one, other = (prefix.specs(node, PREFIX) for node in (llama.specs(CONFIG), PARAMS))
    assert one == other
    assert spec.size(one) == 5 * 16 + 16 * 12 + 12 + 12 * 64 + 64
    made = prefix.init(random.key(0), PARAMS, prefix.Config(num_virtual_tokens=100))
    assert made["embed"].asnumpy().std() == pytest.approx(1, rel=0.1)
    assert made["out"].asnumpy().std() == pytest.approx(1 / np.sqrt(3 * 512), rel=0.1)
    assert tree.paths(made) == sorted(THEIRS)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_virtual_tokens": 0}, ValueError, "'num_virtual_tokens' must be > 0: 0"),
        ({"num_virtual_tokens": 2.5}, TypeError, "'num_virtual_tokens' must be <class 'int'>"),
        ({"mid_dim": 0}, ValueError, "'mid_dim' must be > 0: 0"),
        ({"dropout": 1.0}, ValueError, "'dropout' must be < 1: 1.0"),
        ({"dropout": -0.1}, ValueError, "'dropout' must be >= 0: -0.1"),
    ],
)
def test_settings_out_of_range(settings, error, message):
    with pytest.raises(error, match=message):
        prefix.Config(**{"num_virtual_tokens": 1, **settings})


def test_packed_rows_without_positions_are_refused():
    """From a prefix the position itself counts: 5 of a second segment is not its 0."""
    batch = models.batch_of(np.array([[1, 1, 2, 2]]))
    laid = adapters.laid("prefix", models.params(), adapters.made("prefix"))
    with pytest.raises(
        ValueError, match=r"prefix: segment_ids came without position_ids; .* give p"
    ):
        llama.apply(laid, TINY, batch["input_ids"], segment_ids=batch["segment_ids"])


def test_layers_with_keys_of_other_widths_are_refused():
    def keys(n):
        return {"k": spec.Spec((4, n), axes=(None, None))}

    with pytest.raises(ValueError, match=r"prefix: the keys of the layers have widths \[2, 4\]"):
        prefix.specs({"layers": (keys(4), keys(2))}, PREFIX)
