"""Optimizers: pairs of pure functions, `init(params) -> state` and `update(grads, state, params)`.

`update` returns `(updates, state)`; `apply_updates` adds the updates to the parameters. A state is
a tree of dicts and tuples, in float32 whatever the parameters are. `chain` composes pairs into one.

    optimizer = chain(clip_by_global_norm(1.0), adamw(cosine(1e-3, total_steps=500)))
    state = optimizer.init(params)
    updates, state = optimizer.update(grads, state, params)
    params = apply_updates(params, updates)
"""

from mfunc.optim.adaptive import adamw
from mfunc.optim.clipping import clip_by_global_norm, global_norm
from mfunc.optim.core import Optimizer, apply_updates, chain, flatten, step
from mfunc.optim.descent import sgd

__all__ = [
    "Optimizer", "adamw", "apply_updates", "chain", "clip_by_global_norm", "flatten",
    "global_norm", "sgd", "step",
]  # fmt: skip
