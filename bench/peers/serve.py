"""A contestant in a process of its own: a step a line of input; output: seconds, loss, peak MB.

python bench/peers/serve.py llama_jax '{"layers": 4, ...}' [settings of make, as JSON]
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Make the step, then serve."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from measure import high_water

    name, size, *settings = sys.argv[1:]
    began = time.perf_counter()
    make = importlib.import_module(f"peers.{name}").make
    held = high_water(reset=True)
    step = make(json.loads(size), 0, **(json.loads(settings[0]) if settings else {}))
    imported = time.perf_counter()
    loss = step()
    first = time.perf_counter() - imported
    print(json.dumps({"loss": loss, "first": first, "made": imported - began}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        loss = step()
        print(time.perf_counter() - began, loss, high_water() - held, flush=True)


if __name__ == "__main__":
    main()
