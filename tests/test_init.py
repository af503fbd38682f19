from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mfunc

SOURCES = Path(mfunc.__file__).parent


def loaded_after(code, *modules):
    """Which of the modules a fresh Python has loaded after the code."""
    script = f"{code}\nimport sys; print(*[m for m in {modules} if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(SOURCES.parent)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("mindspore", "numpy", "sentencepiece", "safetensors", "matplotlib")
    assert loaded_after("import mfunc; dir(mfunc); mfunc.__all__", *heavy) == []


def test_a_name_loads_what_it_needs():
    assert loaded_after("import mfunc; mfunc.data", "mindspore", "mfunc.data") == ["mfunc.data"]
    assert loaded_after("import mfunc; mfunc.jit", "mindspore") == ["mindspore"]


INSIDE = """
import mfunc as mf
import numpy as np


def loss(params, x):
    return mf.tree.leaves(mf.tree.map(lambda_free, params))[0] * x


def lambda_free(leaf):
    return leaf * mf.stop_gradient(leaf)


@mf.jit
def slopes(params, x):
    return mf.vmap(mf.grad(loss), (None, 0))(params, x)


print(slopes({"w": np.float32(3.0)}, np.float32([1.0, 2.0]))["w"].asnumpy())
"""


def test_public_names_inside_of_a_compiled_function(tmp_path):
    """The compiler looks names up in the module and asks for none, so they must be there."""
    script = tmp_path / "inside.py"
    script.write_text(INSIDE)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "[3. 6.]\n"


@pytest.mark.parametrize("name", sorted(mfunc.__all__))
def test_every_public_name_resolves(name):
    value = getattr(mfunc, name)
    assert value is not None
    assert value.__doc__, "and says what it is"


def test_names_are_listed_once_and_no_part_is_forgotten():
    parts = {path.stem for path in SOURCES.iterdir() if path.suffix == ".py" or path.is_dir()}
    parts -= {"__init__", "__pycache__"}
    assert parts <= set(mfunc.__all__)
    assert len(mfunc.__all__) == len(set(mfunc.__all__))
    assert dir(mfunc) == sorted(mfunc.__all__)


def test_functions_are_those_of_their_modules():
    assert mfunc.adapt is importlib.import_module("mfunc.adapt")
    assert mfunc.generate is mfunc.generation.generate
    assert mfunc.save is mfunc.checkpoint.save


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'mfunc' has no attribute 'from_pretrain'"):
        mfunc.from_pretrain  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name"):
        from mfunc import nothing_of_the_kind  # noqa: F401
