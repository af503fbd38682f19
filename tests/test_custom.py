"""`custom_vjp`: the value of the function, the gradient that was given."""

from __future__ import annotations

import numpy as np
import pytest
from mindspore import Tensor, ops
from tests.trees import assert_close, tensor

from mfunc import tree
from mfunc.custom import custom_vjp
from mfunc.gradient import grad, value_and_grad
from mfunc.transform import jit


def layer(params, x, numbers):
    """Trees in and out, a number type without gradient."""
    y = ops.sin(x * params["w"]) + params["b"][0]
    return {"y": y, "both": (y * x, None), "n": numbers}


def by_hand(args, out, cotangent):
    """The true gradient, three times as long so that it is told from MindSpore's own."""
    params, x, _ = args
    by_y = cotangent["y"] + cotangent["both"][0] * x
    slope = ops.cos(x * params["w"]) * by_y
    by_x = slope * params["w"] + cotangent["both"][0] * out["y"]
    return {"w": 3.0 * slope * x, "b": [3.0 * by_y, None]}, 3.0 * by_x, None


ours = custom_vjp(layer, by_hand)


def params(seed):
    return {"w": tensor(3, seed=seed), "b": [tensor(3, seed=seed + 9), None]}


NUMBERS = Tensor(np.int32([1, 2]))


def single(params, x, numbers):
    out = ours(params, x, numbers)
    return (out["y"] * 2.0).sum() + out["both"][0].sum()


def single_plain(params, x, numbers):
    out = layer(params, x, numbers)
    return (out["y"] * 2.0).sum() + out["both"][0].sum()


def test_the_value_is_that_of_the_function_and_the_gradient_the_given_one():
    fast, plain = (jit(value_and_grad(fn, (0, 1))) for fn in (single, single_plain))
    for seed in (1, 2, 3):
        args = params(seed), tensor(3, seed=seed + 5), NUMBERS
        value, grads = fast(*args)
        wanted, right = plain(*args)
        assert_close(value, wanted, rtol=1e-6)
        assert_close(grads, tree.map(lambda g: 3.0 * g, right), rtol=1e-5, atol=1e-6)
    assert fast.compiles() == 1


def clipped(args, out, cotangent):
    return (cotangent.clip(-0.1, 0.1),)


def same(x):
    return x * 1.0


gentle = custom_vjp(same, clipped)


def steep(x):
    return (gentle(x) * x).sum()


def test_a_gradient_that_is_not_one():
    """Clipping what flows back: y = x there, gradient x from here and clip(x) from there."""
    x = tensor(5)
    wanted = x.asnumpy() + np.clip(x.asnumpy(), -0.1, 0.1)
    assert_close(jit(grad(steep))(x), wanted, rtol=1e-6)


def outside(x):
    return gentle(x).sum()


def test_outside_of_a_graph_it_is_the_function():
    x = tensor(3)
    assert_close(gentle(x), x)
    assert_close(grad(outside)(x), x * 0 + 1.0)


def too_few(args, out, cotangent):
    return ()


def other_containers(args, out, cotangent):
    return {"v": cotangent}


def other_tree(args, out, cotangent):
    return ({"v": cotangent},)


@pytest.mark.parametrize(
    ("backward", "said"),
    [
        (too_few, "custom_vjp: the function takes 1 arguments; backward must return a tuple"),
        (other_containers, "custom_vjp: the function takes 1 arguments"),
        (other_tree, "custom_vjp: the gradient of argument 0"),
    ],
)
def test_gradients_that_do_not_fit_are_refused(backward, said):
    broken = custom_vjp(same, backward)

    def loss(x):
        return broken(x).sum()

    with pytest.raises(ValueError, match=said):
        jit(grad(loss))(tensor(3))


def inside(x):
    return custom_vjp(same, clipped)(x)


def test_made_inside_of_a_graph_it_is_refused():
    with pytest.raises(TypeError, match="custom_vjp: make it outside of the compiled function"):
        jit(inside)(tensor(3))
