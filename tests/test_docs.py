"""What docs/ says to write is run here."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "from_jax.md").read_text(encoding="utf-8")


def test_the_script_of_a_jax_user_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    loss, compiles, before, after = re.fullmatch(
        r"loss (\S+), (\d+) compile, norms (\S+) -> (\S+)\n", done.stdout
    ).groups()
    assert float(loss) < 0.1
    assert int(compiles) == 1
    assert 0 < float(after) < float(before)


def test_every_name_of_the_table_is_there():
    import mfunc as mf

    for name in set(re.findall(r"`mf\.([a-z_.]+)", PAGE)):
        value = mf
        for part in name.split("."):
            value = getattr(value, part)
