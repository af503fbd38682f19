from __future__ import annotations

import attrs
import numpy as np
import pytest
from tests import adapters, models
from tests.adapters import METHODS

from mfunc import checkpoint
from mfunc.adapt import lora, storage


@pytest.fixture
def saved(tmp_path):
    """An adapter of prefix tuning in a file."""
    storage.save(tmp_path / "a.safetensors", adapters.made("prefix"), METHODS["prefix"].config)
    return tmp_path / "a.safetensors"


def load(path, name="prefix", **changes):
    config = attrs.evolve(METHODS[name].config, **changes)
    return storage.load(path, METHODS[name].module.specs(models.params(), config), config)


def test_the_file_says_what_it_holds(saved):
    wanted = {"num_virtual_tokens": 3, "mid_dim": 6, "dropout": 0.3}
    assert storage.read_config(saved) == ("prefix", wanted)
    assert sorted(checkpoint.read_arrays(saved)) == sorted(load(saved))
    config = lora.Config(rank=1, alpha=2, targets=("q",))
    storage.save(saved, {"q": {"a": np.ones((2, 1)), "b": np.ones((1, 2))}}, config)
    method, settings = storage.read_config(saved)
    assert (method, lora.Config(**settings)) == ("lora", config)


def test_another_config_is_refused_by_name(saved):
    message = "a.safetensors: dropout is 0.3 in the file, the config says 0.2; mid_dim is 6 in"
    with pytest.raises(ValueError, match=message):
        load(saved, mid_dim=7, dropout=0.2)
    with pytest.raises(ValueError, match=r"holds an adapter of prefix, the config is of ptuning"):
        load(saved, "ptuning")


def test_another_model_is_refused_by_its_shapes(saved):
    config, other = METHODS["prefix"].config, models.params()
    one = other | {"layers": other["layers"][:1]}
    with pytest.raises(ValueError, match=r"out has shape \(6, 32\), the model needs \(6, 16\)"):
        storage.load(saved, METHODS["prefix"].module.specs(one, config), config)


@pytest.mark.parametrize(
    "metadata",
    [None, {"adapter": "{"}, {"adapter": "[1]"}, {"adapter": {"method": "prefix"}},
     {"adapter": {"config": {}}}, {"adapter": {"method": "prefix", "config": [1]}}],
)  # fmt: skip
def test_a_file_of_something_else_is_refused(tmp_path, metadata):
    checkpoint.save(tmp_path / "b", {"w": np.ones(1, np.float32)}, metadata=metadata)
    with pytest.raises(
        ValueError, match=r"b: not a file of adapt.storage.save: its header has no m"
    ):
        storage.read_config(tmp_path / "b")


def test_a_file_that_is_damaged_or_absent_is_refused(saved):
    saved.write_bytes(saved.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"a.safetensors: not a whole safetensors file"):
        load(saved)
    saved.unlink()
    with pytest.raises(FileNotFoundError, match=r"a.safetensors: no such file"):
        load(saved)
