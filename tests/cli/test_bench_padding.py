from __future__ import annotations

import pytest

from mfunc import cli, comparison


@pytest.fixture
def asked(monkeypatch):
    """What the verb asks the library for."""
    found = []
    monkeypatch.setattr(comparison, "compare", lambda *given: found.append(given))
    return found


def test_flags_are_settings_and_defaults_are_those_of_the_library(asked, tmp_path):
    words = ["--data", "rows.json", "--tokenizer", "t.model", "--output", str(tmp_path)]
    assert cli.main(["bench", "padding", *words]) == 0
    assert asked == [(comparison.Settings(data="rows.json", tokenizer="t.model"), tmp_path)]
    more = ["--layouts", "static", "both", "--seq-length", "4096", "--static-rows", "2"]
    assert cli.main(["bench", "padding", *words, *more, "--recompute"]) == 0
    settings = asked[1][0]
    assert settings.layouts == ("static", "both")
    assert (settings.seq_length, settings.static_rows, settings.recompute) == (4096, 2, True)


def test_a_layout_that_is_unknown_is_refused(asked, capsys):
    words = ["--data", "rows.json", "--tokenizer", "t.model", "--layouts", "statik"]
    assert cli.main(["bench", "padding", *words]) == 2
    assert "layouts: 'statik' is unknown; known are static" in capsys.readouterr().err
    assert asked == []
