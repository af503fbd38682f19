"""Inputs that the generators and the tests make anew from a seed, so that no file stores them."""

from __future__ import annotations

import numpy as np

OPTIM_SHAPES = {"w": (6, 8), "e": (16, 4), "b": (8,)}


def optim_problem(seed: int, steps: int) -> tuple[dict, list[dict]]:
    """Start parameters and `steps` gradients, float32, as dicts of three arrays.

    The global norm of the gradients runs over 0.03 to 11 in random order, so clipping at 1 acts on
    some steps and not on others. All is drawn in one order from `numpy.random.default_rng(seed)`:
    the parameters (standard normal), then for each step its scale `10 ** uniform(-2.5, 0)` and
    the arrays (standard normal, times the scale).
    """
    rng = np.random.default_rng(seed)

    def tree(scale: float) -> dict[str, np.ndarray]:
        return {
            name: (scale * rng.standard_normal(shape)).astype(np.float32)
            for name, shape in OPTIM_SHAPES.items()
        }

    params = tree(1.0)
    return params, [tree(10 ** rng.uniform(-2.5, 0.0)) for _ in range(steps)]
