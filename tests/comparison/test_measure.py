from __future__ import annotations

import math

import pytest
from tests.comparison.tiny import tiny

from mfunc.comparison.layouts import samples_of
from mfunc.comparison.measure import config_of, costs_of, enough, full_batch, measure


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("measure"))


@pytest.fixture(scope="module")
def found(settings):
    return {name: measure(name, settings) for name in ("static", "both", "neat_pack")}


def test_what_is_measured(found):
    for row in found.values():
        assert row["steps"] == len(row["losses"]) == len(row["tokens"]) >= 2
        assert row["rate"] > 0
        assert row["megabytes"] > 10
        assert len(row["compilations"]) >= 1
    padding = {name: row["padding"] for name, row in found.items()}
    assert max(padding["neat_pack"], padding["both"]) < padding["static"]
    assert found["both"]["graphs"] == 1 + len(found["both"]["own_graphs"])
    assert found["both"]["dynamic_over_static"] >= 1


def test_the_first_loss_is_of_the_same_model(found, settings):
    """Before the first update every layout has the same weights."""
    _, vocabulary = samples_of(settings)
    for row in found.values():
        assert row["losses"][0] == pytest.approx(math.log(vocabulary), abs=0.1)


def test_an_epoch_is_the_steps_that_were_timed_and_the_graphs(found, settings):
    total = samples_of(settings)[0]["input_ids"].lengths.sum()
    for row in found.values():
        seconds = total / row["tokens_per_second"] + row["compile_seconds"]
        assert row["epoch_seconds"] == pytest.approx(seconds)
        assert row["rate"] == pytest.approx(total / seconds)


def test_costs_are_of_the_length_that_comes_most_often(settings):
    samples, vocabulary = samples_of(settings)
    costs = costs_of(samples, config_of(settings, vocabulary), settings)
    assert 0 <= costs.faster <= 1
    assert costs.seconds > 0
    assert costs.compile_seconds > 0.1


@pytest.mark.parametrize(("tokens", "count"), [(1, 2), (8, 2), (9, 3), (100, 5)])
def test_at_least_two_batches_are_taken(tokens, count):
    batches = [full_batch(2, 2)] * 5
    assert len(list(enough(iter(batches), tokens))) == count
