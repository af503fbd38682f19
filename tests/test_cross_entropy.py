from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mfunc import cross_entropy
from mfunc.batching import vmap
from mfunc.cross_entropy import multiplied, weighted
from mfunc.dynamic import Dim
from mfunc.gradient import value_and_grad
from mfunc.transform import jit

B, S, D, V = 3, 7, 8, 20


@pytest.fixture
def small_pieces(monkeypatch):
    """21 tokens of 20 scores in 5 pieces, the last one filled up."""
    monkeypatch.setattr(cross_entropy, "PIECE", 100)


def inputs(dtype=np.float32, tied=True, length=S, seed=0):
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((B, length, D)).astype(dtype)
    weight = rng.standard_normal((V, D) if tied else (D, V)).astype(dtype)
    targets = rng.integers(0, V, (B, length)).astype(np.int32)
    targets[0, 1] = targets[2, -1] = -100
    weights = np.where(targets < 0, 0, rng.random((B, length))).astype(np.float32) / 1000
    return Tensor(hidden), Tensor(weight), Tensor(weights), Tensor(targets)


def factors(hidden, weight, tied, frozen):
    if tied:
        return {"hidden": hidden, "table": weight, "frozen": frozen}
    return {"hidden": hidden, "head": weight, "frozen": frozen}


def in_pieces(tied, frozen, times=1.0):
    def loss(hidden, weight, weights, targets):
        return weighted(factors(hidden, weight, tied, frozen), targets, weights) * times

    return loss


def at_once(tied, frozen, times=1.0):
    def loss(hidden, weight, weights, targets):
        scores = multiplied(factors(hidden, weight, tied, frozen))
        return weighted(scores, targets, weights) * times

    return loss


def all_gradients(loss, **settings):
    return jit(value_and_grad(loss, argnums=(0, 1, 2)), **settings)


def close(seen, wanted, share):
    seen, wanted = seen.astype(ms.float32).asnumpy(), wanted.astype(ms.float32).asnumpy()
    assert np.abs(seen - wanted).max() <= share * np.abs(wanted).max()


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_pieces_are_the_whole_and_so_are_their_gradients(small_pieces, tied, frozen):
    given = inputs(tied=tied)
    assert cross_entropy.pieces(B, S, V) == 5
    value, (hidden, weight, weights) = all_gradients(in_pieces(tied, frozen, 3.0))(*given)
    wanted, (its_hidden, its_weight, its_weights) = all_gradients(at_once(tied, False, 3.0))(*given)
    close(value, wanted, 1e-6)
    close(hidden, its_hidden, 1e-6)
    np.testing.assert_allclose(weights.asnumpy(), its_weights.asnumpy(), rtol=1e-5)
    if frozen:
        assert not weight.asnumpy().any()
    else:
        close(weight, its_weight, 1e-6)
    eager = in_pieces(tied, frozen, 3.0)(*given)
    close(eager, wanted, 1e-6)


def test_pieces_agree_with_float64(small_pieces):
    hidden, weight, weights, targets = inputs()
    scores = hidden.asnumpy().astype(np.float64) @ weight.asnumpy().T.astype(np.float64)
    below = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    at = np.maximum(targets.asnumpy(), 0)[..., None]
    wanted = -(np.take_along_axis(below, at, -1)[..., 0] * weights.asnumpy()).sum()
    apart = np.exp(below)
    np.put_along_axis(apart, at, np.take_along_axis(apart, at, -1) - 1, -1)
    moved = (apart * weights.asnumpy()[..., None]) @ weight.asnumpy()
    value, gradient = jit(value_and_grad(in_pieces(True, True)))(hidden, weight, weights, targets)
    np.testing.assert_allclose(float(value), wanted, rtol=2e-6)
    assert np.abs(gradient.asnumpy() - moved).max() < 2e-6 * np.abs(moved).max()


