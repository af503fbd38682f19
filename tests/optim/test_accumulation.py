from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.optim.problem import (
    ADAMW,
    PARAMS,
    arrays,
    same_bits,
    state_of,
    tensors,
    train_step_of,
)

from mfunc.gradient import value_and_grad
from mfunc.optim import accumulate, adamw, dynamic_loss_scale, sgd, step
from mfunc.transform import jit

RNG = np.random.default_rng(5)
ROWS = RNG.standard_normal((24, 6)).astype(np.float32)
SIZES = (1, 9, 4, 10)


def loss(params, rows):
    """A mean over rows, as losses are means over tokens."""
    return ((rows @ params["w"] + params["b"]) ** 2).mean()


@pytest.mark.parametrize("inner", [adamw(1e-1), sgd(0.1, momentum=0.9)], ids=["adamw", "sgd"])
def test_batches_of_any_sizes_move_parameters_as_one_batch(inner):
    params = {"w": ms.Tensor(PARAMS["w"]), "b": ms.Tensor(PARAMS["b"])}
    whole, parts = state_of(inner, params), state_of(accumulate(len(SIZES), inner), params)
    gradient = value_and_grad(loss)
    for _ in range(3):
        _, grads = gradient(whole["params"], ms.Tensor(ROWS))
        moved, after = step(inner, grads, whole["optimizer"], whole["params"])
        whole = {"params": moved, "optimizer": after}
        for rows in np.split(ROWS, np.cumsum(SIZES)[:-1]):
            _, grads = gradient(parts["params"], ms.Tensor(rows))
            moved, after = step(
                accumulate(len(SIZES), inner), grads, parts["optimizer"], parts["params"],
                weight=ms.Tensor(len(rows), ms.int32),
            )  # fmt: skip
            parts = {"params": moved, "optimizer": after}
        for a, b in zip(arrays(parts["params"]), arrays(whole["params"]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_between_updates_nothing_moves_to_the_bit():
    """Not even the sign of a zero."""
    params = {"w": ms.Tensor([-0.0, 0.0, 1.0])}
    optimizer = accumulate(3, ADAMW)
    state = optimizer.init(params)
    for count in (1, 2):
        moved, state = step(optimizer, {"w": ms.Tensor([1.0, 1.0, -1.0])}, state, params)
        assert same_bits(moved, params)
        assert same_bits(state["inner"], optimizer.init(params)["inner"])
        assert int(state["count"]) == count
    moved, state = step(optimizer, {"w": ms.Tensor([1.0, 1.0, -1.0])}, state, params)
    assert not same_bits(moved, params)
    assert (int(state["count"]), float(state["weight"])) == (0, 0.0)
    assert not np.any(state["sum"][0].asnumpy())


def test_batches_without_a_token_count_for_nothing():
    params = {"w": ms.Tensor([0.0])}
    optimizer = accumulate(2, sgd(1.0))
    state = optimizer.init(params)
    for grad, tokens, wanted in ((5.0, 0, 0.0), (2.0, 7, -2.0), (9.0, 0, -2.0), (9.0, 0, -2.0)):
        params, state = step(optimizer, {"w": ms.Tensor([grad])}, state, params, weight=tokens)
        assert float(params["w"]) == wanted


def test_accumulations_in_each_other_are_one():
    """The weight of what was joined is the sum of its weights."""
    params = {"w": ms.Tensor([0.0])}
    nested, flat = accumulate(2, accumulate(2, sgd(1.0))), accumulate(4, sgd(1.0))
    seen = []
    for optimizer in (nested, flat):
        moved, state = params, optimizer.init(params)
        for grad, tokens in ((1.0, 3), (2.0, 5), (4.0, 1), (8.0, 2)):
            grads = {"w": ms.Tensor([grad])}
            moved, state = step(optimizer, grads, state, moved, weight=tokens)
        seen.append(float(moved["w"]))
    np.testing.assert_allclose(seen, -(3 + 10 + 4 + 16) / 11, rtol=1e-6)


def test_one_compiled_step_serves_all_weights():
    optimizer = accumulate(2, sgd(1.0))
    fast, state = jit(train_step_of(optimizer)), state_of(optimizer)
    for weight in (3.0, 5.0, 2.0, 0.0):
        state, _ = fast(state, tensors(PARAMS), np.float32(weight))
    assert fast.compiles() == 1
    np.testing.assert_allclose(state["params"]["b"].asnumpy(), -PARAMS["b"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: accumulate(0, ADAMW), r"accumulate: k=0; it must be at least 1"),
        (
            lambda: accumulate(2, dynamic_loss_scale(ADAMW)),
            r"accumulate: dynamic_loss_scale stands inside of it; put it around the whole optimize",
        ),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
