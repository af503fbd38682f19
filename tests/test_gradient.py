"""`value_and_grad` and `grad`: the same gradients whichever way they are compiled, or not."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops
from tests.trees import arrays, assert_close, tensor

from mfunc import tree
from mfunc.depth import block
from mfunc.gradient import grad, value_and_grad
from mfunc.transform import jit

X, Y = tensor(3, seed=1), tensor(3, seed=2)

WAYS = {
    "eager": value_and_grad,
    "jit of value_and_grad": lambda fn, *args, **kwargs: jit(value_and_grad(fn, *args, **kwargs)),
    "value_and_grad of jit": lambda fn, *args, **kwargs: value_and_grad(jit(fn), *args, **kwargs),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


def loss(params, x, scale=1.0):
    rest = x * params["w"] + params["b"][0]
    return (rest * rest).sum() * scale


def params(seed: int) -> dict:
    return {"w": tensor(3, seed=seed), "b": [tensor(3, seed=seed + 50), None], "unused": X, "e": {}}


def truth(params, x, scale=1.0):
    """The loss and its gradients by `params` and by `x`, on paper."""
    node, x = arrays(params), x.asnumpy()
    rest = x * node["w"] + node["b"][0]
    by_params = {"w": 2 * rest * x, "b": [2 * rest, None], "unused": 0 * node["unused"], "e": {}}
    by_params = tree.map(lambda g: np.float32(scale) * g, by_params)
    return (
        np.float32((rest * rest).sum() * scale),
        by_params,
        np.float32(scale) * 2 * rest * node["w"],
    )


@pytest.mark.parametrize("way", WAYS)
def test_new_values_are_seen_and_compile_nothing(way):
    """Three parameter trees, inputs and numbers through one function; unused leaves give zeros."""
    fn = WAYS[way](loss)
    for seed, scale in ((1, 1.0), (2, 0.5), (3, -2.0)):
        value, by_params, _ = truth(params(seed), tensor(3, seed=seed + 9), scale)
        assert_close(
            fn(params(seed), tensor(3, seed=seed + 9), scale), (value, by_params), rtol=1e-5
        )
    assert way == "eager" or fn.compiles() == 1


@each_way
@pytest.mark.parametrize("argnums", [0, 1, (0,), (1,), (0, 1), (1, 0), -1, (0, -1), [1]])
def test_argnums(way, argnums):
    node = params(5)
    value, *gradients = truth(node, X)
    chosen = (
        gradients[argnums] if isinstance(argnums, int) else tuple([gradients[i] for i in argnums])
    )
    assert_close(way(loss, argnums)(node, X), (value, chosen), rtol=1e-5)


def with_aux(params, x):
    rest = x * params["w"]
    return (rest * rest).sum(), {"rest": rest, "count": 3, "both": (x, None)}


@each_way
def test_aux_comes_out_beside_the_value(way):
    node = params(6)
    rest = X.asnumpy() * node["w"].asnumpy()
    aux = {"rest": rest, "count": np.asarray(3), "both": (X, None)}
    (value, seen), gradient = way(with_aux, has_aux=True)(node, X)
    assert_close((value, seen), (np.float32((rest * rest).sum()), aux), rtol=1e-5)
    assert_close(gradient["w"], 2 * rest * X.asnumpy(), rtol=1e-5)


def test_grad_is_value_and_grad_without_the_value():
    node = params(7)
    _, by_params, by_x = truth(node, X)
    for fn in (grad(loss), jit(grad(loss)), grad(jit(loss))):
        assert_close(fn(node, X), by_params, rtol=1e-5)
    for fn in (grad(loss, (1,)), jit(grad(loss, (1,))), grad(jit(loss), (1,))):
        assert_close(fn(node, X), (by_x,), rtol=1e-5)
    for fn in (grad(with_aux, has_aux=True), jit(grad(with_aux, has_aux=True))):
        gradient, aux = fn(node, X)
        assert_close(aux["rest"], X * node["w"], rtol=1e-6)
        assert_close(gradient["w"], 2 * X * X * node["w"], rtol=1e-5)


def dot(a, b):
    return (leaf(a) * leaf(b)).sum()


def leaf(node):
    return tree.leaves(node)[0]


@each_way
@pytest.mark.parametrize("node", [X, {"w": X}, [X], (None, {"w": (X,)})])
def test_a_tree_of_one_leaf(way, node):
    """MindSpore gives the gradient by one position bare: as a tuple it would be its rows."""
    assert_close(way(dot)(node, Y), ((X * Y).sum(), tree.map(lambda _: Y, node)), rtol=1e-5)


@each_way
def test_one_tensor_in_several_places(way):
    """Each place has its own gradient, though eager MindSpore tells tensors apart by identity."""
    node = {"a": (X,), "b": X}
    gradient = way(product_of_two, (0, 1))(node, X)[1]
    x = X.asnumpy()
    assert_close(gradient, ({"a": (2 * x * x * x,), "b": x * x * x}, x * x * x), rtol=1e-5)


def product_of_two(node, x):
    return (node["a"][0] ** 2 * node["b"] * x).sum()


def with_closed_over(w):
    return (w * X).sum()


@each_way
def test_the_argument_is_also_closed_over(way):
    assert_close(way(with_closed_over)(X), ((X * X).sum(), X), rtol=1e-6)


@each_way
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_leaves_keep_their_dtype(way, dtype):
    node = {"w": tensor(3, seed=8, dtype=dtype), "n": np.ones(3, dtype)}
    value, gradient = way(sum_of_squares)(node)
    assert_close(gradient, tree.map(lambda x: 2 * x, arrays(node)), rtol=1e-3)
    assert value.dtype == node["w"].dtype


def sum_of_squares(node):
    return (node["w"] * node["w"]).sum() + (node["n"] * node["n"]).sum()


@block
def square(x):
    return x * x


def squares(node):
    return square(node["row"]).sum() + (square(node["columns"]) * node["turned"].T).sum()


@each_way
def test_views_as_leaves(way):
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    whole = Tensor(base)
    node = {"row": whole[1], "columns": whole[0][:, 1:3], "turned": whole[0, :2, :3]}
    row, columns, turned = base[1], base[0][:, 1:3], base[0, :2, :3]
    wanted = {"row": 2 * row, "columns": 2 * columns * turned.T, "turned": (columns * columns).T}
    value = np.float32((row * row).sum() + (columns * columns * turned.T).sum())
    assert_close(way(squares)(node), (value, wanted), rtol=1e-5)


# --- inside other functions ---


gradient_from_outside = value_and_grad(loss, has_aux=False)
sixth = grad(loss, 1)


def step(params, x):
    value, gradient = gradient_from_outside(params, x)
    return value, tree.map(descend, params, gradient), sixth(params, x)


def descend(p, g):
    return p - 0.1 * g


def test_a_step_with_an_update_beside_it():
    """A transform that was made outside is used inside; the next call sees the new parameters."""
    fast, node = jit(step), params(9)
    for _ in range(3):
        value, by_params, by_x = truth(node, X)
        updated = tree.map(lambda p, g: p.asnumpy() - np.float32(0.1) * g, node, by_params)
        seen = fast(node, X)
        assert_close(seen, (value, updated, by_x), rtol=1e-4, atol=1e-5)
        node = seen[1]
    assert fast.compiles() == 1


def closing_over(params, batch):
    old = params["w"]

    def inner(node):
        return (node["w"] * batch["x"] * old + node["b"][0] * params["w"]).sum()

    return value_and_grad(inner)(params)


@pytest.mark.parametrize("fn", [closing_over, jit(closing_over)], ids=["eager", "jit"])
def test_what_is_closed_over_is_a_constant(fn):
    """Also the very tensor by which the gradient is taken."""
    node = params(10)
    w, b, x = node["w"].asnumpy(), node["b"][0].asnumpy(), X.asnumpy()
    value, gradient = fn(node, {"x": X})
    assert_close(value, np.float32((w * w * x + b * w).sum()), rtol=1e-5)
    assert_close(gradient, {"w": x * w, "b": [w, None], "unused": 0 * x, "e": {}}, rtol=1e-5)


jitted_square = jit(square)


def through_jit(w):
    return (jitted_square(w[1]) * 2.0).sum() + (jitted_square(w * 1.0)).sum()


def test_an_eager_gradient_passes_through_a_jitted_function():
    """Also where the argument is a view, which is copied on its way in."""
    w = tensor(2, 3, seed=11)
    wanted = 2 * w.asnumpy()
    wanted[1] *= 3
    assert_close(grad(through_jit)(w), wanted, rtol=1e-5)


# --- gradients of gradients ---


def cubes(node):
    return (node["a"] ** 3).sum() * (node["b"] ** 2).sum()


def sum_of_gradients(node):
    gradient = grad(cubes)(node)
    return gradient["a"].sum() + gradient["b"].sum()


jitted_gradient = jit(grad(cubes))


def sum_of_jitted_gradients(node):
    gradient = jitted_gradient(node)
    return gradient["a"].sum() + gradient["b"].sum()


@pytest.mark.parametrize(
    "second",
    [
        jit(grad(sum_of_gradients)),
        jit(grad(sum_of_jitted_gradients)),
        grad(sum_of_jitted_gradients),
    ],
    ids=["in one graph", "through a jitted one", "eager around a jitted one"],
)
def test_second_derivatives(second):
    node = {"a": tensor(3, seed=12), "b": tensor(2, seed=13)}
    a, b = (node[key].asnumpy() for key in "ab")
    aa, aaa, bb = (a * a).sum(), (a**3).sum(), (b * b).sum()
    by_a = 6 * a * bb + 3 * a * a * 2 * b.sum()
    by_b = 3 * aa * 2 * b + aaa * 2
    assert_close(second(node), {"a": by_a, "b": by_b}, rtol=1e-4, atol=1e-4)


def fourth_power(x):
    return (x**4).sum()


def slope(x):
    return grad(fourth_power)(x).sum()


def curvature(x):
    return grad(slope)(x).sum()


def test_third_derivative():
    assert_close(jit(grad(curvature))(X), 24 * X.asnumpy(), rtol=1e-4)


def test_an_eager_gradient_of_an_eager_gradient_is_refused():
    """MindSpore would give some of its terms: see test_mindspore."""
    with pytest.raises(
        TypeError, match=r"^value_and_grad: a gradient inside a gradient, .* jit ar"
    ):
        grad(sum_of_gradients)({"a": X, "b": Y})


# --- errors ---


def without_sum(node, x):
    return node["w"] * x


@each_way
def test_a_loss_with_a_shape_is_refused(way):
    said = r"^value_and_grad: the loss has shape \(3,\); it must be one number .* Reduce it with"
    with pytest.raises(TypeError, match=said):
        way(without_sum)(params(1), X)


@each_way
@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (Tensor([1, 2]), "argument 0, deep/0/n is Int64; only float tensors have gradients"),
        (Tensor([True]), "argument 0, deep/0/n is Bool;"),
        (np.int32(3), "argument 0, deep/0/n is Int32;"),
        (2.5, "argument 0, deep/0/n is "),
        (3, "argument 0, deep/0/n is "),
    ],
    ids=["int tensor", "bool tensor", "numpy int", "float", "int"],
)
def test_leaves_without_gradient_are_refused_by_path(way, extra, said):
    node = params(1) | {"deep": [{"n": extra}]}
    with pytest.raises(TypeError, match=f"^value_and_grad: {said}"):
        way(loss)(node, X)
    with pytest.raises(TypeError, match=r"^value_and_grad: argument 1 is "):
        way(times, 1)(X, extra)


def times(x, by):
    return (x * by).sum()


@each_way
def test_they_may_be_in_other_arguments(way):
    assert_close(way(times)(X, Tensor([1, 2, 3]))[1], np.float32([1, 2, 3]))
    assert_close(way(times)(X, 3)[1], np.float32([3, 3, 3]))


@each_way
@pytest.mark.parametrize("argnums", [2, -3, (0, 2)])
def test_an_argument_that_is_not_there(way, argnums):
    wrong = argnums[1] if isinstance(argnums, tuple) else argnums
    with pytest.raises(ValueError, match=f"argnums names argument {wrong}, but 2 were given"):
        way(loss, argnums)(params(1), X)


def test_a_static_argument_stays_static():
    fn = value_and_grad(jit(powers, static_argnums=1))
    for n in (1, 2):
        assert_close(fn({"w": X}, n)[1], powers_gradient(X.asnumpy(), n), rtol=1e-5)
    assert fn.compiles() == 2


def powers(node, n):
    total = ops.zeros_like(node["w"])
    for i in range(n):
        total = total + node["w"] ** (i + 1)
    return total.sum()


def powers_gradient(x, n):
    return {"w": np.float32(sum((i + 1) * x**i for i in range(n)) * np.ones_like(x))}


def raises(x):
    raise ZeroDivisionError("in the middle")


def test_nothing_is_left_behind_by_an_error():
    """MindSpore would go on recording after an error in an eager gradient."""
    with pytest.raises(ZeroDivisionError):
        grad(raises)(X)
    assert_close(grad(dot)(X, Y), Y)
    assert_close(jit(grad(dot))(X, Y), Y)
    assert X._requires_grad is False
    assert not (X * 2.0)._requires_grad


def test_arguments_are_unchanged():
    node = params(14)
    before = arrays(node)
    for way in WAYS.values():
        way(loss)(node, X)
    assert_close(node, before)
    assert isinstance(node["b"], list)
    assert not ms.Tensor(X)._requires_grad