def test_half_precision_neither_overflows_nor_vanishes(small_pieces):
    """Weights of 1e-6 and a scale of 2**16 behind: the order of both must not matter."""
    hidden, weight, weights, targets = inputs(np.float16)
    weights = weights * 1e-3
    value, seen = all_gradients(in_pieces(True, False, 2.0**16))(hidden, weight, weights, targets)
    wide = (hidden.astype(ms.float32), weight.astype(ms.float32), weights, targets)
    wanted, its = all_gradients(at_once(True, False, 2.0**16))(*wide)
    assert [x.dtype for x in seen] == [ms.float16, ms.float16, ms.float32]
    close(value, wanted, 2e-3)
    close(seen[0], its[0], 4e-3)
    close(seen[1], its[1], 4e-3)


def test_a_length_that_is_not_known_is_cut_by_rows(small_pieces):
    length = Dim("length")
    rows = (None, length)
    dynamic = {"0": (None, length, None), "2": rows, "3": rows}
    flexible = all_gradients(in_pieces(True, False), dynamic=dynamic)
    for n in (4, 9, 5):
        given = inputs(length=n, seed=n)
        value, seen = flexible(*given)
        wanted, its = all_gradients(at_once(True, False))(*given)
        close(value, wanted, 1e-6)
        for one, other in zip(seen[:2], its[:2], strict=True):
            close(one, other, 1e-6)
    assert flexible.compiles() == 1


def test_few_logits_are_made_at_once():
    """Then the gradient has a gradient, and `vmap` works."""
    hidden, weight, weights, targets = inputs()

    def loss(hidden, weight, weights, targets):
        one = {"hidden": hidden, "table": weight}
        return weighted(one, targets, weights)

    mapped = jit(vmap(loss, in_axes=(0, None, 0, 0)))
    rows = [x.reshape((B, 1, S, *x.shape[2:])) for x in (hidden, weights, targets)]
    seen = mapped(rows[0], weight, rows[1], rows[2])
    close(seen.sum(), loss(hidden, weight, weights, targets), 1e-6)


def test_a_head_with_lora_is_multiplied_at_once(small_pieces):
    hidden, weight, weights, targets = inputs(tied=False)
    pair = {"a": Tensor(np.ones((D, 1), np.float32)), "b": Tensor(np.ones((1, V), np.float32))}

    def loss(pair, hidden, weight, weights, targets):
        laid = {"weight": weight, "a": pair["a"], "b": pair["b"], "scale": 0.5}
        return weighted({"hidden": hidden, "head": laid}, targets, weights)

    value, gradient = jit(value_and_grad(loss))(pair, hidden, weight, weights, targets)
    whole = at_once(False, False)(hidden, weight + 0.5, weights, targets)
    close(value, whole, 1e-6)
    assert abs(gradient["b"].asnumpy()).max() > 0


@pytest.mark.parametrize(
    ("sizes", "count"),
    [((2, 512, 49152), 6), ((4, 256, 2000), 1), ((-1, -1, 9), 1), ((8, -1, 32000), 8)],
)
def test_how_many_pieces(sizes, count):
    assert cross_entropy.pieces(*sizes) == count


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_what_is_judged_in_pieces(small_pieces, tied):
    """Nothing of the gradient is made, and where there is no target nothing counts."""
    hidden, weight, weights, targets = inputs(tied=tied)

    def judge(hidden, weight, weights, targets):
        return cross_entropy.judged(factors(hidden, weight, tied, False), targets, weights)

    scores = multiplied(factors(hidden, weight, tied, False))
    right = (scores.asnumpy().argmax(-1) == targets.asnumpy()) * weights.asnumpy()
    assert 0 < right.sum() < weights.asnumpy().sum()
    for fn in (judge, jit(judge)):
        loss, share = fn(hidden, weight, weights, targets)
        close(loss, weighted(scores, targets, weights), 1e-6)
        np.testing.assert_allclose(float(share), right.sum(), rtol=1e-6)
