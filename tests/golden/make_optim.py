"""Writes optim.npz: each optimizer after 1, 10 and 100 steps, and clipping by global norm.

The references are optax and torch.optim, each in float32 and in float64 on the same float32
gradients (`inputs.optim_problem`). README.md describes every array. Needs: optax, jax, torch, numpy
(versions in README.md). Run:

    python make_optim.py --out <folder>

The file is the same to the byte, run after run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from inputs import optim_problem
from optax import contrib

SEED, STEPS, KEPT = 7, 100, (1, 10, 100)
LR = 1e-2
ADAM = {"b1": 0.9, "b2": 0.95, "eps": 1e-8}
DECAY = {"weight_decay": 0.1}
COSINE = {"init_value": 0.0, "peak_value": LR, "warmup_steps": 10, "decay_steps": STEPS}

# The settings in README.md are read from here.
OPTAX = {
    "adamw": lambda: optax.adamw(LR, **ADAM, **DECAY),
    "clip_adamw": lambda: optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(LR, **ADAM, **DECAY)
    ),
    "adamw_cosine": lambda: optax.adamw(
        optax.warmup_cosine_decay_schedule(**COSINE), **ADAM, **DECAY
    ),
    "adamw_masked": lambda: optax.adamw(
        LR, **ADAM, **DECAY, mask=lambda params: {name: p.ndim > 1 for name, p in params.items()}
    ),
    "adam": lambda: optax.adam(LR, **ADAM),
    "sgd": lambda: optax.sgd(LR),
    "sgd_momentum": lambda: optax.sgd(LR, momentum=0.9),
    "sgd_nesterov": lambda: optax.sgd(LR, momentum=0.9, nesterov=True),
    "lion": lambda: optax.lion(1e-3, b1=0.9, b2=0.99, **DECAY),
    "lamb": lambda: optax.lamb(LR, b1=0.9, b2=0.999, eps=1e-6, **DECAY),
    "adafactor": lambda: optax.adafactor(LR, min_dim_size_to_factor=4),
    "adafactor_unfactored": lambda: optax.adafactor(LR, factored=False),
    "adafactor_momentum": lambda: optax.adafactor(
        LR,
        min_dim_size_to_factor=4,
        momentum=0.9,
        dtype_momentum=jnp.result_type(float),  # float32, or float64 where that is enabled
        weight_decay_rate=1e-3,
    ),
    "muon": lambda: contrib.muon(LR, beta=0.95, weight_decay=0.1),
    "accumulate": lambda: optax.MultiSteps(optax.adamw(LR, **ADAM, **DECAY), every_k_schedule=5),
}
# These are judged by the update that they return, not by the parameters that it leads to.
OPTAX_UPDATES = {
    "ema": lambda: optax.ema(0.9, debias=True),
    "ema_biased": lambda: optax.ema(0.9, debias=False),
}
TORCH = {
    "torch_adamw": lambda p: torch.optim.AdamW(
        p, lr=LR, betas=(ADAM["b1"], ADAM["b2"]), eps=ADAM["eps"], **DECAY
    ),
}

Tree = dict[str, np.ndarray]


def run_optax(make: Callable, dtype: type, params: Tree, grads: list[Tree]) -> Iterator[tuple]:
    """(parameters, updates) after each step, the gradients given in `dtype`."""
    with jax.enable_x64(dtype == np.float64):
        optimizer = make()
        params = {name: jnp.asarray(p, dtype) for name, p in params.items()}
        state = optimizer.init(params)
        update = jax.jit(optimizer.update)
        for grad in grads:
            grad = {name: jnp.asarray(g, dtype) for name, g in grad.items()}
            updates, state = update(grad, state, params)
            params = optax.apply_updates(params, updates)
            yield as_numpy(params, dtype), as_numpy(updates, dtype)


def as_numpy(tree: dict, dtype: type) -> Tree:
    """The arrays, of which each must really have been computed in `dtype`."""
    if wrong := {name: x.dtype for name, x in tree.items() if x.dtype != dtype}:
        raise TypeError(f"as_numpy: expected {dtype}, got {wrong}")
    return {name: np.asarray(x) for name, x in tree.items()}


def run_torch(make: Callable, dtype: type, params: Tree, grads: list[Tree]) -> Iterator[tuple]:
    """(parameters, None) after each step."""
    tensors = {name: torch.tensor(p.astype(dtype)) for name, p in params.items()}
    optimizer = make(list(tensors.values()))
    for grad in grads:
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(grad[name].astype(dtype))
        optimizer.step()
        yield {name: tensor.numpy().copy() for name, tensor in tensors.items()}, None


def run_uncorrected(dtype: type, params: Tree, grads: list[Tree]) -> Iterator[tuple]:
    """Adam without bias correction, by its formula: mindspore.nn.AdamWeightDecay, BERT's optimizer.

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p = p - lr (m / (sqrt(v) + eps) + decay p)
    """
    b1, b2, eps, lr, decay = (
        dtype(x) for x in (*(ADAM[k] for k in ("b1", "b2", "eps")), LR, DECAY["weight_decay"])
    )
    one = dtype(1)
    params = {name: p.astype(dtype) for name, p in params.items()}
    m, v = ({name: np.zeros_like(p) for name, p in params.items()} for _ in range(2))
    for grad in grads:
        for name, g in grad.items():
            m[name] = b1 * m[name] + (one - b1) * g.astype(dtype)
            v[name] = b2 * v[name] + (one - b2) * g.astype(dtype) ** 2
            step = m[name] / (np.sqrt(v[name]) + eps) + decay * params[name]
            params[name] = params[name] - lr * step
        yield dict(params), None


def trajectories() -> dict[str, np.ndarray]:
    """`<optimizer>/<float32|float64>/step<n>/<leaf>` for all of the above."""
    problem = optim_problem(SEED, STEPS)
    runs = {name: partial(run_optax, make) for name, make in (OPTAX | OPTAX_UPDATES).items()}
    runs |= {name: partial(run_torch, make) for name, make in TORCH.items()}
    runs["adamw_uncorrected"] = run_uncorrected
    arrays = {}
    for name, run in runs.items():
        for dtype in (np.float32, np.float64):
            for step, (params, updates) in enumerate(run(dtype, *problem), 1):
                if step in KEPT:
                    kept = updates if name in OPTAX_UPDATES else params
                    prefix = f"{name}/{dtype.__name__}/step{step}"
                    arrays |= {f"{prefix}/{leaf}": x for leaf, x in kept.items()}
        print(f"{name}: max |float32 - float64| = {worst(arrays, name):.1e}")
    check_agreement(arrays)
    return arrays


def worst(arrays: dict[str, np.ndarray], name: str) -> float:
    """The largest difference between the float32 and the float64 run of one optimizer."""
    keys = [key for key in arrays if key.startswith(f"{name}/float32/")]
    return max(np.abs(arrays[k] - arrays[k.replace("float32", "float64")]).max() for k in keys)


def check_agreement(arrays: dict[str, np.ndarray]) -> None:
    """optax and torch are the same AdamW in float64, so the float64 runs are what they say."""
    for key, value in arrays.items():
        if key.startswith("torch_adamw/float64"):
            same = arrays[key.removeprefix("torch_")]
            np.testing.assert_allclose(same, value, rtol=0, atol=1e-13)


def global_norm_cases() -> dict[str, np.ndarray]:
    """`norm/<case>/...`: a tree, its norm, and the tree clipped to norm `max_norm` by optax."""
    rng = np.random.default_rng(SEED + 1)
    tree = {"a": rng.standard_normal((3, 4)), "b": rng.standard_normal(5), "c": rng.normal()}
    cases = {
        "above": tree,
        "below": {name: 0.01 * x for name, x in tree.items()},
        "equal": {"a": np.array([[0.6, 0.0]]), "b": np.array([0.0, 0.8]), "c": 0.0},
        "zero": {name: np.zeros_like(x) for name, x in tree.items()},
        "large": {name: 1e15 * x for name, x in tree.items()},
        "small": {name: 1e-15 * x for name, x in tree.items()},
    }
    arrays = {"norm/max_norm": np.float32(1.0)}
    for case, values in cases.items():
        given = {name: np.asarray(x, np.float32) for name, x in values.items()}
        arrays |= {f"norm/{case}/tree/{name}": x for name, x in given.items()}
        for dtype in (np.float32, np.float64):
            with jax.enable_x64(dtype == np.float64):
                leaves = {name: jnp.asarray(x, dtype) for name, x in given.items()}
                clip = optax.clip_by_global_norm(1.0)
                clipped, _ = clip.update(leaves, clip.init(leaves))
                arrays[f"norm/{case}/{dtype.__name__}/norm"] = np.asarray(optax.global_norm(leaves))
                arrays |= {
                    f"norm/{case}/{dtype.__name__}/clipped/{name}": x
                    for name, x in as_numpy(clipped, dtype).items()
                }
    return arrays


def main() -> None:
    """Reads the arguments and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    params, grads = optim_problem(SEED, STEPS)
    sums = [x.astype(np.float64).sum() for tree in (params, *grads) for x in tree.values()]
    problem = {"seed": np.int64(SEED), "steps": np.int64(STEPS), "checksum": np.float64(sum(sums))}
    np.savez(args.out / "optim.npz", **problem, **trajectories(), **global_norm_cases())


if __name__ == "__main__":
    main()
