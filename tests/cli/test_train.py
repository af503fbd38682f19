"""`mfunc train` on a tiny model."""

from __future__ import annotations

from mfunc import recipe
from mfunc.cli import main


def test_a_run_by_the_command(run_folder):
    root = run_folder / "runs" / "run"
    assert recipe.read(root / "recipe.toml").train.steps == 3
    assert {path.name for path in (root / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip


def test_show_prints_every_setting(capsys):
    assert main(["train", "--show", "--set", "optimizer.name=lion"]) == 0
    out = capsys.readouterr().out
    assert 'name = "lion"' in out
    assert "batch_size = 8" in out


def test_errors_are_one_line(run_folder, capsys):
    assert main(["train"]) == 2
    assert "mfunc train: --config is missing" in capsys.readouterr().err
    assert main(["train", "--config", str(run_folder / "run.toml"), "--set", "train.stepz=3"]) == 2
    assert "unknown key stepz; did you mean steps?" in capsys.readouterr().err
    assert main(["train", "--show", "--set", "model.path=/nowhere", "--config", "no.toml"]) == 2
    assert "no.toml: no such file" in capsys.readouterr().err
