from __future__ import annotations

import math

import numpy as np
import pytest
from tests import adapters, models
from tests.models import TINY
from tests.trees import assert_close

from mfunc import random, spec, tree
from mfunc.adapt import adapter
from mfunc.nn import llama


def test_defaults_are_upstreams():
    made = adapter.specs(llama.specs(TINY), adapter.Config())["layers"][1]
    assert {name.partition("_adapter_")[0] for name in made} == {"attention", "mlp"}
    part = {name: made[f"mlp_adapter_{name}"] for name in ("down", "up")}
    assert (part["down"].shape, part["down"].init, part["down"].scale) == ((16, 64), "normal", 0.02)
    assert (part["up"].shape, part["up"].init) == ((64, 16), "zeros")
    assert spec.size(made) == 2 * (2 * 16 * 64 + 64 + 16)


def test_factors_compute_what_their_products_compute():
    params, batch, low = (
        models.params(),
        models.batch_of(np.ones((2, 6), int)),
        adapters.made("low_rank"),
    )

    def whole(layer):
        products = {
            name.removesuffix("_left"): left @ layer[name.replace("_left", "_right")]
            for name, left in layer.items()
            if name.endswith("_left")
        }
        return products | {name: bias for name, bias in layer.items() if name.endswith("_bias")}

    product = {"layers": tuple(whole(layer) for layer in low["layers"])}
    assert tree.paths(product) == tree.paths(adapters.made("adapter"))
    one, other = (
        models.logits(adapters.laid(name, params, its), TINY, batch)
        for name, its in (("low_rank", low), ("adapter", product))
    )
    assert_close(one, other, atol=1e-5)


def test_factors_start_in_glorots_scale():
    big = {"layers": ({"o": spec.Spec((8, 300), axes=("heads", "embed"))},)}
    made = adapter.init(random.key(0), big, adapter.Config(bottleneck=200, rank=100))
    layer = made["layers"][0]
    names = ("down_left", "down_right", "up_left", "up_right")
    scales = [layer[f"attention_adapter_{name}"].asnumpy().std() for name in names]
    wanted = [math.sqrt(2 / 400), math.sqrt(2 / 300), math.sqrt(2 / 300), 0.0]
    np.testing.assert_allclose(scales, wanted, rtol=0.02)


def test_one_place_only():
    config = adapter.Config(bottleneck=3, places=("mlp_adapter",))
    made = adapter.init(random.key(0), models.params(), config)
    laid = adapter.apply(models.params(), made, config)["layers"][0]
    added = set(laid) - set(models.params()["layers"][0])
    assert added == {f"mlp_adapter_{name}" for name in ("down", "down_bias", "up", "up_bias")}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"bottleneck": 0}, ValueError, "'bottleneck' must be > 0: 0"),
        ({"rank": 0}, ValueError, "'rank' must be > 0: 0"),
        ({"rank": 1.5}, TypeError, "'rank' must be <class 'int'>"),
        (
            {"places": ()},
            ValueError,
            r"places=\(\); known are attention_adapter, mlp_adapter, each",
        ),
        ({"places": ("mlp",)}, ValueError, r"places=\('mlp',\); known are"),
        ({"places": ("mlp_adapter",) * 2}, ValueError, "each once"),
    ],
)
def test_settings_out_of_range(settings, error, message):
    with pytest.raises(error, match=message):
        adapter.Config(**settings)
