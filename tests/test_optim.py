from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from tests.golden.inputs import optim_problem

from mfunc import optim, tree
from mfunc.optim import (
    adamw,
    apply_updates,
    chain,
    clip_by_global_norm,
    flatten,
    global_norm,
    sgd,
)
from mfunc.schedule import cosine
from mfunc.transform import jit

GOLDEN = np.load(Path(__file__).parent / "golden" / "optim.npz")
PARAMS, GRADS = optim_problem(int(GOLDEN["seed"]), int(GOLDEN["steps"]))
SETTINGS = {"b1": 0.9, "b2": 0.95, "eps": 1e-8, "weight_decay": 0.1}

# Name in optim.npz -> what must do the same.
OPTIMIZERS = {
    "adamw": adamw(1e-2, **SETTINGS),
    "adamw_uncorrected": adamw(1e-2, **SETTINGS, bias_correction=False),
    "adamw_cosine": adamw(cosine(1e-2, total_steps=100, warmup_steps=10), **SETTINGS),
    "clip_adamw": chain(clip_by_global_norm(1.0), adamw(1e-2, **SETTINGS)),
    "sgd": sgd(1e-2),
}
FLAT = {f"flatten({name})": flatten(optimizer) for name, optimizer in OPTIMIZERS.items()}
EVERY = {**OPTIMIZERS, **FLAT, "clip": clip_by_global_norm(1.0)}


def tensors(arrays, dtype=ms.float32):
    return {name: ms.Tensor(array).astype(dtype) for name, array in arrays.items()}


def arrays(node):
    return [leaf.asnumpy() for leaf in tree.leaves(node)]


def same_bits(first, second):
    return [a.tobytes() for a in arrays(first)] == [a.tobytes() for a in arrays(second)]


def step_of(optimizer):
    def step(params, state, grads):
        updates, after = optimizer.update(grads, state, params)
        return apply_updates(params, updates), after

    return step


def test_the_problem_is_the_one_of_the_golden_file():
    total = sum(float(a.sum(dtype=np.float64)) for node in (PARAMS, *GRADS) for a in node.values())
    assert total == pytest.approx(float(GOLDEN["checksum"]), abs=1e-6)


@pytest.mark.parametrize("way", ["eager", "compiled"])
@pytest.mark.parametrize("name", [*OPTIMIZERS, *FLAT])
def test_parameters_after_1_10_and_100_steps(name, way):
    optimizer = EVERY[name]
    step = jit(step_of(optimizer)) if way == "compiled" else step_of(optimizer)
    source = name.removeprefix("flatten(").removesuffix(")")
    params = tensors(PARAMS)
    state = optimizer.init(params)
    for number, grads in enumerate(GRADS, 1):
        params, state = step(params, state, tensors(grads))
        if number in (1, 10, 100):
            for leaf, seen in params.items():
                wanted = GOLDEN[f"{source}/float64/step{number}/{leaf}"]
                np.testing.assert_allclose(seen.asnumpy(), wanted, rtol=0, atol=5e-6)
    assert way == "eager" or step.compiles() == 1


@pytest.mark.parametrize("name", EVERY)
def test_contract(name):
    """Containers and shapes stay, states are float32, and nothing that was given has changed."""
    optimizer, params = EVERY[name], tensors(PARAMS, ms.float16)
    grads = tensors(GRADS[0], ms.float16)
    state = optimizer.init(params)
    before = tree.map(lambda leaf: leaf.copy(), (params, state, grads))
    updates, after = optimizer.update(grads, state, params)
    moved = apply_updates(params, updates)
    assert tree.flatten(updates)[1] == tree.flatten(params)[1] == tree.flatten(moved)[1]
    assert tree.flatten(after)[1] == tree.flatten(state)[1]
    shapes = [leaf.shape for leaf in tree.leaves(params)]
    assert [leaf.shape for leaf in tree.leaves(updates)] == shapes
    wanted = ms.float16 if name == "clip" else ms.float32
    assert {leaf.dtype for leaf in tree.leaves(updates)} == {wanted}
    assert {leaf.dtype for leaf in tree.leaves(moved)} == {ms.float16}
    assert {leaf.dtype for leaf in tree.leaves((state, after))} <= {ms.float32, ms.int32}
    assert same_bits(before, (params, state, grads))


