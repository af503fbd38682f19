from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from mfunc.optim.moments import Adam, move, seen, shares
from mfunc.schedule import constant

ONE = ms.Tensor([1.0])


def moved(adam, decay=0.0, param=ONE):
    share = shares(adam, ms.Tensor(0, ms.int32))
    update, mean, square = move(adam, 1.0, share, ONE, 0.0 * ONE, 0.0 * ONE, param, decay)
    return [float(x) for x in (update, mean, square)]


def test_the_first_step_without_bias_correction():
    """A gradient of 1, betas 0.9 and 0.95: 0.1 / sqrt(0.05), where AdamW goes 1."""
    plain = Adam(constant(1.0), 0.9, 0.95, 1e-8, bias_correction=False)
    assert moved(plain) == pytest.approx([-0.4472, 0.1, 0.05], abs=5e-5)
    assert moved(Adam(constant(1.0), 0.9, 0.95, 1e-8)) == pytest.approx([-1.0, 0.1, 0.05], abs=1e-5)


def test_decay_joins_the_direction():
    assert moved(Adam(constant(1.0), 0.9, 0.95, 1e-8), 0.25)[0] == pytest.approx(-1.25, abs=1e-5)


@pytest.mark.parametrize(("length", "wanted"), [(3.0, -3.0), (0.0, -1.0)])
def test_trust_is_the_length_of_the_parameter(length, wanted):
    adam = Adam(constant(1.0), 0.9, 0.95, 1e-8, trust=True)
    assert moved(adam, param=length * ONE)[0] == pytest.approx(wanted, abs=1e-5)


def test_what_a_mean_has_seen():
    counts = [ms.Tensor(n, ms.int32) for n in (1, 2, 10_000)]
    np.testing.assert_allclose([float(seen(0.9, n)) for n in counts], [0.1, 0.19, 1.0], rtol=1e-5)
