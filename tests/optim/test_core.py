from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.optim.problem import GRADS, OPTIMIZERS, PARAMS, arrays, run, same_bits, tensors

from mfunc import optim, tree
from mfunc.optim import adamw, chain, clip_by_global_norm, flatten, sgd


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


@pytest.mark.parametrize("name", ["adamw_cosine", "clip_adamw", "sgd_nesterov", "lion"])
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
