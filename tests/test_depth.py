"""`block`: one graph for all layers, and the numbers of no block at all."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from mindspore import Tensor, ops
from tests.trees import assert_close, tensor

from mfunc import depth, tree
from mfunc.depth import block
from mfunc.gradient import grad, value_and_grad
from mfunc.transform import jit

X = tensor(3, seed=1)


@attrs.frozen
class Config:
    """As a model has one."""

    scale: float = 2.0
    kind: str = "plain"


def layers(count: int, seed: int = 0) -> tuple:
    """Parameter trees of layers: a dict with a tuple, a list and a None in it."""
    return tuple(
        {"w": tensor(3, seed=seed + i), "b": (tensor(3, seed=seed + i + 100), None), "e": [{}]}
        for i in range(count)
    )


def everything(layer, config, x, extra, shift, kind):
    """One layer that takes and gives whatever a layer may."""
    y = x * layer["w"] * config.scale + layer["b"][0] + shift
    if config.kind == "bent":
        y = ops.tanh(y)
    if extra is not None:
        y = y + extra["e"][0]
    return {"y": y, "x": x, "pair": (y * 0.5, None), "list": [x], "kind": kind, "n": 3}


BLOCK = block(everything)


def network(fn, params, x, shift):
    for i in range(len(params)):
        config = Config() if i % 2 else Config(scale=0.5, kind="bent")
        extra = {"e": (x,)} if i == 2 else None
        out = fn(params[i], config, x, extra, shift, "tanh")
        x = out["y"] + out["pair"][0] * out["n"] - out["list"][0]
        if out["kind"] == "tanh":
            x = ops.tanh(x)
    return x


def blocked(params, x, shift):
    return (network(BLOCK, params, x, shift) ** 2).sum()


def plain(params, x, shift):
    return (network(everything, params, x, shift) ** 2).sum()


@pytest.mark.parametrize("wrap", ["jit of gradient", "gradient of jit", "eager"])
def test_blocks_change_no_number(wrap):
    """Arguments: trees, None, a config, a traced number, a word. Results: a dict of such things."""
    fn = {
        "jit of gradient": jit(value_and_grad(blocked, (0, 1))),
        "gradient of jit": value_and_grad(jit(blocked), (0, 1)),
        "eager": value_and_grad(blocked, (0, 1)),
    }[wrap]
    for seed, shift in ((1, 0.1), (2, 0.2), (3, -0.3)):
        arguments = layers(4, seed), tensor(3, seed=seed + 9), shift
        assert_close(
            fn(*arguments), value_and_grad(plain, (0, 1))(*arguments), rtol=1e-4, atol=1e-6
        )
    assert wrap == "eager" or fn.compiles() == 1


def dict_result(layer, x):
    return {"y": x * layer["w"]}


def tuple_result(layer, x):
    return (x * layer["w"],)


def nested_result(layer, x):
    return [{"a": ({"y": x * layer["w"]}, None)}]


def argument_result(layer, x):
    return x, layer, x * layer["w"]


def last(out):
    return tree.leaves(out)[-1]


@pytest.mark.parametrize(
    "layer", [dict_result, tuple_result, nested_result, argument_result], ids=lambda f: f.__name__
)
def test_results_of_every_container(layer):
    """A dict out of a layer once gave wrong gradients without an error: see test_mindspore."""
    inner = block(layer)

    def chained(params, x):
        for one in params:
            x = last(inner(one, x))
        return (x * x).sum()

    def chained_plainly(params, x):
        for one in params:
            x = last(layer(one, x))
        return (x * x).sum()

    params = layers(3, seed=4)
    wanted = value_and_grad(chained_plainly)(params, X)
    assert_close(jit(value_and_grad(chained))(params, X), wanted, rtol=1e-5)
    assert_close(jit(inner)(params[0], X), layer(params[0], X))


@block
def double(x):
    return x * 2.0 + 1.0


def other_shapes(x):
    return double(x).sum() * double(x[:2]).sum() + double(x.reshape(3, 1)).sum() - double(x).sum()


def other_shapes_plainly(x):
    y = x * 2.0 + 1.0
    return y.sum() * y[:2].sum()


def test_one_block_with_other_shapes():
    """Also views that are made inside the graph."""
    wanted = value_and_grad(other_shapes_plainly)(X)
    assert_close(jit(value_and_grad(other_shapes))(X), wanted, rtol=1e-5)


@block
def scale_by(x, by):
    return x * by


def three_constants(x):
    return scale_by(x, 1), scale_by(x, 1.0), scale_by(x, True), scale_by(x, 1)


def test_constants_of_other_types_are_other_constants():
    whole_numbers = Tensor(np.int32([1, 2]))
    seen = jit(three_constants)(whole_numbers)
    assert_close(seen, three_constants(whole_numbers))
    assert [str(x.dtype) for x in seen] == ["Int32", "Float32", "Int32", "Int32"]


@block
def inner(layer, x):
    return x * layer["w"], x + 1.0


@block
def outer(layer, x):
    a, b = inner(layer, x)
    c, d = inner({"w": a}, b)
    return a * d + c


def nested(params, x):
    for layer in params:
        x = outer(layer, x)
    return x.sum()


def nested_plainly(params, x):
    for layer in params:
        a, b = x * layer["w"], x + 1.0
        x = a * (b + 1.0) + b * a
    return x.sum()


def test_blocks_in_blocks():
    wanted = value_and_grad(nested_plainly)(layers(3), X)
    for fn in (jit(value_and_grad(nested)), value_and_grad(jit(nested)), value_and_grad(nested)):
        assert_close(fn(layers(3), X), wanted, rtol=1e-4, atol=1e-5)


def slopes(x):
    return (grad(nested_by_x)(x) ** 2).sum()


def nested_by_x(x):
    return nested(({"w": x},), x)


def test_second_derivatives_through_blocks():
    """nested_by_x is sum of 2 x^2 (x + 1) + x^2 = 2 x^3 + 3 x^2."""
    x = X.asnumpy()
    first, second = 6 * x * x + 6 * x, 12 * x + 6
    assert_close(jit(grad(slopes))(X), 2 * first * second, rtol=1e-4, atol=1e-4)


ANOTHER = tensor(3, seed=5)


@block
def add_another(x):
    return x + ANOTHER


def test_tensors_closed_over():
    def fn(x):
        return add_another(add_another(x))

    assert_close(jit(fn)(X), X + ANOTHER + ANOTHER)


def test_a_block_is_written_once_for_all_layers(monkeypatch):
    written = []
    original = depth._write_block

    def write(fn, patterns):
        written.append(fn)
        return original(fn, patterns)

    monkeypatch.setattr(depth, "_write_block", write)
    layer = block(long_layer)

    def stack(params, x):
        for one in params:
            x = layer(one, x)
        return x.sum()

    jit(value_and_grad(stack))(layers(8), X)
    assert written == [long_layer]


def long_layer(layer, x):
    for _ in range(3):
        x = ops.tanh(x * layer["w"] + layer["b"][0])
    return x


def test_one_block_in_two_functions():
    for count in (2, 3):
        arguments = layers(count), X
        wanted = grad(nested_plainly)(*arguments)
        assert_close(jit(grad(nested))(*arguments), wanted, rtol=1e-4, atol=1e-5)


def test_block_keeps_name_and_refuses_keywords():
    assert double.__name__ == "double"
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        double(x=X)


def closing_over(params, x):
    def loss(layer):
        return outer(layer, x).sum()

    return grad(loss)(params)


def test_a_gradient_of_a_closure_over_a_block_is_loud():
    """A limit of MindSpore's: pass what the loss needs as an argument. Eagerly it works."""
    layer = layers(1)[0]
    with pytest.raises(TypeError, match="parameters number of the function"):
        jit(closing_over)(layer, X)
    x, w = X.asnumpy(), layer["w"].asnumpy()
    assert_close(closing_over(layer, X)["w"], x * (x + 2) + (x + 1) * x + 0 * w, rtol=1e-5)
