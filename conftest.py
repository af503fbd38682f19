"""For the tests and for the doctests in src: each runs in an empty folder of its own."""

from __future__ import annotations

import pytest

import mfunc  # noqa: F401  before MindSpore: it quiets its log


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """On a compile error MindSpore writes rank_0/om/ into the working directory."""
    monkeypatch.chdir(tmp_path)
