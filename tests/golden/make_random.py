"""Writes random.json: keys, bits and numbers of `jax.random`, drawn by its default generator.

README.md describes the entries. Needs: jax (version in README.md). Run:

    python make_random.py --out <folder>

The file is the same to the byte, run after run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import jax
import numpy as np

SEEDS = (0, 7, 2**32 + 5, 2**63 + 11)
SHAPES = ((), (1,), (5,), (2, 3), (3, 1, 4))
DATA = (0, 1, 123456, 2**32 - 1)


def hexadecimal(numbers: jax.Array) -> list:
    """float32 as their bits, so that the text holds them exactly."""
    bits = np.asarray(numbers, np.float32).view(np.uint32)
    return [f"{x:08x}" for x in bits.reshape(-1).tolist()]


def entry(seed: int) -> dict:
    """What one seed gives."""
    key = jax.random.PRNGKey(np.uint64(seed))
    return {
        "seed": seed,
        "key": key.tolist(),
        "split": {n: jax.random.split(key, n).tolist() for n in (1, 2, 5)},
        "fold_in": [[data, jax.random.fold_in(key, data).tolist()] for data in DATA],
        "draws": [
            {
                "shape": shape,
                "bits": np.asarray(jax.random.bits(key, shape, np.uint32)).reshape(-1).tolist(),
                "uniform": hexadecimal(jax.random.uniform(key, shape, np.float32)),
                "normal": hexadecimal(jax.random.normal(key, shape, np.float32)),
            }
            for shape in SHAPES
        ],
    }


def main() -> None:
    """Reads the arguments and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # seeds of 64 bits
    jax.config.update("jax_threefry_partitionable", True)
    text = ",\n".join(json.dumps(entry(seed)) for seed in SEEDS)
    (args.out / "random.json").write_text(f"[\n{text}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
