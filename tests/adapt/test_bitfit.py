from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.trees import assert_close, tensor

from mfunc import random, spec, tree
from mfunc.adapt import bitfit
from mfunc.optim import sgd
from mfunc.train import init_state, train_step

PARAMS = {
    "layers": ({"w": tensor(3, 2, seed=1), "bias": tensor(2, seed=2)},),
    "head": {"w": tensor(2, 1, seed=3), "out_bias": tensor(1, seed=4)},
}


def test_biases_are_trained_and_nothing_else():
    """In a step that overwrites its state: the model that was given keeps its bits."""
    config = bitfit.Config()
    trained = bitfit.init(random.key(0), PARAMS, config)
    assert tree.paths(trained) == ["head/out_bias", "layers/0/bias"]
    before = [leaf.asnumpy().tobytes() for leaf in tree.leaves(PARAMS)]

    def loss(its, batch, frozen):
        params = bitfit.apply(frozen, its, config)
        hidden = ms.ops.operations.MatMul()(batch["x"], params["layers"][0]["w"])
        hidden = hidden + params["layers"][0]["bias"]
        out = ms.ops.operations.MatMul()(hidden, params["head"]["w"]) + params["head"]["out_bias"]
        return (out * out).sum(), batch["x"].sum() * 0 + 1

    state, step = init_state(trained, sgd(0.1)), train_step(loss, sgd(0.1), donate=True)
    batch = {"x": np.ones((1, 3), np.float32)}
    for _ in range(2):
        state, _ = step(state, batch, PARAMS)
    x = np.ones((1, 3), np.float32)
    w, bias, head, out_bias = (
        PARAMS["layers"][0]["w"].asnumpy(), PARAMS["layers"][0]["bias"].asnumpy(),
        PARAMS["head"]["w"].asnumpy(), PARAMS["head"]["out_bias"].asnumpy(),
    )  # fmt: skip
    for _ in range(2):
        error = 2 * ((x @ w + bias) @ head + out_bias)
        bias, out_bias = bias - 0.1 * (error @ head.T)[0], out_bias - 0.1 * error[0]
    assert_close(state["params"]["layers"][0]["bias"], ms.Tensor(bias), rtol=1e-5)
    assert_close(state["params"]["head"]["out_bias"], ms.Tensor(out_bias), rtol=1e-5)
    assert [leaf.asnumpy().tobytes() for leaf in tree.leaves(PARAMS)] == before


def test_split_and_together_again():
    config = bitfit.Config(targets=("*bias", "head/w"))
    trained, frozen = bitfit.split(PARAMS, config)
    assert tree.paths(trained) == ["head/out_bias", "head/w", "layers/0/bias"]
    assert tree.paths(frozen) == ["layers/0/w"]
    assert_close(tree.combine(trained, frozen), PARAMS)
    assert_close(bitfit.apply(frozen, trained, config), PARAMS)


def test_specs_know_the_dtype():
    params = {"bias": ms.Tensor([1.0], ms.float16), "w": ms.Tensor([1.0])}
    made = bitfit.specs(params, bitfit.Config())
    assert (made["bias"].shape, made["bias"].dtype, made["w"]) == ((1,), "float16", None)
    given = {"bias": spec.Spec((3,), axes=("mlp",))}
    assert bitfit.specs(given, bitfit.Config()) == given


def test_targets_that_match_nothing_are_refused():
    message = r"bitfit: target '\*bias' matches no parameter; paths look like norm, w; .*norms"
    with pytest.raises(ValueError, match=message):
        bitfit.init(random.key(0), {"w": tensor(1), "norm": tensor(1)}, bitfit.Config())
    with pytest.raises(ValueError, match="target 'heads' matches no parameter"):
        bitfit.split(PARAMS, bitfit.Config(targets=("*bias", "heads")))
    with pytest.raises(ValueError, match="'targets' must be >= 1: 0"):
        bitfit.Config(targets=())
