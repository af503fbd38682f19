"""A LLaMA in JAX, as one would write it: functions over a dict of arrays, one jitted gradient.

Needs jax, which the project does not list.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from peers.weights import RMS_EPS, rotary, tokens, weights

Params = dict[str, jax.Array]


def rms_norm(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Root-mean-square norm over the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + RMS_EPS) * weight


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotary embedding of x [B, S, H, D] by tables [S, 1, D]."""
    first, second = jnp.split(x, 2, axis=-1)
    return x * cos + jnp.concatenate((-second, first), axis=-1) * sin


def block(params: Params, prefix: str, x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """One transformer layer: attention, then SwiGLU, each on a normed copy."""
    w = {n.removeprefix(prefix): p.T for n, p in params.items() if n.startswith(prefix)}
    batch, seq, _ = x.shape

    def heads(x: jax.Array) -> jax.Array:
        return x.reshape(batch, seq, -1, cos.shape[-1])

    normed = rms_norm(x, w["input_layernorm.weight"])
    q, k, v = (heads(normed @ w[f"self_attn.{n}_proj.weight"]) for n in "qkv")
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    attended = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    x = x + attended.reshape(x.shape) @ w["self_attn.o_proj.weight"]

    normed = rms_norm(x, w["post_attention_layernorm.weight"])
    gated = jax.nn.silu(normed @ w["mlp.gate_proj.weight"]) * (normed @ w["mlp.up_proj.weight"])
    return x + gated @ w["mlp.down_proj.weight"]


def apply(params: Params, ids: jax.Array, layers: int, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Logits [B, S, V]."""
    x = params["model.embed_tokens.weight"][ids]
    for i in range(layers):
        x = block(params, f"model.layers.{i}.", x, cos, sin)
    return rms_norm(x, params["model.norm.weight"]) @ params["lm_head.weight"].T


def next_token_loss(logits: jax.Array, ids: jax.Array) -> jax.Array:
    """Mean cross-entropy of each next id."""
    log_probs = jax.nn.log_softmax(logits[:, :-1])
    return -jnp.mean(jnp.take_along_axis(log_probs, ids[:, 1:, None], axis=-1))


def make(size: dict[str, int], seed: int) -> Callable[[], float]:
    """A step: one loss and gradient on fixed data, waited for."""
    params = {name: jnp.asarray(w) for name, w in weights(size, seed).items()}
    ids = jnp.asarray(tokens(size, seed))
    cos, sin = (jnp.asarray(table)[:, None] for table in rotary(size))

    @jax.jit
    @jax.value_and_grad
    def loss_and_grads(params: Params, ids: jax.Array) -> jax.Array:
        return next_token_loss(apply(params, ids, size["layers"], cos, sin), ids)

    def step() -> float:
        loss, _ = jax.block_until_ready(loss_and_grads(params, ids))
        return float(loss)

    return step
