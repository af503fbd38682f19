"""`vmap` against a loop in NumPy, operation by operation and compiled, alone and composed."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.trees import arrays, assert_close, tensor

from mfunc import tree
from mfunc.batching import vmap
from mfunc.depth import block
from mfunc.gradient import grad, value_and_grad
from mfunc.products import jvp
from mfunc.transform import jit

WAYS = {
    "eager": vmap,
    "jit of vmap": lambda fn, *axes: jit(vmap(fn, *axes)),
    "vmap of jit": lambda fn, *axes: vmap(jit(fn), *axes),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


@block
def layer(params, x):
    return x @ params["w"] + params["b"][0]


def model(params, batch):
    """[3] -> trees of results."""
    y = layer(params, batch["x"].reshape((1, -1))).reshape((-1,))
    return {"y": y, "loss": ((y - batch["to"]) ** 2).sum(), "all": [y * 2.0, (batch["x"], 7)]}


def plain(params, batch):
    y = batch["x"] @ params["w"] + params["b"][0]
    loss = ((y - batch["to"]) ** 2).sum()
    return {"y": y, "loss": loss, "all": [y * 2, (batch["x"], 7)]}


def params(seed: int, *lead: int) -> dict:
    return {"w": tensor(*lead, 3, 2, seed=seed), "b": [tensor(*lead, 2, seed=seed + 50), None]}


def batch(seed: int, count: int = 5) -> dict:
    return {"x": tensor(count, 3, seed=seed), "to": tensor(count, 2, seed=seed + 70)}


def looped(node, rows):
    node, rows = arrays(node), arrays(rows)
    count = len(rows["x"])
    outs = [plain(node, tree.map(lambda a, i=i: a[i], rows)) for i in range(count)]

    def stack(*leaves):
        return np.stack(leaves) if isinstance(leaves[0], (np.ndarray, np.floating)) else leaves[0]

    return tree.map(stack, *outs)


@each_way
def test_every_example_as_if_alone(way):
    fn = way(model, (None, 0))
    for seed in (1, 2, 3):
        node, rows = params(seed), batch(seed)
        assert_close(fn(node, rows), looped(node, rows), rtol=1e-5, atol=1e-5)
    assert getattr(fn, "compiles", lambda: 1)() == 1


def scaled(params, x):
    return {"y": x * params["w"] + params["b"], "s": x * 1.0}


# Axes of the arguments -> how NumPy says the same.
AXES = {
    "all leading": (0, ((5, 3), (5, 3), (5, 3)), lambda w, b, x: x * w + b),
    "parameters of each": ((0, None), ((5, 3), (5, 3), (3,)), lambda w, b, x: x * w + b),
    "a prefix": (({"w": None, "b": 0}, 0), ((3,), (5, 3), (5, 3)), lambda w, b, x: x * w + b),
    "second and last": (
        ({"w": 1, "b": None}, -1), ((3, 5), (3,), (3, 5)), lambda w, b, x: (x * w).T + b
    ),
}  # fmt: skip


@each_way
@pytest.mark.parametrize("name", AXES)
def test_in_axes(way, name):
    axes, shapes, wanted = AXES[name]
    w, b, x = (tensor(*shape, seed=i) for i, shape in enumerate(shapes))
    seen = way(scaled, axes)({"w": w, "b": b}, x)
    by_hand = wanted(*(a.asnumpy() for a in (w, b, x)))
    assert_close(seen["y"], by_hand, rtol=1e-6)
    assert seen["s"].shape == (5, 3)


@each_way
@pytest.mark.parametrize(
    ("out_axes", "shapes"),
    [(0, ((5, 3), (5, 3))), (1, ((3, 5), (3, 5))), (-1, ((3, 5), (3, 5))),
     ({"y": -1, "s": 0}, ((3, 5), (5, 3))), ({"y": -2, "s": 1}, ((5, 3), (3, 5)))],
)  # fmt: skip
def test_out_axes(way, out_axes, shapes):
    node, x = {"w": tensor(3, seed=1), "b": tensor(3, seed=2)}, tensor(5, 3, seed=3)
    seen = way(scaled, (None, 0), out_axes)(node, x)
    y = (x * node["w"] + node["b"]).asnumpy()
    wanted = {"y": y, "s": x.asnumpy()}
    for name, shape in zip(("y", "s"), shapes, strict=True):
        turned = wanted[name] if shape == (5, 3) else wanted[name].T
        assert_close(seen[name], turned, rtol=1e-6)


def loss(params, batch):
    return model(params, batch)["loss"]


def loss_on_paper(node, row):
    rest = 2 * (row["x"] @ node["w"] + node["b"][0] - row["to"])
    return {"w": np.outer(row["x"], rest), "b": [rest, None]}


@each_way
def test_gradients_of_each_example(way):
    """jit(vmap(grad(f))): what clipping per example and influence functions need."""
    fn = way(grad(loss), (None, 0))
    for seed in (1, 2, 3):
        node, rows = params(seed), batch(seed)
        plain_node, plain_rows = arrays(node), arrays(rows)
        each = [
            loss_on_paper(plain_node, tree.map(lambda a, i=i: a[i], plain_rows)) for i in range(5)
        ]
        wanted = tree.map(lambda *rows: np.stack(rows), *each)
        assert_close(fn(node, rows), wanted, rtol=1e-4, atol=1e-4)


def mean_loss(params, batch):
    return vmap(loss, (None, 0))(params, batch).mean()


@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_the_gradient_of_a_map_is_the_mean_of_the_gradients(way):
    fn = value_and_grad(mean_loss) if way == "eager" else jit(value_and_grad(mean_loss))
    node, rows = params(4), batch(4)
    value, gradient = fn(node, rows)
    each = jit(vmap(grad(loss), (None, 0)))(node, rows)
    assert_close(value, looped(node, rows)["loss"].mean(), rtol=1e-5)
    assert_close(gradient, tree.map(lambda g: g.mean(0), each), rtol=1e-4, atol=1e-5)


def product(x, y):
    return x * y


def outer_product(x, y):
    return vmap(vmap(product, (None, 0)), (0, None))(x, y)


@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_a_map_of_a_map(way):
    x, y = tensor(3, seed=1), tensor(4, seed=2)
    fn = outer_product if way == "eager" else jit(outer_product)
    assert_close(fn(x, y), np.outer(x.asnumpy(), y.asnumpy()), rtol=1e-6)


def cubed(x):
    return x * x * x


def slopes(x, v):
    def along(v):
        return jvp(cubed, (x,), (v,))[1]

    return vmap(along)(v)


def test_a_map_of_a_jvp():
    x, v = tensor(3, seed=1), tensor(4, 3, seed=2)
    assert_close(jit(slopes)(x, v), 3 * x * x * v, rtol=1e-5)


# --- bad input ---


def first(node, other=None):
    return node


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("axes", "args", "error", "said"),
    [
        ((None, None), (tensor(3), tensor(3)), ValueError, "vmap: nothing is mapped; give at"),
        ((0,), (tensor(3), tensor(3)), TypeError, "vmap: in_axes has 1 entries for 2 arguments"),
        (0, (tensor(3), {"w": tensor(4)}), ValueError,
         "vmap: the mapped axes differ in size: argument 0 has 3; argument 1, w has 4"),
        (1, (tensor(3), tensor(3)), ValueError,
         r"vmap: argument 0 has shape \(3,\); there is no axis 1 in it"),
        (({"v": 0}, 0), ({"w": tensor(3)}, tensor(3)), TypeError,
         r"vmap: in_axes is {'v': 0} at argument 0, which is a dict of 'w'; an axis is an int"),
        ((0, (0, 0)), (tensor(3), [tensor(3)]), TypeError,
         r"vmap: in_axes is \(0, 0\) at argument 1, which is a list of 1"),
    ],
)  # fmt: skip
def test_bad_axes(compiled, axes, args, error, said):
    fn = vmap(first, axes)
    with pytest.raises(error, match=said):
        (jit(fn) if compiled else fn)(*args)


def nothing(x):
    return {"n": 3}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("fn", "out_axes", "error", "said"),
    [
        (cubed, None, TypeError, "vmap: out_axes holds None; every result has examples"),
        (cubed, 2, ValueError, "vmap: out_axes is 2 for a result of 2 axes"),
        (cubed, {"y": 0}, TypeError, "vmap: out_axes is {'y': 0} at result, which is a leaf"),
        (nothing, 0, ValueError, "vmap: the function returns no tensor; there is nothing to"),
    ],
)
def test_bad_results(compiled, fn, out_axes, error, said):
    mapped = vmap(fn, 0, out_axes)
    with pytest.raises(error, match=said):
        (jit(mapped) if compiled else mapped)(tensor(4, 3))


def test_no_examples_are_refused():
    with pytest.raises(ValueError, match=r"^vmap: argument 0 has no examples"):
        vmap(cubed)(ms.Tensor(np.zeros((0, 3), np.float32)))
