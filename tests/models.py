"""A tiny LLaMA for tests, compiled once a process, and batches for it."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor

import mfunc.data as md
from mfunc import random
from mfunc.gradient import value_and_grad
from mfunc.loss import next_token_loss
from mfunc.nn import llama
from mfunc.transform import jit

TINY = llama.Config(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    initializer_range=0.3,
)


def params(seed: int = 0, config: llama.Config = TINY) -> dict:
    return llama.init(random.key(seed), config)


def logits(params, config, batch):
    return llama.apply(
        params,
        config,
        batch["input_ids"],
        segment_ids=batch["segment_ids"],
        position_ids=batch["position_ids"],
    )


def loss(params, config, batch):
    """The mean loss, and the count beside it."""
    return next_token_loss(logits(params, config, batch), batch["labels"], batch["segment_ids"])


eager_gradients = value_and_grad(loss, has_aux=True)
gradients = jit(value_and_grad(loss, has_aux=True), static_argnums=1)
fast_logits = jit(logits, static_argnums=1)


def batch_of(segment_ids: np.ndarray, seed: int = 0) -> dict[str, Tensor]:
    """Random tokens in the given segments; a third of the labels is not trained."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, TINY.vocab_size, segment_ids.shape).astype(np.int32)
    ignored = (rng.random(ids.shape) < 0.3) | (segment_ids == 0)
    columns = {
        "input_ids": ids,
        "labels": np.where(ignored, -100, ids).astype(np.int32),
        "segment_ids": segment_ids.astype(np.int32),
        "position_ids": md.position_ids(segment_ids),
    }
    return {name: Tensor(np.asarray(column, np.int32)) for name, column in columns.items()}


# Every family that decodes, with a tiny config: the laws of layouts go through all of them.
DECODERS = {"llama": (llama, TINY)}
