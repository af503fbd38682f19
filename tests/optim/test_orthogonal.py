from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.optim.problem import GRADS, PARAMS, run, same_bits, tensors

from mfunc import tree
from mfunc.optim import adamw, all_but, muon
from mfunc.optim.orthogonal import orthogonal


@pytest.mark.parametrize("shape", [(6, 8), (16, 4), (5, 5)])
def test_singular_values_come_near_1(shape):
    matrix = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    seen = orthogonal(ms.Tensor(matrix)).asnumpy()
    values = np.linalg.svd(seen, compute_uv=False)
    assert 0.6 < values.min() <= values.max() < 1.3
    # The directions stay: it is a function of the singular values alone.
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ seen @ v.T
    np.testing.assert_allclose(inside, np.diag(np.diag(inside)), atol=1e-4)


def test_a_transposed_matrix_gives_the_transpose():
    matrix = np.random.default_rng(2).standard_normal((3, 7)).astype(np.float32)
    first, second = orthogonal(ms.Tensor(matrix)), orthogonal(ms.Tensor(matrix.T.copy()))
    np.testing.assert_allclose(first.asnumpy(), second.asnumpy().T, rtol=1e-5, atol=1e-6)


def test_a_gradient_of_zero_moves_nothing():
    assert not orthogonal(ms.Tensor(np.zeros((2, 3), np.float32))).asnumpy().any()


def test_leaves_that_are_no_matrices_go_by_adamw():
    alone = run(adamw(1e-2, b2=0.999, weight_decay=0.0, nesterov=True))
    mixed = run(muon(1e-2, weight_decay=0.1, matrices=all_but("b", "e")))
    for seen, wanted in zip(mixed, alone, strict=True):
        assert same_bits([seen["b"], seen["e"]], [wanted["b"], wanted["e"]])
        assert not same_bits(seen["w"], wanted["w"])


def test_a_rate_of_their_own():
    both = [muon(1e-2), muon(1e-2, adam_learning_rate=2e-2)]
    first, second = [o.update(tensors(GRADS[0]), o.init(tensors(PARAMS)), tensors(PARAMS))[0]
                     for o in both]  # fmt: skip
    assert same_bits(first["w"], second["w"])
    np.testing.assert_allclose(second["b"].asnumpy(), 2 * first["b"].asnumpy(), rtol=1e-6)


def test_only_matrices_or_none_at_all():
    """As the leaves of a LoRA adapter, and as those of BitFit."""
    for names in ("we", "b"):
        params = {name: ms.Tensor(PARAMS[name]) for name in names}
        optimizer = muon(1e-2)
        updates, _ = optimizer.update(params, optimizer.init(params), params)
        assert tree.flatten(updates)[1] == tree.flatten(params)[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: muon(1.0, beta=1.0), r"muon: beta=1.0; it must be from 0 to below 1"),
        (lambda: muon(1.0, steps=0), r"muon: steps=0; it must be at least 1"),
        (
            lambda: muon(1.0, matrices="*").init(tensors(PARAMS)),
            r"muon: b has shape \(8,\); only a leaf of two axes is a matrix, leave it out of",
        ),
        (
            lambda: muon(1.0, matrices="v").init(tensors(PARAMS)),
            r"muon: pattern 'v' matches no parameter",
        ),
        (lambda: muon(1.0, weight_decay=-0.1), r"muon: weight_decay=-0.1; it must be finite and"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