def test_half_precision_parameters_move_as_far_as_the_states_say():
    """Float16 gradients are widened before they are squared: 1e-4 squared is nothing in float16."""
    params, grads = {"w": ms.Tensor([1.0, 1.0], ms.float16)}, {"w": np.float16([1e-4, -1e-4])}
    optimizer = adamw(0.25, weight_decay=0.0)
    updates, _ = optimizer.update(tensors(grads, ms.float16), optimizer.init(params), params)
    np.testing.assert_allclose(updates["w"].asnumpy(), [-0.25, 0.25], rtol=1e-3)


def test_states_are_what_checkpoints_and_graphs_expect():
    params = tensors(PARAMS)
    state = chain(clip_by_global_norm(1.0), adamw(1e-2)).init(params)
    names = ["1/count", *[f"1/{name}/{i}" for name in ("mean", "square") for i in range(3)]]
    assert tree.paths(state) == names
    assert state[0] == {}
    assert int(state[1]["count"]) == 0
    assert [leaf.shape for leaf in state[1]["mean"]] == [(8,), (16, 4), (6, 8)]
    assert not any(array.any() for array in arrays(state))
    assert list(sgd(1.0).init(params)) == ["count"]


def test_a_nested_tree_keeps_its_places():
    """Leaves of equal shape that changed places would go unseen in the golden problem."""
    params = {"b": (ms.Tensor([1.0]), {"z": ms.Tensor([2.0])}), "a": ms.Tensor([3.0])}
    grads = {"b": (ms.Tensor([0.0]), {"z": ms.Tensor([-7.0])}), "a": ms.Tensor([5.0])}
    optimizer = adamw(0.5, weight_decay=0.0)
    updates, after = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(arrays(updates), [[-0.5], [0.0], [0.5]], atol=1e-5)
    np.testing.assert_allclose(np.ravel(after["mean"]), [0.5, 0.0, -0.7], rtol=1e-6)
    np.testing.assert_allclose(np.ravel(after["square"]), [0.025, 0.0, 0.049], rtol=1e-4)


