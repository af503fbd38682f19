"""The same LLaMA in mfunc: the model of the library, its loss, one compiled gradient."""

from __future__ import annotations

from collections.abc import Callable

from mindspore import Tensor
from peers.weights import RMS_EPS, ROPE_THETA, tokens, weights

import mfunc as mf
from mfunc.nn import llama
from mfunc.nn.names import llama as names


def config_of(size: dict[str, int]) -> llama.Config:
    """The sizes by the names of the library."""
    return llama.Config(
        vocab_size=size["vocab"], hidden_size=size["hidden"],
        intermediate_size=size["intermediate"], num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"], num_key_value_heads=size["kv_heads"],
        rms_norm_eps=RMS_EPS, rope_theta=ROPE_THETA, tie_word_embeddings=bool(size.get("tied")),
    )  # fmt: skip


def loss_of(config: llama.Config, recompute: bool = False):  # type: ignore[no-untyped-def]
    """The loss of ids, as a function of the parameters."""

    def loss(params, ids):  # type: ignore[no-untyped-def]
        logits = llama.apply(params, config, ids, recompute=recompute)
        return mf.loss.next_token_loss(logits, ids)[0]

    return loss


def make(size: dict[str, int], seed: int) -> Callable[[], float]:
    """A step: one loss and gradient on fixed data, waited for."""
    config = config_of(size)
    arrays = weights(size, seed)
    params = mf.checkpoint.from_names(arrays, names.names(config), llama.specs(config), "peers")
    ids = Tensor(tokens(size, seed))
    loss_and_grads = mf.jit(mf.value_and_grad(loss_of(config)))

    def step() -> float:
        loss, grads = loss_and_grads(params, ids)
        for grad in mf.tree.leaves(grads):
            grad.asnumpy()
        return float(loss)

    return step
