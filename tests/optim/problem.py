"""The golden problem of the optimizers, and the optimizers that must solve it."""

from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
from tests.golden.inputs import optim_problem

from mfunc import tree
from mfunc.optim import adamw, apply_updates, chain, clip_by_global_norm, flatten, sgd
from mfunc.schedule import cosine

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "optim.npz")
PARAMS, GRADS = optim_problem(int(GOLDEN["seed"]), int(GOLDEN["steps"]))
SETTINGS = {"b1": 0.9, "b2": 0.95, "eps": 1e-8, "weight_decay": 0.1}

# Name in optim.npz -> what must do the same.
OPTIMIZERS = {
    "adamw": adamw(1e-2, **SETTINGS),
    "adamw_uncorrected": adamw(1e-2, **SETTINGS, bias_correction=False),
    "adamw_cosine": adamw(cosine(1e-2, total_steps=100, warmup_steps=10), **SETTINGS),
    "clip_adamw": chain(clip_by_global_norm(1.0), adamw(1e-2, **SETTINGS)),
    "sgd": sgd(1e-2),
}
FLAT = {f"flatten({name})": flatten(optimizer) for name, optimizer in OPTIMIZERS.items()}
EVERY = {**OPTIMIZERS, **FLAT, "clip": clip_by_global_norm(1.0)}


def tensors(arrays, dtype=ms.float32):
    return {name: ms.Tensor(array).astype(dtype) for name, array in arrays.items()}


def arrays(node):
    return [leaf.asnumpy() for leaf in tree.leaves(node)]


def same_bits(first, second):
    return [a.tobytes() for a in arrays(first)] == [a.tobytes() for a in arrays(second)]


def step_of(optimizer):
    def step(params, state, grads):
        updates, after = optimizer.update(grads, state, params)
        return apply_updates(params, updates), after

    return step


def run(optimizer, steps=3):
    params = tensors(PARAMS)
    state, seen = optimizer.init(params), []
    for grads in GRADS[:steps]:
        updates, state = optimizer.update(tensors(grads), state, params)
        seen.append(updates)
        params = apply_updates(params, updates)
    return seen
