"""The golden problem of the optimizers, and every optimizer that must solve it."""

from __future__ import annotations

import functools
from pathlib import Path

import mindspore as ms
import numpy as np
from tests.golden.inputs import optim_problem

from mfunc import optim, tree
from mfunc.optim import (
    accumulate,
    adafactor,
    adam,
    adamw,
    add_decayed_weights,
    all_but,
    apply_updates,
    chain,
    clip_by_global_norm,
    clip_by_value,
    dynamic_loss_scale,
    ema,
    flatten,
    lamb,
    lion,
    masked,
    multi,
    muon,
    sgd,
    skip_nonfinite,
)
from mfunc.schedule import cosine
from mfunc.transform import jit

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "optim.npz")
PARAMS, GRADS = optim_problem(int(GOLDEN["seed"]), int(GOLDEN["steps"]))
BETAS = {"b1": 0.9, "b2": 0.95, "eps": 1e-8}
SETTINGS = {**BETAS, "weight_decay": 0.1}
SMALL = {"min_dim_size_to_factor": 4}
ADAMW = adamw(1e-2, **SETTINGS)

# Name in optim.npz -> what must do the same.
OPTIMIZERS = {
    "adamw": ADAMW,
    "adamw_uncorrected": adamw(1e-2, **SETTINGS, bias_correction=False),
    "adamw_cosine": adamw(cosine(1e-2, total_steps=100, warmup_steps=10), **SETTINGS),
    "adamw_masked": adamw(1e-2, **SETTINGS, mask=("w", "e")),
    "clip_adamw": chain(clip_by_global_norm(1.0), ADAMW),
    "adam": adam(1e-2, **BETAS),
    "sgd": sgd(1e-2),
    "sgd_momentum": sgd(1e-2, momentum=0.9),
    "sgd_nesterov": sgd(1e-2, momentum=0.9, nesterov=True),
    "lion": lion(1e-3, b1=0.9, b2=0.99, weight_decay=0.1),
    "lamb": lamb(1e-2, b1=0.9, b2=0.999, eps=1e-6, weight_decay=0.1),
    "adafactor": adafactor(1e-2, **SMALL),
    "adafactor_unfactored": adafactor(1e-2, factored=False),
    "adafactor_momentum": adafactor(1e-2, **SMALL, momentum=0.9, weight_decay_rate=1e-3),
    "muon": muon(1e-2, beta=0.95, weight_decay=0.1),
    "accumulate": accumulate(5, ADAMW),
}
# The same numbers by other ways: name -> the case of optim.npz.
WAYS = {
    "flatten(clip_adamw)": flatten(OPTIMIZERS["clip_adamw"]),
    "dynamic_loss_scale(accumulate)": dynamic_loss_scale(accumulate(5, ADAMW), initial=1.0),
    "multi(adamw_masked)": multi({"b": adamw(1e-2, **BETAS, weight_decay=0.0), "*": ADAMW}),
}
# Judged by their updates.
AVERAGES = {"ema": ema(0.9), "ema_biased": ema(0.9, debias=False)}
# Without a golden case: members of chains, and wrappers in wrappers.
DEEP = chain(
    clip_by_global_norm(1.0),
    masked(add_decayed_weights(1e-3), all_but("b")),
    multi({"b": None, "w": chain(clip_by_value(0.2), adamw(1e-2)), "*": muon(1e-2)}),
)
OTHERS = {
    "clip": clip_by_global_norm(1.0),
    "clip_by_value": clip_by_value(0.2),
    "add_decayed_weights": add_decayed_weights(0.1, mask="w"),
    "deep": dynamic_loss_scale(accumulate(2, DEEP), initial=4.0),
    "skip": skip_nonfinite(accumulate(2, multi({"b": adafactor(1e-2), "*": lion(1e-2)}))),
}
EVERY = {**OPTIMIZERS, **WAYS, **AVERAGES, **OTHERS}


def case_of(name):
    """The case in optim.npz that an optimizer must agree with."""
    return name.split("(")[-1].removesuffix(")")


def tensors(arrays, dtype=ms.float32):
    return {name: ms.Tensor(array).astype(dtype) for name, array in arrays.items()}


def arrays(node):
    return [leaf.asnumpy() for leaf in tree.leaves(node)]


def same_bits(first, second):
    return [a.tobytes() for a in arrays(first)] == [a.tobytes() for a in arrays(second)]


def step_of(optimizer):
    def step(params, state, grads):
        updates, after = optimizer.update(grads, state, params)
        return apply_updates(params, updates), after, updates

    return step


@functools.cache
def compiled(name):
    """The step of an optimizer, compiled once for all tests."""
    return jit(step_of(EVERY[name]))


def run(optimizer, steps=3, step=None):
    """The updates of the first steps."""
    params = tensors(PARAMS)
    state, seen = optimizer.init(params), []
    step = step or step_of(optimizer)
    for grads in GRADS[:steps]:
        params, state, updates = step(params, state, tensors(grads))
        seen.append(updates)
    return seen


def state_of(optimizer, params=None):
    params = tensors(PARAMS) if params is None else params
    return {"params": params, "optimizer": optimizer.init(params)}


def train_step_of(optimizer):
    """A step of a state with gradients given, as `train_step` makes it of a loss."""

    def step(state, grads, weight, home=None):
        held = state["optimizer"]
        factor = optimizer.scale(held) if optimizer.scale is not None else 1.0

        def scaled(grad):
            return grad * factor

        grads = tree.map(scaled, grads)
        params, after = optim.step(optimizer, grads, held, state["params"], home, weight)
        return {"params": params, "optimizer": after}, {"sum": grads["w"].sum()}

    return step
