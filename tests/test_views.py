"""Views: tensors that look at the memory of another one, at the border of a compiled function.

What MindSpore does to them is in the first part, what `whole` and `jit` do in the second. Every try
has new numbers: a wrong address may happen to point at a copy of the right ones.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops
from tests.trees import assert_close

from mfunc.depth import block
from mfunc.gradient import value_and_grad
from mfunc.transform import jit, whole

TRIES = 8
ONE = np.float32(1)
# How a view is made of a Tensor [2, 3, 4], and the same numbers of an array.
VIEWS = {
    "row": (lambda b: b[1], lambda a: a[1]),
    "first row": (lambda b: b[0], lambda a: a[0]),
    "number": (lambda b: b[1, 2, 3], lambda a: a[1, 2, 3]),
    "columns": (lambda b: b[:, 1:3], lambda a: a[:, 1:3]),
    "step": (lambda b: b[:, ::2], lambda a: a[:, ::2]),
    "transpose": (lambda b: b[0].T, lambda a: a[0].T),
    "swapaxes": (lambda b: b.swapaxes(0, 2), lambda a: a.swapaxes(0, 2)),
    "split": (lambda b: ops.split(b, 2, axis=2)[1], lambda a: a[:, :, 2:]),
    "broadcast": (
        lambda b: ops.broadcast_to(b[1, 1], (5, 4)),
        lambda a: np.broadcast_to(a[1, 1], (5, 4)),
    ),
    "reshape": (lambda b: b.reshape(6, 4), lambda a: a.reshape(6, 4)),
    "reshape of a row": (lambda b: b[1].reshape(12), lambda a: a[1].reshape(12)),
    "expand_dims": (lambda b: b[1].expand_dims(0), lambda a: a[1][None]),
    "view": (lambda b: b.view(4, 6), lambda a: a.reshape(4, 6)),
    "diagonal": (lambda b: b[0].diagonal(), lambda a: a[0].diagonal()),
    "nothing": (lambda b: b[:0], lambda a: a[:0]),
}
# Those whose numbers do not begin where their base begins, or leave some of it out.
ASTRAY = ("row", "columns", "transpose", "split", "broadcast")


def numbers(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((2, 3, 4)).astype(np.float32)


def bases(array: np.ndarray) -> list[Tensor]:
    """The same numbers as a Tensor of host memory and as one that was computed."""
    return [Tensor(array), Tensor(array - 1) + 1.0]


# --- MindSpore ---


@ms.no_inline
def naive_square(x):
    return x * x


@ms.jit
def naive_square_of(x):
    return naive_square(x)


@pytest.mark.parametrize("name", ASTRAY)
def test_a_view_into_a_no_inline_function_is_garbage(name):
    view, of_array = VIEWS[name]
    right = []
    for seed in range(TRIES):
        array = numbers(seed)
        seen = naive_square_of(view(Tensor(array) * 1.0)).asnumpy()
        right.append(np.array_equal(seen, of_array(array) ** 2))
    assert not all(right)


@pytest.mark.parametrize("name", ASTRAY)
def test_the_same_made_whole_is_right(name):
    view, of_array = VIEWS[name]
    for seed in range(TRIES):
        array = numbers(seed)
        seen = naive_square_of(whole(view(Tensor(array) * 1.0)))
        np.testing.assert_array_equal(seen.asnumpy(), of_array(array) ** 2)


def test_contiguous_is_not_whole():
    """The first row is contiguous and starts at 0, so `contiguous` gives the view itself."""
    row = Tensor(numbers(0))[0]
    assert row.contiguous().untyped_storage().size() > row.nbytes
    assert whole(row).untyped_storage().size() == row.nbytes


# --- ours ---


@block
def bent(x):
    return x * x + 1.0


def through_a_block(node):
    return {"own": node["x"] - 1.0, "block": bent(node["x"])}


def bent_loss(node):
    return (bent(node["x"]) * node["x"]).sum()


@pytest.fixture(scope="module")
def entered():
    return jit(through_a_block)


@pytest.fixture(scope="module")
def differentiated():
    return jit(value_and_grad(bent_loss))


@pytest.mark.parametrize("name", VIEWS)
def test_views_enter_whole(entered, name):
    view, of_array = VIEWS[name]
    for seed in range(TRIES // 2):
        array = numbers(seed)
        wanted = np.asarray(of_array(array))
        for base in bases(array):
            seen = entered({"x": view(base)})
            close = {"own": wanted - ONE, "block": wanted * wanted + ONE}
            assert_close(seen, close, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(base.asnumpy(), array, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in VIEWS if name != "nothing"])
def test_gradients_by_views(differentiated, name):
    """The gradient of (x^2 + 1) x is 3 x^2 + 1."""
    view, of_array = VIEWS[name]
    for seed in range(TRIES // 2):
        x = np.asarray(of_array(numbers(seed)))
        value, grads = differentiated({"x": view(Tensor(numbers(seed)))})
        np.testing.assert_allclose(float(value), (x**3 + x).sum(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(grads["x"].asnumpy(), 3 * x**2 + 1, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int32", "uint32", "bool_"])
@pytest.mark.parametrize("name", VIEWS)
def test_whole_copies_views_of_every_dtype(name, dtype):
    make, of_array = VIEWS[name]
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)  # exact in all of them
    view, wanted = make(Tensor(array).astype(getattr(ms, dtype))), np.asarray(of_array(array))
    copy = whole(view)
    assert copy.dtype == view.dtype
    assert name == "nothing" or copy.untyped_storage().size() == copy.nbytes
    assert copy.is_contiguous()
    assert whole(copy) is copy
    truth = wanted.astype(bool) if dtype == "bool_" else wanted
    np.testing.assert_array_equal(copy.astype(ms.float32).asnumpy(), truth.astype(np.float32))
