from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.optim.problem import (
    EVERY,
    FLAT,
    GOLDEN,
    GRADS,
    OPTIMIZERS,
    PARAMS,
    arrays,
    run,
    same_bits,
    step_of,
    tensors,
)

from mfunc import optim, tree
from mfunc.optim import adamw, apply_updates, chain, clip_by_global_norm, flatten, sgd
from mfunc.transform import jit


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


def test_updates_of_another_tree_are_refused_by_path():
    params = tensors(PARAMS)
    with pytest.raises(ValueError, match=r"tree.map: tree 1 has no leaf at w"):
        optim.apply_updates(params, {name: params[name] for name in "be"})
