from __future__ import annotations

import inspect

import pytest

from mfunc import optim, schedule
from mfunc.recipe.choices import ADAPTERS, CHOICES


def test_every_optimizer_and_schedule_can_be_named():
    """What takes a learning rate is an optimizer of its own; the others change one."""
    every = {
        name
        for name in optim.__all__
        if "learning_rate" in inspect.signature(getattr(optim, name)).parameters
    }
    assert set(CHOICES["optimizer"]) == every - {"layerwise"}
    assert set(CHOICES["schedule"]) == set(schedule.__all__) - {"Schedule"}


@pytest.mark.parametrize("section", CHOICES)
def test_defaults_are_arguments(section):
    for fn, defaults in CHOICES[section].values():
        assert fn is None or set(defaults) <= set(inspect.signature(fn).parameters)


def test_an_adapter_is_a_module_of_the_same_verbs():
    for module in ADAPTERS.values():
        assert module is None or {"Config", "init", "apply", "specs"} <= set(dir(module))
