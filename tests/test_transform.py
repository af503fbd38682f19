"""`jit` and `whole`: what may enter, what comes out, and when something is compiled.

`block` is in test_depth.py, the gradients are in test_gradient.py.
"""

from __future__ import annotations

import functools

import attrs
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from tests.trees import Pair, assert_close, tensor

from mfunc import tree
from mfunc.transform import jit

X, Y = tensor(3, seed=1), tensor(3, seed=2)


def same(node):
    return node


def halves(node):
    return tree.map(half, node)


def half(x):
    return x * 0.5


def affine(params, x):
    return {"y": x * params["w"] + params["b"][0], "x": x}


def params(seed: int) -> dict:
    return {"w": tensor(3, seed=seed), "b": [tensor(3, seed=seed + 50), None]}


# --- what is compiled, and when ---


@pytest.fixture(scope="module")
def fast_affine():
    return jit(affine)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_new_values_compile_nothing_and_are_seen(fast_affine, seed):
    x = tensor(3, seed=seed + 10)
    assert_close(fast_affine(params(seed), x), affine(params(seed), x), atol=1e-6)
    assert fast_affine.compiles() == 1


def test_the_order_of_keys_compiles_nothing(fast_affine):
    turned = {"b": params(4)["b"], "w": params(4)["w"]}
    fast_affine(params(4), X)
    before = fast_affine.compiles()
    assert_close(fast_affine(turned, X), affine(turned, X), atol=1e-6)
    assert fast_affine.compiles() == before


def test_shapes_dtypes_and_structures_compile_once_each():
    fast = jit(halves)
    half_precision = X.astype(ms.float16)
    kinds = [X, tensor(2, 3), half_precision, (X,), [X], {"a": X}, {"b": X}, (X, None), (X, X)]
    for node in kinds:
        assert_close(fast(node), halves(node))
    assert fast.compiles() == len(kinds)
    for node in kinds:
        assert_close(fast(tree.map(lambda x: x + 1, node)), halves(tree.map(lambda x: x + 1, node)))
    assert fast.compiles() == len(kinds)


def test_the_counter_is_of_one_function():
    one, other = jit(same), jit(same)
    one(X)
    other((X,))
    other([X])
    assert (one.compiles(), other.compiles()) == (1, 2)


def doubled(x):
    return x + x


def test_wrapping_twice_compiles_once():
    one, other, donating = jit(doubled), jit(doubled), jit(doubled, donate_argnums=0)
    assert_close(one(X), X + X)
    assert_close(other(X), X + X)
    assert_close(donating(X.copy()), X + X)
    assert (one.compiles(), other.compiles(), donating.compiles()) == (1, 0, 1)


def test_a_wrapper_that_carries_what_a_function_carries_is_another():
    jit(doubled)(X)

    @functools.wraps(doubled)
    def tripled(x):
        return x * 3.0

    del tripled.__wrapped__
    assert_close(jit(tripled)(X), X * 3.0)


def power(x, n, scale=1.0):
    for _ in range(n):
        x = x * x
    return x * scale


def times(x, by):
    return x * by


def times_first(x, by):
    return x * by[0]


def test_static_values_are_constants():
    fast = jit(power, static_argnums=1, static_argnames="scale")
    for n in (1, 2, 1):
        assert_close(fast(X, n), power(X, n), rtol=1e-6)
    assert fast.compiles() == 2
    assert_close(fast(X, 2, scale=0.5), power(X, 2, scale=0.5), rtol=1e-6)
    assert_close(fast(X, 2, scale=4.0), power(X, 2, scale=4.0), rtol=1e-6)
    assert fast.compiles() == 4


@pytest.mark.parametrize(
    ("fn", "values"), [(times, (1, 1.0, True)), (times_first, ((1,), (1.0,), (True,)))]
)
def test_equal_static_values_of_other_types_are_other_constants(fn, values):
    """1 == 1.0 == True, and they hash alike, but an int tensor times 1.0 is a float tensor."""
    whole_numbers, fast = Tensor(np.int32([1, 2])), jit(fn, static_argnums=1)
    for value in values:
        assert_close(fast(whole_numbers, value), fn(whole_numbers, value))
    assert fast.compiles() == 3


@attrs.frozen
class Config:
    """A frozen config, as models have."""

    scale: float = 2.0
    depth: int = 2
    extra: tuple = (1.0, "tanh")

    @property
    def twice(self) -> float:
        return 2 * self.scale


def configured(config, x, constant=None):
    for _ in range(config.depth):
        x = x * config.twice + config.extra[0]
    return x


def test_a_frozen_config_is_static():
    fast = jit(configured, static_argnums=(0, 2))
    for config in (Config(), Config(scale=0.5), Config(depth=3), Config(scale=0.5)):
        assert_close(fast(config, X), configured(config, X), rtol=1e-6)
    assert fast.compiles() == 3


@pytest.mark.parametrize(
    ("args", "kwargs", "where"), [((X, [1]), {}, "1"), ((X, 1), {"scale": {}}, "'scale'")]
)
def test_a_static_value_must_be_hashable(args, kwargs, where):
    kind = type([*args[1:], *kwargs.values()][-1]).__name__
    with pytest.raises(
        TypeError,
        match=rf"^jit\(power\): static argument {where} is {kind}, which cannot be hashed",
    ):
        jit(power, static_argnums=1, static_argnames="scale")(*args, **kwargs)


# --- what may enter ---


def scaled(x, by, *, add=0):
    return x * by + add


