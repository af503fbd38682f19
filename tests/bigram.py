"""A model whose next token depends on the last one only, so what it generates can be written down.

`params["scores"]` [V, V] are the logits after each token. It is a file of its own because the
compiler imports the module that it is told to call.
"""

from __future__ import annotations

import attrs
import mindspore as ms
import numpy as np
from mindspore import ops


@attrs.frozen
class Config:
    vocab_size: int


def init_cache(config, batch, length):
    return {"length": ops.zeros((batch,), ms.int32)}


def decode(params, config, cache, input_ids, valid):
    return params["scores"][input_ids], {"length": cache["length"] + valid}


def cycle(tokens, size=256):
    """Scores under which each token is followed by the next one, and the last by the first."""
    scores = np.zeros((size, size), np.float32)
    scores[tokens, np.roll(tokens, -1)] = 9.0
    return {"scores": scores}
