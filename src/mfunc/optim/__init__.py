"""Optimizers: pairs of pure functions, `init(params) -> state` and `update(grads, state, params)`.

`update` returns `(updates, state)`; `apply_updates` adds the updates to the parameters. A state is
a tree of dicts and tuples, in float32 whatever the parameters are. `chain` composes pairs into one.

    optimizer = chain(clip_by_global_norm(1.0), adamw(cosine(1e-3, total_steps=500)))
    state = optimizer.init(params)
    updates, state = optimizer.update(grads, state, params)
    params = apply_updates(params, updates)
"""

from mfunc.optim.accumulation import accumulate
from mfunc.optim.adaptive import adam, adamw, lamb
from mfunc.optim.averaging import ema
from mfunc.optim.choosing import all_but
from mfunc.optim.clipping import clip_by_global_norm, clip_by_value, global_norm
from mfunc.optim.core import Optimizer, apply_updates, chain, flatten, step
from mfunc.optim.decay import add_decayed_weights
from mfunc.optim.descent import lion, sgd
from mfunc.optim.factored import adafactor
from mfunc.optim.grouping import layerwise, masked, multi
from mfunc.optim.orthogonal import muon
from mfunc.optim.scaling import all_finite, dynamic_loss_scale, skip_nonfinite

__all__ = [
    "Optimizer", "accumulate", "adafactor", "adam", "adamw", "add_decayed_weights", "all_but",
    "all_finite", "apply_updates", "chain", "clip_by_global_norm", "clip_by_value",
    "dynamic_loss_scale", "ema", "flatten", "global_norm", "lamb", "layerwise", "lion", "masked",
    "multi", "muon", "sgd", "skip_nonfinite", "step",
]  # fmt: skip
