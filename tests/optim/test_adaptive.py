from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.optim.problem import PARAMS, arrays, tensors

from mfunc import tree
from mfunc.optim import adam, adamw, chain, clip_by_global_norm, lamb, sgd


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: adamw(1.0, b1=1.0), r"adamw: b1=1.0; it must be from 0 to below 1"),
        (lambda: adamw(1.0, b2=-0.1), r"adamw: b2=-0.1; it must be from 0 to below 1"),
        (lambda: adamw(1.0, eps=-1e-8), r"adamw: eps=-1e-08; it must be finite and not"),
        (lambda: adamw(1.0, weight_decay=-0.1), r"adamw: weight_decay=-0.1; it must be fin"),
        (lambda: adam(1.0, b1=1.0), r"adam: b1=1.0; it must be from 0 to below 1"),
        (lambda: lamb(1.0, eps=-1.0), r"lamb: eps=-1.0; it must be finite and not negative"),
        (lambda: adamw(float("inf")), r"adamw: learning_rate=inf; it must be finite"),
        (lambda: adamw(1.0, mask="v").init(PARAMS), r"adamw: pattern 'v' matches no parameter"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
