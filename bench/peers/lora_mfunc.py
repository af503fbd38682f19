"""A LoRA step in mfunc, as `examples/smollm2_lora.py` has it: loss, gradients, AdamW."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mindspore import Tensor
from peers.llama_mfunc import config_of
from peers.weights import adapter, tokens, weights

import mfunc as mf
from mfunc.adapt import lora
from mfunc.nn import llama
from mfunc.nn.names import llama as names

TARGETS = [f"layers/*/{name}" for name in ("q", "k", "v", "o", "gate", "up", "down")]


def parts(size: dict[str, int], seed: int, rank: int, full: bool) -> tuple[Any, ...]:
    """A donated step, its first state, the batch and the frozen trees."""
    config = config_of(size)
    arrays = weights(size, seed)
    params = mf.checkpoint.from_names(arrays, names.names(config), llama.specs(config), "peers")
    settings = lora.Config(rank=rank, alpha=2 * rank, targets=TARGETS)

    def loss(params, ids):  # type: ignore[no-untyped-def]
        logits = llama.factored(params, config, ids, frozen_head=not full)
        return mf.loss.next_token_loss(logits, ids)

    def lora_loss(pairs, ids, frozen):  # type: ignore[no-untyped-def]
        return loss(lora.apply(frozen, pairs, settings), ids)

    optimizer = mf.optim.adamw(1e-3, weight_decay=0.0)
    step = mf.train_step(loss if full else lora_loss, optimizer, donate=True)
    trained = params if full else pairs_of(lora.specs(params, settings), config, size, rank, seed)
    state = mf.train.init_state(trained, optimizer)
    return step, state, Tensor(tokens(size, seed)), () if full else (params,)


def pairs_of(specs: Any, config: Any, size: dict[str, int], rank: int, seed: int) -> Any:
    """The adapter that every peer starts from."""
    arrays, theirs = adapter(size, rank, seed), names.names(config)
    leaves = []
    for path in mf.tree.paths(specs):
        weight, _, side = path.rpartition("/")
        name = theirs[weight][0].replace(".weight", f".lora_{side.upper()}")
        leaves.append(Tensor(arrays[name].T.copy()))
    return mf.tree.unflatten(mf.tree.flatten(specs)[1], leaves)


def make(
    size: dict[str, int], seed: int, *, rank: int = 8, full: bool = False
) -> Callable[[], float]:
    """A step of training on fixed data, waited for."""
    step, state, ids, frozen = parts(size, seed, rank, full)

    def run() -> float:
        nonlocal state
        state, metrics = step(state, ids, *frozen)
        return float(metrics["loss"])

    return run
