"""A run that the command made of a tiny model."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A run that the command made."""
    # Here, not at the top: the other verbs need no MindSpore.
    from tests.recipe.tiny_run import tiny_recipe

    from mfunc import recipe
    from mfunc.cli import main

    folder = tmp_path_factory.mktemp("command")
    text = recipe.show(tiny_recipe(folder))
    (folder / "run.toml").write_text(text)
    assert main(["train", "--config", str(folder / "run.toml"), "--set", "train.steps=3"]) == 0
    return folder
