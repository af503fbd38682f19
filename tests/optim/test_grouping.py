from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.optim.problem import ADAMW, GRADS, PARAMS, run, same_bits, tensors

from mfunc import tree
from mfunc.optim import (
    adamw,
    all_but,
    chain,
    clip_by_global_norm,
    layerwise,
    masked,
    multi,
    sgd,
    step,
)
from mfunc.schedule import cosine


def test_a_mask_of_all_and_one_group_change_nothing():
    for inner in (ADAMW, chain(clip_by_global_norm(1.0), sgd(0.1, momentum=0.9))):
        alone = run(inner)
        assert same_bits(run(masked(inner, "*")), alone)
        assert same_bits(run(multi({"*": inner})), alone)
        assert same_bits(run(masked(multi({"*": masked(inner, "*")}), "*")), alone)


def test_a_mask_of_nothing_passes_gradients_on():
    seen = run(masked(sgd(1.0), all_but("*")))
    assert same_bits(seen, [tensors(grads) for grads in GRADS[:3]])


def test_the_inner_optimizer_sees_only_its_leaves():
    optimizer = masked(clip_by_global_norm(1e-3), "w")
    params = tensors(PARAMS)
    updates, _ = optimizer.update(tensors(GRADS[0]), optimizer.init(params), params)
    assert np.linalg.norm(updates["w"].asnumpy()) == pytest.approx(1e-3, rel=1e-5)
    assert same_bits(updates["b"], ms.Tensor(GRADS[0]["b"]))
    state = masked(ADAMW, "w").init(tensors(PARAMS))
    assert [leaf.shape for leaf in tree.leaves(state)] == [(), (6, 8), (6, 8)]


def test_groups_have_their_own_optimizers_and_the_first_pattern_counts():
    params = {
        "norm": ms.Tensor([1.0]),
        "layers": ({"norm": ms.Tensor([1.0]), "q": ms.Tensor([1.0])},),
    }
    groups = {"layers/0/norm": sgd(0.25), "*norm": sgd(0.5), "*": sgd(1.0)}
    updates, _ = multi(groups).update(params, multi(groups).init(params), params)
    assert float(updates["norm"]) == -0.5
    assert {name: float(leaf) for name, leaf in updates["layers"][0].items()} == {
        "norm": -0.25, "q": -1.0,
    }  # fmt: skip


def test_a_group_of_none_stays_to_the_bit():
    """Whatever its gradient: a frozen leaf may overflow."""
    params = {"a": ms.Tensor([-0.0, 1.0]), "b": ms.Tensor([1.0])}
    grads = {"a": ms.Tensor([np.inf, np.nan]), "b": ms.Tensor([1.0])}
    optimizer = multi({"a": None, "*": ADAMW})
    moved, state = step(optimizer, grads, optimizer.init(params), params)
    assert same_bits(moved["a"], params["a"])
    assert float(moved["b"]) < 1.0
    assert len(tree.leaves(state)) == 3


def test_a_mask_inside_of_a_group_knows_whole_paths():
    params = {"x": {"w": ms.Tensor([1.0]), "b": ms.Tensor([1.0])}, "y": ms.Tensor([1.0])}
    inner = adamw(0.5, weight_decay=0.5, mask="x/w")
    optimizer = multi({"x/*": inner, "*": sgd(1.0)})
    zeros = tree.map(lambda leaf: leaf * 0.0, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    assert (float(updates["x"]["w"]), float(updates["x"]["b"])) == (-0.25, 0.0)


def test_layers_learn_slower_the_earlier_they_are():
    leaf = ms.Tensor([1.0])
    params = {"embed": leaf, "layers": ({"q": leaf}, {"q": leaf}), "norm": leaf, "head": leaf}
    groups = layerwise(sgd, 8.0, decay=0.5, layers=2)
    optimizer = multi(groups)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    seen = {
        path: -float(u) for path, u in zip(tree.paths(params), tree.leaves(updates), strict=True)
    }
    assert seen == {"embed": 1.0, "layers/0/q": 2.0, "layers/1/q": 4.0, "head": 8.0, "norm": 8.0}


def test_layers_follow_a_schedule():
    leaf = ms.Tensor([1.0])
    params = {"layers": ({"q": leaf},), "head": leaf}
    optimizer = multi(layerwise(sgd, cosine(1.0, total_steps=2), decay=0.25, layers=1, first=()))
    state, seen = optimizer.init(params), []
    for _ in range(3):
        updates, state = optimizer.update(params, state, params)
        seen.append([-float(updates["layers"][0]["q"]), -float(updates["head"])])
    np.testing.assert_allclose(seen, [[0.25, 1.0], [0.125, 0.5], [0.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: multi({}), r"multi: there is no group; give at least one pattern"),
        (
            lambda: multi({"w": sgd(1.0)}).init(PARAMS),
            r"multi: parameter 'b' is in no group; patterns are \['w'\], add '\*'",
        ),
        (
            lambda: multi({"*": sgd(1.0), "w": sgd(1.0)}).init(PARAMS),
            r"multi: pattern 'w' matches no parameter that those before it leave; paths look like",
        ),
        (
            lambda: masked(sgd(1.0), "v").init(PARAMS),
            r"masked: pattern 'v' matches no parameter; paths look like b, e, w",
        ),
        (
            lambda: layerwise(sgd, 1.0, decay=0.0, layers=2),
            r"layerwise: decay=0.0; it must be above 0 and at most 1",
        ),
        (
            lambda: layerwise(sgd, 1.0, decay=0.5, layers=2, path="layers/*"),
            r"layerwise: layers=2 and path='layers/\*'; there must be a layer, and braces",
        ),
    ],
)
def test_groups_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()
