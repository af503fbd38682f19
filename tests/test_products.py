"""`jvp` and `vjp` against derivatives on paper, operation by operation and compiled."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import ops
from tests.trees import arrays, assert_close, tensor

from mfunc import tree
from mfunc.depth import block
from mfunc.gradient import grad
from mfunc.products import jvp, vjp
from mfunc.transform import jit


@block
def bent(layer, x):
    return ops.sin(x @ layer["w"]) * layer["b"][0]


def model(params, x):
    """Two layers; a result with containers."""
    for layer in params["layers"]:
        x = bent(layer, x)
    return {"x": x, "parts": [x[:, 0], (x.sum(),)]}


def params(seed: int) -> dict:
    layer = [
        {"w": tensor(3, 3, seed=seed + i), "b": (tensor(3, seed=seed + 9 + i), None)}
        for i in range(2)
    ]
    return {"layers": tuple(layer), "unused": tensor(2, seed=seed)}


def truth(node, x):
    """The same in float64."""
    for layer in node["layers"]:
        x = np.sin(x @ layer["w"]) * layer["b"][0]
    return {"x": x, "parts": [x[:, 0], (x.sum(),)]}


def wide(node):
    return tree.map(lambda a: a.astype(np.float64), arrays(node))


def slope(primals, tangents, step=1e-6):
    """The directional derivative by central differences in float64."""
    primals, tangents = wide(primals), wide(tangents)
    after = truth(*tree.map(lambda p, t: p + step * t, primals, tangents))
    before = truth(*tree.map(lambda p, t: p - step * t, primals, tangents))
    return tree.map(lambda a, b: np.asarray((a - b) / (2 * step), np.float32), after, before)


def pushed(params, x, dparams, dx):
    return jvp(model, (params, x), (dparams, dx))


def pulled(params, x, cotangent):
    out, pull = vjp(model, params, x)
    return out, pull(cotangent)


WAYS = {"eager": lambda fn: fn, "compiled": jit}
each_way = pytest.mark.parametrize("way", WAYS)


@each_way
def test_jvp_is_the_slope(way):
    fn = WAYS[way](pushed)
    for seed in (1, 2, 3):
        primals, tangents = ((params(s), tensor(4, 3, seed=s)) for s in (seed, seed + 30))
        out, change = fn(*primals, *tangents)
        assert_close(out, tree.map(np.float32, truth(*wide(primals))), rtol=1e-5, atol=1e-5)
        assert_close(change, slope(primals, tangents), rtol=1e-4, atol=1e-4)
    assert way == "eager" or fn.compiles() == 1


def dot(a, b):
    pairs = zip(tree.leaves(wide(a)), tree.leaves(wide(b)), strict=True)
    return sum(float((x * y).sum()) for x, y in pairs)


@each_way
def test_vjp_is_the_transpose_of_the_slope(way):
    """u . J v == J' u . v for three trees and directions."""
    fn = WAYS[way](pulled)
    for seed in (1, 2, 3):
        primals, tangents = ((params(s), tensor(4, 3, seed=s)) for s in (seed, seed + 30))
        cotangent = {"x": tensor(4, 3, seed=7), "parts": [tensor(4, seed=8), (tensor(seed=9),)]}
        out, grads = fn(*primals, cotangent)
        assert_close(out, tree.map(np.float32, truth(*wide(primals))), rtol=1e-5, atol=1e-5)
        assert tree.flatten(grads)[1] == tree.flatten(primals)[1]
        wanted = dot(slope(primals, tangents), cotangent)
        assert dot(grads, tangents) == pytest.approx(wanted, rel=1e-4)
        assert not grads[0]["unused"].asnumpy().any()
    assert way == "eager" or fn.compiles() == 1


def cubed(x):
    return x * x * x


def slope_of_slope(x, v):
    def once(x):
        return jvp(cubed, (x,), (v,))[1]

    return jvp(once, (x,), (v,))[1]


def backwards_twice(x, v):
    _, pull = vjp(cubed, x)
    return pull(v), pull(v * 2.0)


@each_way
def test_one_leaf_in_and_out(way):
    x, v = tensor(3, seed=1), tensor(3, seed=2)
    once, twice = WAYS[way](backwards_twice)(x, v)
    assert_close(once, (3 * x * x * v,), rtol=1e-5)
    assert_close(twice, (6 * x * x * v,), rtol=1e-5)


def test_the_slope_of_a_slope():
    x, v = tensor(3, seed=1), tensor(3, seed=2)
    assert_close(jit(slope_of_slope)(x, v), 6 * x * v * v, rtol=1e-5)


# --- bad input ---


def push(primals, tangents):
    return jvp(model_of_one, primals, tangents)


def pull(primal, cotangent):
    return vjp(model_of_one, primal)[1](cotangent)


def model_of_one(node):
    return {"y": node["x"] * 2.0}


X = {"x": tensor(3)}


@each_way
@pytest.mark.parametrize(
    ("fn", "args", "error", "said"),
    [
        (push, ((X,), ({"y": tensor(3)},)), ValueError, "tree.map: tree 1 .*x"),
        (push, ((X,), ({"x": tensor(1)},)), ValueError,
         r"jvp, vjp: a leaf of shape \(1,?\) stands for one of shape \(3,?\)"),
        (push, (({"x": ms.Tensor([1, 2])},), (X,)), TypeError,
         "argument 1, x is Int64; only float tensors have gradients"),
        (pull, (X, {"y": tensor(1)}), ValueError,
         r"jvp, vjp: a leaf of shape \(1,?\) stands for one of shape \(3,?\); a tangent is shaped"),
        (pull, (X, tensor(3)), ValueError, "tree.map: tree 1 .*"),
        (pull, ({"x": ms.Tensor([1, 2])}, X), TypeError, "argument 1, x is Int64"),
    ],
)  # fmt: skip
def test_bad_input(way, fn, args, error, said):
    with pytest.raises(error, match=said):
        WAYS[way](fn)(*args)


def bent_by(node):
    return jvp(model_of_one, (node,), (node,))[1]["y"].sum()


def test_an_eager_gradient_of_a_jvp_is_refused():
    with pytest.raises(TypeError, match=r"^jvp: a gradient inside a gradient, and the outer"):
        grad(bent_by)(X)
    assert_close(jit(grad(bent_by))(X), {"x": X["x"] * 0 + 2.0})
