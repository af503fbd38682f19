"""`mfunc eval` of a tiny run."""

from __future__ import annotations

import json

from mfunc.cli import main


def test_eval_prints_numbers_as_json(run_folder, capsys):
    config = ["--config", str(run_folder / "run.toml"), "--set", "train.steps=3"]
    assert main(["eval", *config, "--checkpoint", "latest"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["step"] == 3
    assert told["loss"] > 0


def test_a_checkpoint_of_other_settings_is_refused_by_name(run_folder, capsys):
    assert main(["eval", "--config", str(run_folder / "run.toml"), "--checkpoint", "latest"]) == 2
    assert "train.steps is 3 in the checkpoint and 6 in this run" in capsys.readouterr().err
