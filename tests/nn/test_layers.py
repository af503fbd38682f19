from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from tests.trees import arrays, assert_close, tensor

from mfunc.gradient import value_and_grad
from mfunc.nn import layers
from mfunc.transform import jit


def double(x):
    return x.asnumpy().astype(np.float64)


def test_linear():
    x, w = tensor(5, 3, seed=1), tensor(3, 4, seed=2)
    np.testing.assert_allclose(layers.linear(x, w).asnumpy(), double(x) @ double(w), rtol=1e-5)


def both_ways(x, w, a, b):
    beside = layers.linear(x, {"weight": w, "a": a, "b": b, "scale": 0.5})
    merged = layers.linear(x, w + 0.5 * (a @ b))
    return (beside * beside).sum(), (beside, merged)


def merged_only(x, w, a, b):
    merged = layers.linear(x, w + 0.5 * (a @ b))
    return (merged * merged).sum()


def test_linear_with_a_correction_beside_the_weight():
    """W + s A B, never multiplied out: the same numbers and the same gradients."""
    arguments = (
        tensor(5, 3, seed=1),
        tensor(3, 4, seed=2),
        tensor(3, 2, seed=3),
        tensor(2, 4, seed=4),
    )
    (_, (beside, merged)), seen = jit(value_and_grad(both_ways, (0, 1, 2, 3), has_aux=True))(
        *arguments
    )
    assert_close(beside, merged, atol=1e-5)
    wanted = jit(value_and_grad(merged_only, (0, 1, 2, 3)))(*arguments)[1]
    assert_close(seen, wanted, rtol=1e-4, atol=1e-4)


def total(table, ids):
    return (layers.embed(table, ids) * Tensor(np.arange(12, dtype=np.float32).reshape(6, 2))).sum()


def test_embed_and_its_gradient():
    """Tokens row after row; the gradient of a token is summed over its places."""
    table, ids = tensor(4, 2), Tensor(np.int32([[1, 3, 1], [0, 1, 3]]))
    np.testing.assert_array_equal(
        layers.embed(table, ids).asnumpy(), table.asnumpy()[[1, 3, 1, 0, 1, 3]]
    )
    for fn in (value_and_grad(total), jit(value_and_grad(total))):
        gradient = fn(table, ids)[1].asnumpy()
        assert gradient.tolist() == [[6, 7], [0 + 4 + 8, 1 + 5 + 9], [0, 0], [2 + 10, 3 + 11]]


def normed(x, weight):
    return (layers.rms_norm(x, weight, 1e-5) * x).sum()


def rms_norm_reference(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_rms_norm_and_its_gradient(scale):
    x, weight = tensor(6, 8, seed=1) * scale, tensor(8, seed=2)
    wanted = rms_norm_reference(double(x), double(weight), 1e-5)
    np.testing.assert_allclose(layers.rms_norm(x, weight, 1e-5).asnumpy(), wanted, rtol=1e-5)
    by_x, by_weight = value_and_grad(normed, (0, 1))(x, weight)[1]
    square = (double(x) ** 2).mean(-1, keepdims=True) + 1e-5
    unit = double(x) / np.sqrt(square)
    np.testing.assert_allclose(by_weight.asnumpy(), (unit * double(x)).sum(0), rtol=1e-4)
    inner = (double(weight) * double(x) ** 2).mean(-1, keepdims=True) / square
    by_hand = 2 * double(weight) * unit - unit * inner
    np.testing.assert_allclose(
        by_x.asnumpy(), by_hand, rtol=1e-4, atol=1e-5 * np.abs(by_hand).max()
    )


def test_rms_norm_of_zeros_is_zero():
    x = Tensor(np.zeros((2, 4), np.float32))
    assert not layers.rms_norm(x, tensor(4), 1e-6).asnumpy().any()


def test_swiglu():
    x, gate, up, down = (
        tensor(5, 3),
        tensor(3, 4, seed=1),
        tensor(3, 4, seed=2),
        tensor(4, 3, seed=3),
    )
    g = double(x) @ double(gate)
    wanted = (g / (1 + np.exp(-g)) * (double(x) @ double(up))) @ double(down)
    seen = layers.swiglu(x, gate, up, down)
    np.testing.assert_allclose(seen.asnumpy(), wanted, rtol=1e-4, atol=1e-6)


def apart_and_together(x):
    split = layers.split_heads(x, 2, 4)
    return split, layers.merge_heads(split)


def test_heads_are_split_and_merged():
    """Token b * S + s, feature h * D + d  <->  [b, h, s, d]."""
    x = tensor(2 * 3, 4 * 5)
    wanted = x.asnumpy().reshape(2, 3, 4, 5).transpose(0, 2, 1, 3)
    for fn in (apart_and_together, jit(apart_and_together)):
        split, merged = arrays(fn(x))
        np.testing.assert_array_equal(split, wanted)
        np.testing.assert_array_equal(merged, x.asnumpy())


def test_one_head():
    x = tensor(6, 5)
    assert_close(layers.merge_heads(layers.split_heads(x, 2, 1)), x)


def test_keep_keeps():
    x = tensor(2, 3)
    assert layers.keep(x, ("tokens", "embed")) is x
    assert x.dtype == ms.float32


def test_norms_of_halves_are_taken_in_float32():
    """300 squared is no float16."""
    x = Tensor(np.float16([[300.0, 400.0]]))
    seen = layers.rms_norm(x, Tensor(np.float16([1.0, 2.0])), 0.0)
    assert seen.dtype == ms.float16
    np.testing.assert_allclose(seen.asnumpy(), [[0.8485, 2.2627]], rtol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "seen"),
    [(ms.float32, ms.float32), (ms.float16, ms.float16), (ms.bfloat16, ms.float32)],
)
def test_activations_are_of_a_dtype_that_cpu_has_products_of(dtype, seen):
    table = Tensor(np.float32([[1.0, 2.0], [3.0, 4.0]])).astype(dtype)
    ids = Tensor([[1, 0]], ms.int32)
    for embed in (layers.embed, jit(layers.embed)):
        x = embed(table, ids)
        assert (x.dtype, x.asnumpy().tolist()) == (seen, [[3.0, 4.0], [1.0, 2.0]])
        assert layers.linear(x, table).dtype == seen


def test_weights_are_taken_in_the_dtype_of_the_activations():
    """A LoRA in float32 beside a weight of half precision, and the other way round."""
    half, one = Tensor(np.float16([[3], [4]])), Tensor(np.float32([[1.0], [1.0]]))
    laid = {"weight": half, "a": one, "b": Tensor(np.float32([[2.0]])), "scale": 0.5}
    for dtype in (ms.float16, ms.float32):
        x = Tensor([[1.0, 2.0]], dtype)
        seen = layers.linear(x, laid)
        assert (seen.dtype, float(seen)) == (dtype, 14.0)
        turned = layers.linear(x, laid | {"magnitude": Tensor(np.float32([5.0]))})
        assert turned.dtype == dtype
        np.testing.assert_allclose(float(turned), 14 * 5 / np.sqrt(41), rtol=1e-3)
