"""The numbers of other projects; `tests/golden/make_metrics.py` made them."""

from __future__ import annotations

import json

from tests.conftest import ROOT

GOLDEN = json.loads((ROOT / "tests" / "golden" / "metrics.json").read_text(encoding="utf-8"))


def columns(name: str) -> tuple[list, list]:
    """Predictions and references of an entry."""
    predictions, references = zip(*GOLDEN[name]["rows"], strict=True)
    return list(predictions), list(references)
