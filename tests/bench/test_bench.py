"""The scripts of `bench/` run at a tiny size. What they measure is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.conftest import ROOT

RUNS = {
    "attention.py": (["--lengths", "128", "--block", "32", "--rounds", "1"], "times faster"),
    "pack.py": (["--rows", "300", "--seq-length", "256"], "tightest"),
    "checkpoint.py": (["--megabytes", "1", "--rounds", "1"], "save, checksummed"),
    "words.py": (["--rounds", "1"], "words, warm"),
    "train.py": (["fit", "save", "--tiny", "--rounds", "1"], "of the disk's speed"),
}


@pytest.mark.parametrize("script", RUNS)
def test_it_prints_its_table(script):
    options, line = RUNS[script]
    command = [sys.executable, str(ROOT / "bench" / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert line in done.stdout


@pytest.mark.slow
def test_training_beside_the_full_fine_tune_and_its_peers(tmp_path):
    command = [sys.executable, str(ROOT / "bench/train.py"), "lora", "peers", "--tiny"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "full fine-tune" in done.stdout
    assert "PyTorch + PEFT" in done.stdout  # or that it is not installed


def test_no_script_is_forgotten():
    """Those of transforms take minutes: the parts that they time are tests of their own."""
    slow = {"transform.py", "updates.py"}
    shared = {"measure.py", "samples.py"}
    own_test = {"data.py"}
    scripts = {path.name for path in (ROOT / "bench").glob("*.py")}
    assert scripts == {*RUNS, *slow, *shared, *own_test}


def test_files_to_files(shared, tmp_path):
    rows = json.loads((shared / "data/alpaca/alpaca_51k.json").read_text())[:200]
    (tmp_path / "few.json").write_text(json.dumps(rows))
    model = shared / "data/tokenizers/llama/tokenizer.model"
    command = [sys.executable, str(ROOT / "bench/data.py"), "--data", "few.json", str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "MindSpeed" in done.stdout
