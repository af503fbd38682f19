"""The generators need packages that the project does not list: pytest must not import them."""

from __future__ import annotations

collect_ignore_glob = ["make_*.py"]
