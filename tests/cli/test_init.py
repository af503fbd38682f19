"""The command itself: words, errors, exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mfunc.cli import main


def test_an_unknown_group_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["date", "pack"])
    assert caught.value.code == 2
    assert "invalid choice: 'date'" in capsys.readouterr().err


def test_help_loads_nothing_slow():
    code = (
        "import sys, mfunc.cli\n"
        "try: mfunc.cli.main(['data', '--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'mindspore', 'matplotlib', 'pyarrow', 'sentencepiece', 'tokenizers'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
