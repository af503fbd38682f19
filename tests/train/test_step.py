from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from mfunc import random, tree
from mfunc.optim import Optimizer, adamw, sgd
from mfunc.train import fit, init_state, train_step


def line(params, batch, frozen):
    error = params["a"] * batch["x"] + frozen["b"] - batch["y"]
    return (error * error).mean(), batch["x"].sum()


def bits(node):
    return [leaf.asnumpy().tobytes() for leaf in tree.leaves(node)]


def test_a_step_written_out_and_frozen_trees_are_left_alone():
    """a = 2, b = 1: errors (2x + 1 - y) are 3 and 1, so the loss is 5 and its slope in a is 5."""
    params, frozen = {"a": ms.Tensor([2.0])}, {"b": ms.Tensor([1.0])}
    batch = {"x": np.float32([1.0, 2.0]), "y": np.float32([0.0, 4.0])}
    state, before = init_state(params, sgd(0.1)), bits((params, frozen))
    after, metrics = train_step(line, sgd(0.1))(state, batch, frozen)
    assert (float(metrics["loss"]), float(metrics["tokens"])) == (5.0, 3.0)
    assert tree.paths(after) == ["optimizer/count", "params/a"]
    np.testing.assert_allclose(after["params"]["a"].asnumpy(), [1.5], rtol=1e-6)
    assert bits((params, frozen)) == before


# --- a key ---


def noisy(params, batch, frozen, key):
    """The slope by `a` is the noise of this step."""
    return (params["a"] * (random.normal(key, (3,)) + frozen["b"])).sum(), batch["x"].sum()


def test_every_step_has_a_key_of_its_own():
    step = train_step(noisy, sgd(1.0), donate=True)
    state = init_state({"a": ms.Tensor([0.0, 0.0, 0.0])}, sgd(1.0), random.key(7))
    frozen, batch = {"b": np.float32([10.0, 20.0, 30.0])}, {"x": np.float32([1.0])}
    key, at = random.key(7), np.zeros(3, np.float32)
    for _ in range(3):
        state, _ = step(state, batch, frozen)
        key, own = random.split(key)
        at = at - (random.normal(own, (3,)) + frozen["b"])
        np.testing.assert_allclose(state["params"]["a"].asnumpy(), at, rtol=1e-6)
        assert state["key"].asnumpy().tolist() == key.tolist()
    assert step.compiles() == 1


def test_a_run_with_a_key_goes_on_where_it_stopped():
    """The key is in the state, so nothing else need be kept."""
    optimizer = adamw(0.1)
    step, frozen = train_step(noisy, optimizer), {"b": np.float32([0.0, 0.0, 0.0])}
    state = init_state({"a": ms.Tensor([1.0, 2.0, 3.0])}, optimizer, random.key(0))
    batches = [{"x": np.float32([i])} for i in range(6)]
    whole = list(fit(step, state, batches, frozen, progress=False))
    rest = list(fit(step, whole[2][0], batches[3:], frozen, start=3, progress=False))
    assert [bits(state) for state, _ in rest] == [bits(state) for state, _ in whole[3:]]
    assert [m["loss"] for _, m in rest] == [m["loss"] for _, m in whole[3:]]
    assert [m["step"] for _, m in rest] == [4, 5, 6]


# --- a scale ---


def scaled_sgd(factor):
    """Gradient descent that needs its loss multiplied, and shows what it was given."""

    def init(params):
        return {"scale": ms.Tensor(factor, ms.float32), "seen": tree.map(ops_zeros, params)}

    def update(grads, state, params):
        def down(grad):
            return -grad / state["scale"]

        return tree.map(down, grads), {"scale": state["scale"] * 2.0, "seen": grads}

    def scale(state):
        return state["scale"]

    return Optimizer(init, update, None, scale)


def ops_zeros(leaf):
    return ms.ops.zeros_like(leaf)


@pytest.mark.parametrize("donate", [False, True])
def test_the_loss_is_scaled_before_its_gradient_and_told_as_it_is(donate):
    """The errors of `line` with a = 2, b = 1 again: loss 5, slope 5."""
    optimizer, frozen = scaled_sgd(1024.0), {"b": ms.Tensor([1.0])}
    batch = {"x": np.float32([1.0, 2.0]), "y": np.float32([0.0, 4.0])}
    step = train_step(line, optimizer, donate=donate)
    state, metrics = step(init_state({"a": ms.Tensor([2.0])}, optimizer), batch, frozen)
    assert (float(metrics["loss"]), float(metrics["tokens"])) == (5.0, 3.0)
    assert state["optimizer"]["seen"]["a"].asnumpy() == [5.0 * 1024]
    assert state["params"]["a"].asnumpy() == [-3.0]
    state, metrics = step(state, batch, frozen)  # a = -3: errors -2 and -9, slope -20
    assert float(metrics["loss"]) == (4.0 + 81.0) / 2
    assert state["optimizer"]["seen"]["a"].asnumpy() == [-20.0 * 2048]
    assert state["params"]["a"].asnumpy() == [17.0]


def test_the_weight_of_a_batch_reaches_the_optimizer(monkeypatch):
    """A stand-in for `optim.step`, read by the compiler, whose update is the weight itself."""
    monkeypatch.setattr("mfunc.optim.step", weighing)
    batch = {"x": np.float32([1.0, 2.0]), "y": np.float32([0.0, 4.0])}
    state = init_state({"a": ms.Tensor([2.0])}, sgd(0.1))
    state, _ = train_step(line, sgd(0.1))(state, batch, {"b": ms.Tensor([1.0])})
    assert state["params"]["a"].asnumpy() == [3.0]


def weighing(optimizer, grads, state, params, home=None, *, weight=None):
    def put(grad):
        return grad * 0.0 + weight

    return tree.map(put, grads), state
