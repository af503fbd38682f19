"""What every optimizer must do: the same table for all, in `problem.py`."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.optim.problem import (
    AVERAGES,
    EVERY,
    GOLDEN,
    GRADS,
    OPTIMIZERS,
    PARAMS,
    WAYS,
    arrays,
    case_of,
    compiled,
    run,
    same_bits,
    state_of,
    step_of,
    tensors,
    train_step_of,
)

from mfunc import checkpoint, optim, tree
from mfunc.donation import Resident
from mfunc.optim import Optimizer, apply_updates
from mfunc.transform import jit

# What changes gradients and leaves their dtype.
NARROW = {"clip", "clip_by_value"}


def test_the_problem_is_the_one_of_the_golden_file():
    total = sum(float(a.sum(dtype=np.float64)) for node in (PARAMS, *GRADS) for a in node.values())
    assert total == pytest.approx(float(GOLDEN["checksum"]), abs=1e-6)


def test_every_optimizer_has_its_row():
    made = {"clip_by_value", "add_decayed_weights", "masked", "skip_nonfinite"}  # `deep`, `skip`
    made |= {case_of(name).split("_")[0] for name in EVERY} | {name.split("(")[0] for name in EVERY}
    helpers = {"Optimizer", "all_but", "all_finite", "apply_updates", "chain", "global_norm",
               "layerwise", "step", "clip_by_global_norm"}  # fmt: skip
    assert set(optim.__all__) - helpers <= made


@pytest.mark.parametrize("name", [*OPTIMIZERS, *WAYS, *AVERAGES])
def test_golden_numbers_after_1_10_and_100_steps(name):
    """Within 1e-6 of the float64 run, relative to the larger of 1 and the number."""
    optimizer, step, params = EVERY[name], compiled(name), tensors(PARAMS)
    state = optimizer.init(params)
    for number, grads in enumerate(GRADS, 1):
        params, state, updates = step(params, state, tensors(grads))
        if number in (1, 10, 100):
            for leaf, seen in (updates if name in AVERAGES else params).items():
                wanted = GOLDEN[f"{case_of(name)}/float64/step{number}/{leaf}"]
                np.testing.assert_array_less(
                    np.abs(seen.asnumpy() - wanted), 1e-6 * np.maximum(1.0, np.abs(wanted))
                )
    assert step.compiles() == 1


@pytest.mark.parametrize("name", EVERY)
def test_compiled_is_eager(name):
    for fast, slow in zip(run(EVERY[name], step=compiled(name)), run(EVERY[name]), strict=True):
        assert tree.flatten(fast)[1] == tree.flatten(slow)[1]
        for a, b in zip(arrays(fast), arrays(slow), strict=True):
            # Adam divides by roots near zero, and Muon's steps enlarge what is small.
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)
    assert compiled(name).compiles() == 1


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16])
@pytest.mark.parametrize("name", EVERY)
def test_contract(name, dtype):
    """Containers and shapes stay, states are float32, and nothing that was given has changed."""
    optimizer, params = EVERY[name], tensors(PARAMS, dtype)
    grads = tensors(GRADS[0], dtype)
    state = optimizer.init(params)
    before = tree.map(lambda leaf: leaf.copy(), (params, state, grads))
    updates, after = optimizer.update(grads, state, params)
    moved = apply_updates(params, updates)
    assert tree.flatten(updates)[1] == tree.flatten(params)[1] == tree.flatten(moved)[1]
    assert tree.flatten(after)[1] == tree.flatten(state)[1]
    shapes = [leaf.shape for leaf in tree.leaves((params, state))]
    assert [leaf.shape for leaf in tree.leaves((updates, after))] == shapes
    kinds = [leaf.dtype for leaf in tree.leaves(state)]
    assert [leaf.dtype for leaf in tree.leaves(after)] == kinds
    assert set(kinds) <= {ms.float32, ms.int32}
    assert {leaf.dtype for leaf in tree.leaves(updates)} == {
        dtype if name in NARROW else ms.float32
    }
    assert {leaf.dtype for leaf in tree.leaves(moved)} == {dtype}
    assert same(before, (params, state, grads))


def same(first, second):
    wide = [tree.map(lambda leaf: leaf.astype(ms.float32), node) for node in (first, second)]
    return same_bits(*wide)


@pytest.mark.parametrize("name", EVERY)
def test_a_state_is_saved_and_loaded(name):
    state = state_of(EVERY[name])
    assert len(set(tree.paths(state))) == len(tree.leaves(state))
    checkpoint.save("state.safetensors", state)
    assert same_bits(checkpoint.load("state.safetensors", like=state), state)


DONATED = ["adamw_masked", "adafactor_momentum", "multi(adamw_masked)", "deep", "skip"]


@pytest.mark.parametrize("name", DONATED)
def test_a_donated_state(name):
    """In place or not: the numbers of the eager step, which changes nothing."""
    slow = train_step_of(EVERY[name])
    fast = jit(slow, donate_argnums=0, home="home")
    state, wanted = state_of(EVERY[name]), state_of(EVERY[name])
    for i, grads in enumerate(GRADS[:6]):
        grads = (
            {**grads, "w": np.inf * grads["w"]} if i == 3 and name in ("deep", "skip") else grads
        )
        state, _ = fast(state, grads, np.float32(i + 1))
        wanted, _ = slow(wanted, tensors(grads), ms.Tensor(i + 1.0))
        for a, b in zip(arrays(state), arrays(wanted), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)
    assert fast.compiles() == 1
    assert {type(leaf) for leaf in tree.leaves(state)} == {Resident}


def test_a_pair_of_ones_own_joins_all_others():
    def init(params):
        return {}

    def update(grads, state, params):
        return tree.map(lambda grad: -0.5 * grad, grads), state

    mine = Optimizer(init, update)
    wrapped = optim.accumulate(1, optim.chain(optim.multi({"b": mine, "*": mine}), optim.chain()))
    assert same_bits(run(optim.skip_nonfinite(wrapped)), run(mine))


@pytest.mark.parametrize("name", ["adamw", "deep"])
def test_other_parameters_through_one_compiled_step(name):
    optimizer, step = EVERY[name], compiled(name)
    state = optimizer.init(tensors(PARAMS))
    for scale in (1.0, 3.0):
        params = tensors({name: scale * array for name, array in PARAMS.items()})
        fast = step(params, state, tensors(GRADS[0]))
        slow = step_of(optimizer)(params, state, tensors(GRADS[0]))
        for a, b in zip(arrays(fast), arrays(slow), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert step.compiles() == 1
