"""The scripts of `bench/` run at a tiny size. What they measure is no test's business."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.conftest import ROOT

RUNS = {
    "pack.py": (["--rows", "300", "--seq-length", "256"], "tightest"),
    "words.py": (["--rounds", "1"], "words, warm"),
}


@pytest.mark.parametrize("script", RUNS)
def test_it_prints_its_table(script):
    options, line = RUNS[script]
    command = [sys.executable, str(ROOT / "bench" / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert line in done.stdout


def test_no_script_is_forgotten():
    """Those of transforms take minutes: the parts that they time are tests of their own."""
    slow = {"transform.py", "updates.py"}
    shared = {"measure.py", "samples.py"}
    assert {path.name for path in (ROOT / "bench").glob("*.py")} == {*RUNS, *slow, *shared}
