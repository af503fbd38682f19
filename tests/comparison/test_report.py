from __future__ import annotations

import json

import pytest
from tests.comparison.tiny import tiny

from mfunc import cli
from mfunc.comparison import compare
from mfunc.comparison.report import table

LAYOUTS = ("static", "both")


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What a comparison tells and leaves."""
    folder, lines = tmp_path_factory.mktemp("comparison"), []
    found = compare(tiny(folder, layouts=LAYOUTS), folder / "out", lines.append)
    return found, folder, lines


def test_every_layout_is_measured_and_written(left):
    found, folder, lines = left
    assert tuple(found) == LAYOUTS
    assert json.loads(json.dumps(found)) == json.loads((folder / "out/padding.json").read_text())
    assert (folder / "out/padding.png").read_bytes()[:4] == b"\x89PNG"
    text = (folder / "out/padding.md").read_text()
    assert lines[-1] == text.rstrip("\n")
    assert any(line.startswith("a step in the graph for all lengths takes") for line in lines)


def test_the_table_compares_with_the_first_layout(left):
    found, folder, _ = left
    lines = table(found, tiny(folder, layouts=LAYOUTS)).splitlines()
    assert "static on 10 in steps of 4 rows" in lines[0]
    assert "| x static |" in lines[2]
    rows = [line.strip("| ").split(" | ") for line in lines[4:]]
    assert [row[0] for row in rows] == list(LAYOUTS)
    assert rows[0][2] == "1.00"
    assert float(rows[1][2]) == pytest.approx(
        found["both"]["rate"] / found["static"]["rate"], abs=0.006
    )


def test_what_does_not_exist_is_said(tmp_path, capsys):
    words = ["--data", "none.json", "--tokenizer", "none.model", "--output", str(tmp_path)]
    assert cli.main(["bench", "padding", *words, "--layouts", "static"]) == 2
    assert "none.model" in capsys.readouterr().err