def test_other_parameters_through_one_compiled_step():
    optimizer = OPTIMIZERS["clip_adamw"]
    step, state = jit(step_of(optimizer)), optimizer.init(tensors(PARAMS))
    for scale in (1.0, 3.0):
        params = tensors({name: scale * array for name, array in PARAMS.items()})
        fast, slow = (
            step(params, state, GRADS[0]),
            step_of(optimizer)(params, state, tensors(GRADS[0])),
        )
        for a, b in zip(arrays(fast), arrays(slow), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert step.compiles() == 1


# --- chain ---


def run(optimizer, steps=3):
    params = tensors(PARAMS)
    state, seen = optimizer.init(params), []
    for grads in GRADS[:steps]:
        updates, state = optimizer.update(tensors(grads), state, params)
        seen.append(updates)
        params = apply_updates(params, updates)
    return seen


def test_chain_is_associative_and_of_one_is_that_one():
    a, b, c = clip_by_global_norm(1.0), sgd(2.0), adamw(1e-2)
    flat = run(chain(a, b, c))
    assert same_bits(flat, run(chain(chain(a, b), c)))
    assert same_bits(flat, run(chain(a, chain(b, c))))
    assert same_bits(run(chain(c)), run(c))
    assert same_bits(run(chain()), [tensors(grads) for grads in GRADS[:3]])


def test_chain_goes_left_to_right():
    grads = {"w": ms.Tensor([30.0, 40.0])}
    first = chain(clip_by_global_norm(1.0), sgd(0.5))
    last = chain(sgd(0.5), clip_by_global_norm(1.0))
    updates = [o.update(grads, o.init(grads), grads)[0]["w"].asnumpy() for o in (first, last)]
    np.testing.assert_allclose(updates, [[-0.3, -0.4], [-0.6, -0.8]], rtol=1e-6)


# --- flatten ---


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_flatten_moves_parameters_as_the_optimizer_alone(name):
    alone, joined = run(OPTIMIZERS[name], 10), run(flatten(OPTIMIZERS[name]), 10)
    for seen, wanted in zip(joined, alone, strict=True):
        assert tree.flatten(seen)[1] == tree.flatten(wanted)[1]
        for a, b in zip(arrays(seen), arrays(wanted), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8)


def test_flatten_keeps_one_vector_of_each_moment():
    state = flatten(chain(clip_by_global_norm(1.0), adamw(1e-2))).init(tensors(PARAMS))
    assert [leaf.shape for leaf in state[1]["mean"]] == [(8 + 16 * 4 + 6 * 8,)]


# --- clipping ---


@pytest.mark.parametrize("case", ["above", "below", "equal", "zero", "large", "small"])
def test_global_norm_and_clipping(case):
    given = tensors({leaf: GOLDEN[f"norm/{case}/tree/{leaf}"] for leaf in "abc"})
    wanted = f"norm/{case}/float64"
    np.testing.assert_allclose(float(global_norm(given)), GOLDEN[f"{wanted}/norm"], rtol=1e-6)
    limit = float(GOLDEN["norm/max_norm"])
    clipped, state = clip_by_global_norm(limit).update(given, {}, given)
    assert state == {}
    for leaf, seen in clipped.items():
        np.testing.assert_allclose(seen.asnumpy(), GOLDEN[f"{wanted}/clipped/{leaf}"], rtol=1e-6)
    if case in ("below", "equal", "zero", "small"):
        assert same_bits(clipped, given)


@pytest.mark.parametrize("dtype", [ms.float32, ms.float16])
def test_below_the_limit_nothing_changes_to_the_bit(dtype):
    grads = tensors(GRADS[0], dtype)
    limit = float(global_norm(grads)) * 1.001
    clipped, _ = clip_by_global_norm(limit).update(grads, {}, grads)
    assert same_bits(clipped, grads)
    shorter, _ = clip_by_global_norm(limit / 2).update(grads, {}, grads)
    assert float(global_norm(shorter)) == pytest.approx(limit / 2, rel=1e-3)
    assert {leaf.dtype for leaf in tree.leaves(shorter)} == {dtype}


def test_nothing_is_added_to_the_norm():
    grads = {"w": ms.Tensor([3e-6, 4e-6])}
    clipped, _ = clip_by_global_norm(1e-6).update(grads, {}, grads)
    np.testing.assert_allclose(clipped["w"].asnumpy(), [6e-7, 8e-7], rtol=1e-6)


# --- bad input ---


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: adamw(1.0, b1=1.0), r"adamw: b1=1.0; it must be from 0 to below 1"),
        (lambda: adamw(1.0, b2=-0.1), r"adamw: b2=-0.1; it must be from 0 to below 1"),
        (lambda: adamw(1.0, eps=-1e-8), r"adamw: eps=-1e-08; it must not be negative"),
        (lambda: adamw(1.0, weight_decay=-0.1), r"adamw: weight_decay=-0.1; it must not be neg"),
        (lambda: clip_by_global_norm(0.0), r"clip_by_global_norm: limit=0.0; it must be positive"),
        (lambda: clip_by_global_norm(float("nan")), r"limit=nan; it must be positive"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_updates_of_another_tree_are_refused_by_path():
    params = tensors(PARAMS)
    with pytest.raises(ValueError, match=r"tree.map: tree 1 has no leaf at w"):
        optim.apply_updates(params, {name: params[name] for name in "be"})
