from __future__ import annotations

import mindspore as ms
import pytest

from mfunc import schedule
from mfunc.schedule import cosine
from mfunc.schedule.rising import between, number

EVERY = {
    "constant": {},
    "inverse_sqrt": {},
    "linear": {},
    "cosine": {},
    "polynomial": {"power": 2.0},
    "cosine_with_restarts": {"cycles": 1},
    "wsd": {"decay_steps": 5},
}


def test_every_schedule_is_here():
    assert {*EVERY, "Schedule"} == set(schedule.__all__)


@pytest.mark.parametrize("name", EVERY)
def test_every_schedule_rises_from_0_to_its_peak(name):
    make, settings = getattr(schedule, name), {**EVERY[name], "total_steps": 100}
    by_steps = make(0.5, warmup_steps=20, **settings)
    by_ratio = make(0.5, warmup_ratio=0.2, **settings)
    assert [by_steps(step) for step in (0, 5, 10, 20)] == [0.0, 0.125, 0.25, 0.5]
    assert [by_steps(step) for step in range(120)] == [by_ratio(step) for step in range(120)]
    assert make(0.5, **settings)(0) == 0.5
    assert by_steps(21) <= 0.5


@pytest.mark.parametrize("settings", [{}, {"warmup_steps": 0}, {"warmup_ratio": 0.0}])
def test_without_warm_up_it_starts_at_the_peak(settings):
    assert cosine(0.5, total_steps=10, **settings)(0) == 0.5


@pytest.mark.parametrize(
    ("ratio", "rise"), [(0.29, 29), (0.57, 57), (0.07, 7), (0.555, 55), (1.0, 100)]
)
def test_a_ratio_is_rounded_down_but_not_by_a_rounding_error(ratio, rise):
    """100 * 0.29 is 28.999999999999996, and 100 * 0.07 is 7.000000000000001."""
    by_ratio = cosine(1.0, total_steps=100, warmup_ratio=ratio)
    by_steps = cosine(1.0, total_steps=100, warmup_steps=rise)
    assert [by_ratio(step) for step in range(101)] == [by_steps(step) for step in range(101)]


def test_words_for_ints_and_tensors():
    assert (number(3), type(number(3))) == (3.0, float)
    assert number(ms.Tensor([3], ms.int32)).dtype == ms.float32
    assert [between(x, 0, 4) for x in (-1, 2, 9)] == [0, 2, 4]
    assert between(ms.Tensor([-1, 2, 9], ms.int32), 0, 4).asnumpy().tolist() == [0, 2, 4]
