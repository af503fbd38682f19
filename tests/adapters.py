"""Every adapter on the tiny LLaMA, for the tests that all of them go through."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

from mindspore import Tensor
from tests import models
from tests.models import TINY

from mfunc import random, tree
from mfunc.adapt import adapter, bitfit, prefix, ptuning
from mfunc.loss import next_token_loss
from mfunc.nn import llama


class Method(NamedTuple):
    """A method and settings for it."""

    module: ModuleType
    config: Any


METHODS = {
    "prefix": Method(prefix, prefix.Config(num_virtual_tokens=3, mid_dim=6, dropout=0.3)),
    "ptuning": Method(ptuning, ptuning.Config(pre_seq_len=2, dropout=0.0)),
    "adapter": Method(adapter, adapter.Config(bottleneck=5)),
    "low_rank": Method(adapter, adapter.Config(bottleneck=5, rank=2)),
    "bitfit": Method(bitfit, bitfit.Config(targets=("*norm",))),
}


def made(name: str, seed: int = 0) -> tree.Tree:
    """An adapter of which no leaf is zero."""
    method = METHODS[name]
    fresh = method.module.init(random.key(seed), models.params(), method.config)
    keys = iter(random.split(random.key(seed + 1000), len(tree.leaves(fresh))))
    return tree.map(lambda leaf: leaf + Tensor(0.2 * random.normal(next(keys), leaf.shape)), fresh)


def laid(name: str, params: tree.Tree, its: tree.Tree, key: Any = None) -> tree.Tree:
    return METHODS[name].module.apply(params, its, METHODS[name].config, key)


def loss_of(name: str, recompute: bool = False):
    """`loss(adapter, params, batch, key)` of a method."""
    apply, config = METHODS[name].module.apply, METHODS[name].config

    def loss(its, params, batch, key):
        logits = llama.apply(
            apply(params, its, config, key),
            TINY,
            batch["input_ids"],
            segment_ids=batch["segment_ids"],
            position_ids=batch["position_ids"],
            recompute=recompute,
        )
        return next_token_loss(logits, batch["labels"], batch["segment_ids"])

    return loss
