"""The command itself: words, errors, exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mfunc.cli import VERBS, main


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


@pytest.mark.parametrize(
    "words",
    [" ".join((group, verb)).strip() for group, (_, v) in VERBS.items() for verb in v or [""]],
)
def test_help_shows_an_example(capsys, words):
    with pytest.raises(SystemExit) as caught:
        main([*words.split(), "--help"])
    assert caught.value.code == 0
    assert f"\n  mfunc {words} " in capsys.readouterr().out


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    """As in `mfunc ... | head -1`."""
    rows = '{"a": 1}\n'
    (tmp_path / "x.jsonl").write_text(rows)
    code = "import sys, mfunc.cli; sys.exit(mfunc.cli.main(['data', 'inspect', 'x.jsonl']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141
