"""`Dim` and `jit(dynamic=...)`: one graph for every length that fits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mindspore import Tensor
from tests import models
from tests.models import TINY
from tests.trees import assert_close, tensor

from mfunc.batching import vmap
from mfunc.dynamic import Dim, axes_of, static_sizes
from mfunc.gradient import value_and_grad
from mfunc.loss import next_token_loss
from mfunc.nn import llama
from mfunc.transform import jit

ANY = Dim("length")
LENGTH = Dim("length", divisor=2, remainder=1, min=3, max=65)


# --- sizes ---


@pytest.mark.parametrize(
    ("dim", "fit", "misfit"),
    [
        (ANY, (1, 2, 10**9), (0, -1)),
        (LENGTH, (3, 5, 65), (1, 2, 64, 67)),
        (Dim("n", divisor=8, max=16), (8, 16), (1, 4, 24)),
        (Dim("n", min=4, max=4), (4,), (3, 5)),
    ],
)
def test_fits(dim, fit, misfit):
    assert all(map(dim.fits, fit))
    assert not any(map(dim.fits, misfit))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"divisor": 0}, "'divisor' must be >= 1: 0"),
        ({"min": 0}, "'min' must be >= 1: 0"),
        ({"remainder": 1}, r"Dim: remainder=1 must be from 0 to below divisor=1"),
        ({"divisor": 4, "remainder": -1}, r"Dim: remainder=-1 must be from 0 to below divisor=4"),
        ({"divisor": 8, "max": 7}, r"Dim: no size fits n = 8 k \+ 0, from 1 to 7"),
        ({"min": 5, "max": 4}, r"Dim: no size fits n = any, from 5 to 4"),
        ({"divisor": 4, "static": (8, 9)}, r"Dim: static size 9 does not fit; allowed is n = 4 k"),
    ],
)
def test_a_dim_that_holds_no_size_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Dim("n", **settings)


@pytest.mark.parametrize(("size", "wanted"), [(1, 3), (3, 3), (4, 5), (64, 65), (65, 65)])
def test_the_next_size_that_fits(size, wanted):
    assert LENGTH.at_least(size) == wanted


def test_no_size_above_the_largest():
    with pytest.raises(ValueError, match=r"no size from 66 on fits; allowed is length = 2 k \+ 1"):
        LENGTH.at_least(66)


# --- which sizes get a graph of their own ---

COSTS = {"seconds": 0.01, "faster": 0.25, "compile_seconds": 2.0}


def test_a_size_is_static_if_it_saves_more_than_its_compilation():
    """Size 100 saves 0.25 s a step: eight steps pay for the compilation, the ninth is won."""
    assert static_sizes({100: 8}, **COSTS) == ()
    assert static_sizes({100: 9, 200: 5, 10: 50}, **COSTS) == (100, 200)
    assert static_sizes({}, **COSTS) == ()


@given(
    st.dictionaries(st.integers(1, 500), st.integers(1, 200), max_size=6),
    st.sets(st.integers(1, 500)),
)
def test_no_other_choice_takes_less_time(counts, other):
    def total(static):
        steps = sum(
            times * n * COSTS["seconds"] * (1 - COSTS["faster"] * (n in static))
            for n, times in counts.items()
        )
        return steps + COSTS["compile_seconds"] * len(set(static) & counts.keys())

    assert total(static_sizes(counts, **COSTS)) <= total(other) + 1e-9


@pytest.mark.parametrize("wrong", [{"faster": 1.5}, {"seconds": -1.0}, {"compile_seconds": -1.0}])
def test_costs_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"static_sizes: faster=.* must be from 0 to 1, seconds="):
        static_sizes({1: 1}, **(COSTS | wrong))


def test_patterns_name_leaves_by_the_end_of_their_path():
    paths = ["0/layers/0/q", "0/layers/1/q", "1/ids", "1/segment_ids"]
    assert axes_of({"layers/*/q": (ANY,), "ids": (None, ANY)}, paths, "f") == [
        (ANY,), (ANY,), (None, ANY), None,
    ]  # fmt: skip


# --- compiled ---


def loss(params, batch):
    logits = llama.apply(params, TINY, batch["input_ids"], segment_ids=batch["segment_ids"])
    return next_token_loss(logits, batch["labels"], batch["segment_ids"])[0]


def batch(length: int, rows: int = 2) -> dict:
    rng = np.random.default_rng(length)
    ids = rng.integers(0, TINY.vocab_size, (rows, length)).astype(np.int32)
    segments = np.sort(rng.integers(1, 4, (rows, length)), axis=1).astype(np.int32)
    labels = np.where(rng.random((rows, length)) < 0.3, -100, ids).astype(np.int32)
    return {"input_ids": ids, "segment_ids": segments, "labels": labels}


EVERY = {name: (None, LENGTH) for name in ("input_ids", "segment_ids", "labels")}


def test_a_llama_of_twelve_lengths_compiles_once():
    """Loss and every gradient equal the eager ones, with other parameters at each length."""
    fast = jit(value_and_grad(loss), dynamic=EVERY)
    for seed, length in enumerate((17, 33, 49, 65, 3, 5, 7, 21, 17, 9, 63, 11, 3)):
        params, rows = models.params(seed), batch(length)
        rows = {name: Tensor(array) for name, array in rows.items()}
        seen, wanted = fast(params, rows), value_and_grad(loss)(params, rows)
        assert_close(seen, wanted, rtol=2e-4, atol=2e-6)
    assert fast.compiles() == 1


def test_a_static_size_has_a_graph_of_its_own():
    """The others share one; `compilations` tells which there are, in the order they were made."""
    some = Dim("length", divisor=2, remainder=1, min=3, max=65, static=(5, 9))
    fast = jit(value_and_grad(loss), dynamic=dict.fromkeys(EVERY, (None, some)))
    params = models.params()
    for length in (17, 5, 7, 9, 5, 21):
        rows = {name: Tensor(array) for name, array in batch(length).items()}
        seen, wanted = fast(params, rows), value_and_grad(loss)(params, rows)
        assert_close(seen, wanted, rtol=2e-4, atol=2e-6)
    assert fast.compiles() == 3
    made = fast.compilations()
    assert [sizes for sizes, _ in made] == [{"length": None}, {"length": 5}, {"length": 9}]
    assert all(seconds > 0 for _, seconds in made)


def test_other_axes_stay_what_they_are():
    fast = jit(value_and_grad(loss), dynamic=EVERY)
    for rows in (2, 3, 2):
        for length in (5, 9):
            fast(models.params(), batch(length, rows))
    assert fast.compiles() == 2


def scaled(params, x, other=None):
    y = x * params["w"]
    return {"y": y, "sum": y.sum()}


def test_results_have_the_length_of_the_call():
    fast = jit(scaled, dynamic={"1": (ANY, None)})
    params = {"w": tensor(3)}
    for length in (1, 2, 5, 2, 1):
        x = tensor(length, 3, seed=length)
        assert_close(fast(params, x), scaled(params, x), rtol=1e-5, atol=1e-6)
        turned = Tensor(x.asnumpy().T.copy()).T  # a view
        assert_close(fast(params, turned), scaled(params, x), rtol=1e-5, atol=1e-6)
    assert fast.compiles() == 1


def mapped(params, x):
    return vmap(scaled, (None, 0))(params, x)


def test_a_map_over_a_dynamic_axis_beside_it():
    fast = jit(mapped, dynamic={"1": (None, ANY, None)})
    for length in (1, 4, 2):
        x = tensor(2, length, 3, seed=length)
        y = x * tensor(3)
        wanted = {"y": y, "sum": y.sum((1, 2))}
        assert_close(fast({"w": tensor(3)}, x), wanted, rtol=1e-5, atol=1e-5)
    assert fast.compiles() == 1


# --- bad input ---


@pytest.mark.parametrize(
    ("dynamic", "args", "said"),
    [
        ({"x": (ANY,)}, (tensor(3),),
         r"^jit\(same\): dynamic names 'x', which matches no argument; there are 0$"),
        ({"w": (ANY,), "0/w": (ANY,)}, ({"w": tensor(3)},), r"two entries of dynamic match 0/w"),
        ({"w": (ANY, None)}, ({"w": tensor(3)},), r"dynamic gives 0/w 2 axes, its shape is \(3,\)"),
        ({"w": (ANY,)}, ({"w": 3},), r"dynamic gives 0/w 1 axes, its shape is None"),
        ({"w": (LENGTH,)}, ({"w": tensor(4)},),
         r"0/w has size 4 at axis 0; allowed is length = 2 k \+ 1, from 3 to 65"),
        ({"w": (ANY,), "v": (ANY,)}, ({"w": tensor(4), "v": tensor(5)},),
         r"length is 5 in 0/v and 4 in 0/w; axes of one name have one size"),
    ],
)  # fmt: skip
def test_misfits_are_refused_by_name(dynamic, args, said):
    with pytest.raises(ValueError, match=said):
        jit(same, dynamic=dynamic)(*args)


def same(node):
    return node


def test_names_of_their_own_may_differ():
    fast = jit(same, dynamic={"w": (Dim("a"),), "v": (Dim("b"),)})
    assert fast({"w": tensor(4), "v": tensor(5)})["v"].shape == (5,)
