"""A LLaMA in MindSpore, as its documentation teaches: cells, `ms.jit`, `ms.value_and_grad`.

Plain operators stand where the CPU has no fused kernel (RmsNorm, FlashAttentionScore).
"""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from peers.weights import RMS_EPS, rotary, tokens, weights


def dense(inputs: int, outputs: int) -> nn.Dense:
    """A projection without bias."""
    return nn.Dense(inputs, outputs, has_bias=False)


class RMSNorm(nn.Cell):
    """Root-mean-square norm over the last axis."""

    def __init__(self, hidden: int) -> None:
        """Makes the scale."""
        super().__init__()
        self.weight = Parameter(ops.ones(hidden, ms.float32))

    def construct(self, x: Tensor) -> Tensor:
        """From [..., hidden] to the same."""
        return x * ops.rsqrt(ops.mean(ops.square(x), -1, True) + RMS_EPS) * self.weight


class Attention(nn.Cell):
    """Causal attention with grouped key/value heads."""

    def __init__(self, size: dict[str, int]) -> None:
        """Makes the projections and the tables."""
        super().__init__()
        hidden, self.dim = size["hidden"], size["hidden"] // size["heads"]
        self.heads, self.kv_heads = size["heads"], size["kv_heads"]
        self.q_proj, self.o_proj = dense(hidden, hidden), dense(hidden, hidden)
        self.k_proj = dense(hidden, self.kv_heads * self.dim)
        self.v_proj = dense(hidden, self.kv_heads * self.dim)
        self.cos, self.sin = (Tensor(table) for table in rotary(size))
        hidden_from = np.triu(np.ones((size["seq"], size["seq"]), dtype=bool), 1)
        self.mask = Tensor(np.where(hidden_from, -1e9, 0.0).astype(np.float32))
        self.scores = ops.BatchMatMul(transpose_b=True)
        self.weigh = ops.BatchMatMul()

    def split(self, x: Tensor, heads: int) -> Tensor:
        """[B, S, heads * D] to [B, heads, S, D]."""
        batch, seq, _ = x.shape
        return x.reshape(batch, seq, heads, self.dim).transpose(0, 2, 1, 3)

    def rotate(self, x: Tensor) -> Tensor:
        """Rotary embedding of [B, H, S, D]."""
        first, second = ops.split(x, self.dim // 2, axis=-1)
        return x * self.cos + ops.concat((-second, first), axis=-1) * self.sin

    def construct(self, x: Tensor) -> Tensor:
        """From [B, S, hidden] to the same."""
        q = self.rotate(self.split(self.q_proj(x), self.heads)) * self.dim**-0.5
        k = self.rotate(self.split(self.k_proj(x), self.kv_heads))
        v = self.split(self.v_proj(x), self.kv_heads)
        if self.kv_heads != self.heads:
            k = ops.repeat_interleave(k, self.heads // self.kv_heads, 1)
            v = ops.repeat_interleave(v, self.heads // self.kv_heads, 1)
        probs = ops.softmax(self.scores(q, k) + self.mask, -1)
        return self.o_proj(self.weigh(probs, v).transpose(0, 2, 1, 3).reshape(x.shape))


class MLP(nn.Cell):
    """SwiGLU."""

    def __init__(self, size: dict[str, int]) -> None:
        """Makes the three projections."""
        super().__init__()
        self.gate_proj = dense(size["hidden"], size["intermediate"])
        self.up_proj = dense(size["hidden"], size["intermediate"])
        self.down_proj = dense(size["intermediate"], size["hidden"])

    def construct(self, x: Tensor) -> Tensor:
        """From [B, S, hidden] to the same."""
        return self.down_proj(ops.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Cell):
    """One transformer layer."""

    def __init__(self, size: dict[str, int]) -> None:
        """Makes the parts."""
        super().__init__()
        self.input_layernorm = RMSNorm(size["hidden"])
        self.self_attn = Attention(size)
        self.post_attention_layernorm = RMSNorm(size["hidden"])
        self.mlp = MLP(size)

    def construct(self, x: Tensor) -> Tensor:
        """From [B, S, hidden] to the same."""
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Model(nn.Cell):
    """From ids [B, S] to the last hidden states."""

    def __init__(self, size: dict[str, int]) -> None:
        """Makes the parts."""
        super().__init__()
        self.embed_tokens = nn.Embedding(size["vocab"], size["hidden"])
        self.layers = nn.CellList([Block(size) for _ in range(size["layers"])])
        self.norm = RMSNorm(size["hidden"])

    def construct(self, ids: Tensor) -> Tensor:
        """From [B, S] to [B, S, hidden]."""
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class Llama(nn.Cell):
    """From ids [B, S] to the mean cross-entropy of each next id."""

    def __init__(self, size: dict[str, int]) -> None:
        """Makes the parts, under Hugging Face names."""
        super().__init__()
        self.model = Model(size)
        self.lm_head = dense(size["hidden"], size["vocab"])
        self.cross_entropy = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")

    def construct(self, ids: Tensor) -> Tensor:
        """The loss."""
        logits = self.lm_head(self.model(ids))[:, :-1]
        return self.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def make(size: dict[str, int], seed: int) -> Callable[[], float]:
    """A step: one loss and gradient on fixed data, waited for.

    The cell is compiled by `ms.jit` and the gradient taken outside: on the CPU faster than `ms.jit`
    around the gradient or graph mode for all, and the global context stays as it is.
    """
    net = Llama(size)
    renamed = {"model.embed_tokens.weight": "model.embed_tokens.embedding_table"}
    state = {renamed.get(n, n): Parameter(w) for n, w in weights(size, seed).items()}
    missing, unexpected = ms.load_param_into_net(net, state)
    if missing or unexpected:
        raise ValueError(f"make: missing {missing}, unexpected {unexpected}")
    ids = Tensor(tokens(size, seed))
    loss_and_grads = ms.value_and_grad(ms.jit(net), None, net.trainable_params())

    def step() -> float:
        loss, grads = loss_and_grads(ids)
        for grad in grads:
            grad.asnumpy()  # waits for it; `ms.runtime.synchronize` does not know the CPU
        return float(loss.asnumpy())

    return step
