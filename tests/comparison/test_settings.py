from __future__ import annotations

from pathlib import Path

import pytest

from mfunc.comparison import LAYOUTS, Settings


def test_by_default_all_layouts_are_compared():
    settings = Settings(data="rows.json", tokenizer="tokenizer.model")
    assert settings.layouts == tuple(LAYOUTS)
    assert (settings.data, settings.seq_length) == (Path("rows.json"), 2048)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layouts": ["static", "statik"]}, r"layouts: 'statik' is unknown; known are static, dy"),
        ({"layouts": []}, r"layouts: none is named; known are static"),
        ({"seq_length": 0}, r"seq_length=0; it must be at least 1"),
        ({"static_rows": -1}, r"static_rows=-1; it must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings(data="x", tokenizer="y", **changes)