def test_numbers_are_traced():
    """A Python number is an input, not a constant: new values are seen and compile nothing."""
    fast = jit(scaled)
    for by, add in ((2.5, 1), (0.5, 2), (-3.0, -7)):
        assert_close(fast(X, by, add=add), scaled(X, by, add=add), rtol=1e-6)
    assert fast.compiles() == 1


@pytest.mark.parametrize("number", [2, 2.5])
@pytest.mark.parametrize("dtype", [ms.float16, ms.float32, ms.float64, ms.int32, ms.int64])
def test_numbers_are_weak(dtype, number):
    """A number takes the dtype of the tensor it meets, as it does outside."""
    x = Tensor([1, 2, 3], dtype)
    assert_close(jit(times)(x, number), times(x, number))


def test_arrays_and_numpy_scalars_enter():
    fast = jit(scaled)
    for convert in (np.asarray, Tensor):
        seen = fast(convert(X.asnumpy()), np.float32(2.5), add=np.int32(3))
        assert_close(seen, scaled(X, 2.5, add=3), rtol=1e-6)
    assert fast.compiles() == 1


def test_an_array_may_change_after_the_call():
    array = np.float32([1, 2])
    result = jit(same)(array)
    array[0] = 9
    assert result.asnumpy().tolist() == [1, 2]


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((X, {"a": [1, True]}), {}, "argument 1, a/1 is bool"),
        (("word",), {}, "argument 0 is str"),
        ((X,), {"add": (X, object())}, "argument 'add', 1 is object"),
        ((Config(),), {}, "argument 0 is Config"),
    ],
)
def test_other_leaves_are_refused_by_path(args, kwargs, said):
    with pytest.raises(
        TypeError, match=f"^jit: the argument at {said}; arguments are trees of .* static_argnums"
    ):
        jit(scaled)(*args, **kwargs)


@pytest.mark.parametrize("node", [Pair(X, Y), {"a": [Pair(X, None)]}, (X, (Pair(X, X),))])
def test_namedtuples_are_refused(node):
    with pytest.raises(
        TypeError, match=r"^jit\(same\): Pair is a NamedTuple; MindSpore loses .* Use a dict"
    ):
        jit(same)(node)
    with pytest.raises(TypeError, match=r"^jit\(same\): Pair is a NamedTuple"):
        jit(same)(node=node)


def test_no_arguments():
    assert float(jit(seven)()) == 7.0
    assert jit(same)({}) == {}


def seven():
    return Tensor(3.0) + 4.0


def test_keywords_in_any_order():
    fast = jit(keyed)
    wanted = keyed(X, a=Y, b={"c": 2.0})
    assert_close(fast(X, a=Y, b={"c": 2.0}), wanted)
    assert_close(fast(X, b={"c": 2.0}, a=Y), wanted)
    assert fast.compiles() == 1


def keyed(x, *, a, b):
    return (x - a) * b["c"]


# --- what comes out ---


@pytest.mark.parametrize(
    "node",
    [
        *(X, (X,), [X], {"a": X}, None, {}, (), {"a": {}, "b": [(), None]}),
        {"z": X, "a": (Y, None, [X])},
        {"n": 3, "f": 2.5, "x": X},
    ],
)
def test_trees_come_out_as_they_went_in(node):
    seen = jit(same)(node)
    assert tree.flatten(seen)[1] == tree.flatten(node)[1]
    assert_close(seen, node)


def constants(x):
    return {"word": "abc", "yes": True, "no": None, "k": 2, "shape": x.shape, "list": [], "x": x}


def test_constants_come_out():
    seen = jit(constants)(X)
    assert_close(seen.pop("x"), X)
    assert seen == {"word": "abc", "yes": True, "no": None, "k": 2, "shape": (3,), "list": []}


def test_numbers_come_out_new():
    fast = jit(counted)
    assert [fast(n)["next"] for n in (1, 5)] == [2, 6]
    assert fast.compiles() == 1


def counted(n):
    return {"next": n + 1}


def by_shape(x):
    return {"two": x} if x.shape[0] == 2 else [x, x]


def test_a_result_may_depend_on_the_shape():
    fast, two = jit(by_shape), tensor(2)
    for x in (two, X, two, X):
        assert_close(fast(x), by_shape(x))
    assert fast.compiles() == 2


def test_results_are_values_of_their_own():
    """Changing a result in place changes neither the argument nor another result."""
    x = tensor(3)
    before = x.asnumpy().copy()
    result = jit(same)({"a": x, "b": x})
    result["a"].add_(1.0)
    np.testing.assert_array_equal(x.asnumpy(), before)
    np.testing.assert_array_equal(result["b"].asnumpy(), before)


# --- functions ---


jitted_affine = jit(affine)


def wrapped(x, y):
    """Say something."""
    return jitted_affine({"w": y, "b": (x, None)}, x)["y"] + 1.0


def test_jit_inside_jit():
    fast = jit(jit(wrapped))
    assert_close(fast(X, Y), wrapped(X, Y), atol=1e-6)
    assert_close(fast(Y, X), wrapped(Y, X), atol=1e-6)
    assert fast.compiles() == 1


def test_jit_keeps_name_and_docstring():
    fast = jit(wrapped)
    assert (fast.__name__, fast.__doc__) == ("wrapped", "Say something.")


def needs_product(a, b):
    return a @ b


def test_a_failed_call_does_no_harm():
    fast, square_matrix = jit(needs_product), tensor(3, 3)
    with pytest.raises(RuntimeError):
        fast(tensor(2, 3), tensor(2, 3))
    assert_close(fast(square_matrix, square_matrix), square_matrix @ square_matrix, atol=1e-6)
    assert fast.compiles() == 1
