from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.optim.problem import (
    ADAMW,
    EVERY,
    GRADS,
    PARAMS,
    compiled,
    run,
    same_bits,
    state_of,
    tensors,
    train_step_of,
)

from mfunc import tree
from mfunc.optim import (
    all_finite,
    chain,
    clip_by_global_norm,
    dynamic_loss_scale,
    flatten,
    masked,
    multi,
    sgd,
    skip_nonfinite,
    step,
)
from mfunc.optim.scaling import LARGEST
from mfunc.transform import jit

BAD = [np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("dtype", [ms.float32, ms.float16, ms.bfloat16])
@pytest.mark.parametrize("bad", BAD)
def test_a_number_that_is_not_finite_is_found_wherever_it_is(bad, dtype):
    for place in ("w", "e", "b"):
        node = {name: array.copy() for name, array in PARAMS.items()}
        node[place].flat[-1] = bad
        assert not bool(all_finite(tensors(node, dtype)))
    assert bool(all_finite(tensors(PARAMS, dtype)))


def test_large_and_small_numbers_are_finite():
    """Also where their sum or their squares are not."""
    assert bool(all_finite({"w": ms.Tensor([3e38, 3e38, -3e38, 1e-45])}))
    assert bool(all_finite({"w": ms.Tensor([65504.0, 65504.0], ms.float16)}))


def scaled_run(optimizer, steps, dtype=ms.float32):
    """States after steps whose gradients come scaled, as the optimizer asks."""
    state, fast, seen = (
        state_of(optimizer, tensors(PARAMS, dtype)),
        jit(train_step_of(optimizer)),
        [],
    )
    for grads in GRADS[:steps]:
        state, _ = fast(state, tensors(grads, dtype), np.float32(1.0))
        seen.append(state)
    assert fast.compiles() == 1
    return seen


def test_finite_gradients_do_what_the_inner_optimizer_does_to_the_bit():
    plain = scaled_run(ADAMW, 5)
    scaled = scaled_run(dynamic_loss_scale(ADAMW, growth_interval=2), 5)
    assert [float(state["optimizer"]["scale"]) for state in scaled] == [
        2.0**16, 2.0**17, 2.0**17, 2.0**18, 2.0**18,
    ]  # fmt: skip
    for a, b in zip(scaled, plain, strict=True):
        assert same_bits(a["params"], b["params"])
        assert same_bits(a["optimizer"]["inner"], b["optimizer"])
    assert same_bits(run(skip_nonfinite(ADAMW)), run(ADAMW))


# One compiled step for the tests of the rule; its scale and count are given.
OPTIMIZER = dynamic_loss_scale(ADAMW)
STEP = jit(train_step_of(OPTIMIZER))


def after(grads, **numbers):
    state = state_of(OPTIMIZER)
    for name, number in numbers.items():
        kind = state["optimizer"][name].dtype
        state["optimizer"][name] = ms.Tensor(number, kind)
    moved, _ = STEP(state, grads, np.float32(1.0))
    return state, moved, {name: float(moved["optimizer"][name]) for name in ("scale", "good")}


@pytest.mark.parametrize("bad", BAD)
def test_overflow_halves_the_scale_and_skips_the_step(bad):
    grads = {name: array.copy() for name, array in GRADS[0].items()}
    grads["e"][3, 1] = bad
    state, moved, seen = after(grads, good=500)
    assert seen == {"scale": 2.0**15, "good": 0}
    assert int(moved["optimizer"]["skipped"]) == 1
    assert same_bits(moved["params"], state["params"])
    assert same_bits(moved["optimizer"]["inner"], state["optimizer"]["inner"])


def test_the_scale_grows_after_1000_good_steps():
    assert after(GRADS[0], good=998)[2] == {"scale": 2.0**16, "good": 999}
    assert after(GRADS[0], good=999)[2] == {"scale": 2.0**17, "good": 0}


def test_the_scale_has_a_floor_and_a_ceiling():
    bad = {**GRADS[0], "b": np.full_like(GRADS[0]["b"], np.nan)}
    assert after(bad, scale=2.0)[2]["scale"] == after(bad, scale=1.0)[2]["scale"] == 1.0
    tiny = {name: array * 1e-20 for name, array in GRADS[0].items()}
    assert after(tiny, scale=LARGEST, good=999)[2]["scale"] == LARGEST == 2.0**126
    assert STEP.compiles() == 1


def test_the_loss_is_multiplied_in_float16_before_it_vanishes():
    """1e-7 times 0.25 is nothing in float16; 65536 times it is 1.6e-3."""
    params = {"w": ms.Tensor([1.0], ms.float16)}
    optimizer = dynamic_loss_scale(sgd(1e6))
    state = optimizer.init(params)
    scaled = ms.Tensor([0.25], ms.float16) * (optimizer.scale(state) * 1e-7).astype(ms.float16)
    moved, _ = optimizer.update({"w": scaled}, state, params)
    np.testing.assert_allclose(moved["w"].asnumpy(), [-0.025], rtol=1e-2)
    assert float(ms.Tensor([0.25], ms.float16) * ms.Tensor(1e-7, ms.float16)) == 0.0


def test_skipping_keeps_the_sign_of_zero_and_counts():
    params = {"w": ms.Tensor([-0.0, 1.0])}
    optimizer = skip_nonfinite(ADAMW)
    state = optimizer.init(params)
    for bad in BAD:
        moved, state = step(optimizer, {"w": ms.Tensor([bad, 1.0])}, state, params)
        assert same_bits(moved, params)
    assert int(state["skipped"]) == 3
    assert same_bits(state["inner"], optimizer.init(params)["inner"])
    moved, state = step(optimizer, {"w": ms.Tensor([1.0, 1.0])}, state, params)
    assert not same_bits(moved, params)
    assert int(state["skipped"]) == 3


def test_an_overflow_within_an_accumulation_leaves_that_batch_out():
    """`deep` is a loss scale around `accumulate(2, ...)`."""
    deep = compiled("deep")
    params = tensors(PARAMS)
    state = EVERY["deep"].init(params)
    bad = tree.map(lambda leaf: leaf * np.float32(np.inf), tensors(GRADS[1]))
    _, first, _ = deep(params, state, tensors(GRADS[0]))
    _, second, updates = deep(params, first, bad)
    assert float(second["scale"]) == 2.0
    assert same_bits(second["inner"], first["inner"])
    assert not any(np.any(leaf.asnumpy()) for leaf in tree.leaves(updates))


def test_a_scale_is_seen_through_what_keeps_it():
    scaled = dynamic_loss_scale(sgd(1.0), initial=8.0)
    for optimizer in (chain(scaled), flatten(scaled), chain(chain(scaled))):
        assert float(optimizer.scale(optimizer.init(tensors(PARAMS)))) == 8.0
    assert chain(sgd(1.0)).scale is None


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("chain", lambda inner: chain(clip_by_global_norm(1.0), inner)),
        ("masked", lambda inner: masked(inner, "w")),
        ("multi", lambda inner: multi({"*": inner})),
        ("skip_nonfinite", skip_nonfinite),
        ("dynamic_loss_scale", dynamic_loss_scale),
    ],
)
def test_a_scale_inside_is_refused(name, wrap):
    with pytest.raises(ValueError, match=rf"{name}: dynamic_loss_scale stands inside of it; put"):
        wrap(dynamic_loss_scale(sgd(1.0)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial": 0.5}, r"dynamic_loss_scale: initial=0.5; it must be from 1 to 2\*\*126"),
        ({"initial": float("inf")}, r"initial=inf; it must be from 1"),
        ({"growth_interval": 0}, r"growth_interval=0; it must be at least 1"),
        ({"factor": 1.0}, r"factor=1.0; it must be above 1"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        dynamic_loss_scale(sgd(1.0), **settings)
