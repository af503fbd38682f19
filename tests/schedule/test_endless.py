from __future__ import annotations

import math

import pytest
from tests.schedule.cases import check, made, of

from mfunc.schedule import constant, inverse_sqrt


@pytest.mark.parametrize("case", of("constant"))
def test_golden_points(case):
    check(made(case), case["points"])


def test_constant_is_constant():
    assert constant(0.1)(0) == constant(0.1)(10**9) == 0.1


@pytest.mark.parametrize("settings", [{"warmup_steps": 25}, {}, {"timescale": 40}])
def test_inverse_sqrt_is_that_of_transformers(settings):
    rise = settings.get("warmup_steps", 0)
    scale = settings.get("timescale", rise or 10_000)

    def wanted(step):
        return step / rise if step < rise else 1 / math.sqrt((step + scale - rise) / scale)

    points = [[step, 0.3 * wanted(step)] for step in (0, 1, 24, 25, 26, 100, 10_000, 10**6)]
    check(inverse_sqrt(0.3, **settings), points)


def test_a_ratio_is_a_share_of_the_steps_that_are_told():
    settings = {"warmup_ratio": 0.1, "total_steps": 50}
    assert constant(1.0, **settings)(2) == inverse_sqrt(1.0, **settings)(2) == 0.4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: constant(1.0, warmup_ratio=0.1),
            r"schedule.constant: warmup_ratio=0.1 is a share of total_steps; give them too",
        ),
        (lambda: constant(-1.0), r"schedule.constant: peak=-1.0; a rate must be finite and not"),
        (lambda: constant(1.0, warmup_steps=-1), r"warmup_steps=-1 and total_steps=None; warm-up"),
        (
            lambda: inverse_sqrt(1.0, timescale=0),
            r"schedule.inverse_sqrt: timescale=0; it must be at least 1",
        ),
        (lambda: inverse_sqrt(1.0, warmup_ratio=0.1), r"schedule.inverse_sqrt: warmup_ratio=0.1"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
