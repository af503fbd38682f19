"""The loss of tokens over a vocabulary; for a large one without ever making all logits.

Logits are the largest thing in a step: tokens times vocabulary, and several of that size to make
the loss and its gradient. But the loss of a token needs the logits of that token only. `weighted`
makes them for some tokens at a time, and sums up at once what their gradient moves: the hidden
states and the head.

It takes the logits, or in their place two factors of them, as `nn.llama.factored` gives them:

    {"hidden": [B, S, D], "head": [D, V]}      or      {"hidden": [B, S, D], "table": [V, D]}
    "frozen": True      the head is not trained, and no gradient of it is computed

Shapes: B rows, S positions, D model width, V vocabulary, N = B S tokens, C tokens of a piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import operations as P

from mfunc import staging
from mfunc.custom import custom_vjp
from mfunc.depth import block
from mfunc.nn.layers import linear
from mfunc.staging import Seen, Stage
from mfunc.tree import Tree

IGNORED = -100
# Numbers in the logits of one piece: 32 MB of them (docs/mindspore.md has what was measured).
PIECE = 2**23


def pieces(rows: int, length: int, vocabulary: int) -> int:
    """Say in how many pieces the logits of a batch are made.

    Args:
      rows: B; -1 if it is not known while compiling: then there is one.
      length: S; -1 if it is not known while compiling: then each row is a piece.
      vocabulary: V.

    Example:
      >>> pieces(2, 512, 49152), pieces(4, 256, 2000), pieces(8, -1, 32000)
      (6, 1, 8)
    """
    if rows < 0:
        return 1
    return rows if length < 0 else max(1, -(-rows * length * vocabulary // PIECE))


def multiplied(logits: Tensor | Tree) -> Tensor:
    """Return the logits themselves, [B, S, V], also where two factors stand for them.

    Example:
      >>> x = Tensor([[[1.0, 2.0]]])
      >>> multiplied({"hidden": x, "table": Tensor([[3.0, 4.0]])}).asnumpy().tolist()
      [[[11.0]]]
    """
    if not isinstance(logits, dict):
        return logits
    rows, length, width = logits["hidden"].shape
    flat = logits["hidden"].reshape((-1, width))
    if "table" in logits:
        made = P.MatMul(transpose_b=True)(flat, P.Cast()(logits["table"], flat.dtype))
    else:
        made = linear(flat, logits["head"])
    return made.reshape((rows, length, -1))


def losses(flat: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-likelihood of each target.

    Args:
      flat: float [N, V].
      targets: int32 [N]; what is given for a negative one means nothing.

    Returns:
      Nats, float32 [N].

    Example:
      >>> losses(Tensor([[0.0, 0.0]]), Tensor([1], ms.int32)).asnumpy().round(4)
      array([0.6931], dtype=float32)
    """
    below, wanted = _below(flat, targets)
    others = P.ReduceSum(keep_dims=True)(P.Exp()(below), -1) - 1.0
    return (P.Log1p()(others) - P.GatherD()(below, 1, wanted)).reshape(-1)


def _below(flat: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores below the largest of each token, float32, and places of targets, [N, 1].

    By hand: the library's NLL kernel leaves rubbish, even NaN, where a label is ignored, and its
    log-softmax is off by 4e-6. The sum of the exponentials holds the 1 of the largest score, which
    log1p takes exactly. ArgMaxWithValue is four times as fast as ReduceMax.
    """
    flat = P.Cast()(flat, ms.float32)
    largest = P.ArgMaxWithValue(-1, keep_dims=True)(flat)[1]
    wanted = P.Maximum()(targets, P.ZerosLike()(targets)).reshape((-1, 1))
    return flat - _spread(ops.stop_gradient(largest), flat.shape[-1]), wanted


def _spread(x: Any, times: int) -> Any:
    """Repeat [N, 1] along the vocabulary; a broadcast takes 7 x as long in a dynamic graph."""
    return P.MatMul()(x, P.Ones()((1, times), ms.float32))


def weighted(logits: Tensor | Tree, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of the losses of all tokens, each times its weight.

    Args:
      logits: float [B, S, V], or the two factors of it.
      targets: int32 [B, S], the token that each position predicts; -100 for none.
      weights: float32 [B, S], 0 where there is no target.

    Returns:
      Nats, float32 without shape. In a compiled function, factors of many logits are multiplied a
      piece at a time; their gradient has itself no gradient, and MindSpore refuses it under `vmap`.
      Pieces make the gradient beside the value, also when nobody asks for it.

    Laws:
      The same, to rounding, for the logits and for their factors, and so are all gradients.

    Example:
      >>> half = Tensor([[0.5, 0.5]])
      >>> seen = weighted(ops.zeros((1, 2, 4)), Tensor([[1, 2]], ms.int32), half)
      >>> round(float(seen), 4)
      1.3863

    Source:
      Hsu et al. 2024 (Liger Kernel), section 3.2, fused linear cross entropy.
    """
    return _counted(_at_once, _in_pieces, _count(logits))(logits, targets, weights)


def judged(logits: Tensor | Tree, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of the losses of all tokens, and of those guessed right, by weight.

    For measuring: pieces make no gradient, and whoever takes one needs the memory of all logits.

    Args:
      logits: float [B, S, V], or the two factors of it.
      targets: int32 [B, S]; -100 for none.
      weights: float32 [B, S], 0 where there is no target.

    Returns:
      Nats, and the weight of the tokens whose target has the largest logit; float32 without shape.

    Example:
      >>> logits = Tensor([[[0.0, 9.0], [9.0, 0.0]]])
      >>> half = Tensor([[0.5, 0.5]])
      >>> loss, right = judged(logits, Tensor([[1, 1]], ms.int32), half)
      >>> round(float(loss), 3), float(right)
      (4.5, 0.5)
    """
    return _counted(_judged_at_once, _judged_in_pieces, _count(logits))(logits, targets, weights)


def _count(logits: Any) -> int:
    if not isinstance(logits, dict) or isinstance(logits.get("head"), dict):
        return 1
    rows, length, width = logits["hidden"].shape
    weight = logits["table"] if "table" in logits else logits["head"]
    return pieces(rows, length, weight.size // width)


def _counted(
    at_once: Callable[..., Any], in_pieces: Callable[..., Any], count: int
) -> Callable[..., Any]:
    if count == 1:
        return at_once
    text = "def counted(logits, targets, weights):\n    return fn(logits, targets, weights, count)"
    return staging.write("counted", text, fn=in_pieces, count=count)


def _count_of(seen: Seen) -> int:
    """Count while compiling."""
    pattern, shape = seen.pattern, seen.shape
    if not isinstance(pattern, dict) or isinstance(pattern.get("head"), dict):
        return 1
    shape = shape if isinstance(shape, dict) else dict(zip(pattern, shape, strict=True))
    rows, length, _ = shape["hidden"]
    return pieces(rows, length, shape["table"][0] if "table" in shape else shape["head"][1])


def _write_weighted(seen: list[Seen]) -> Callable[..., Any]:
    return _counted(_at_once, _in_pieces, _count_of(seen[0]))


def _write_judged(seen: list[Seen]) -> Callable[..., Any]:
    return _counted(_judged_at_once, _judged_in_pieces, _count_of(seen[0]))


_weighted_stage, _judged_stage = Stage(_write_weighted), Stage(_write_judged)


def _weighted_in_graph(logits, targets, weights):  # type: ignore[no-untyped-def]
    return _weighted_stage(logits)(logits, targets, weights)


def _judged_in_graph(logits, targets, weights):  # type: ignore[no-untyped-def]
    return _judged_stage(logits)(logits, targets, weights)


# The compiler reads what `__wrapped__` names in place of the function itself.
weighted.__wrapped__ = _weighted_in_graph  # type: ignore[attr-defined]
judged.__wrapped__ = _judged_in_graph  # type: ignore[attr-defined]


def _at_once(logits, targets, weights):  # type: ignore[no-untyped-def]
    made = multiplied(logits)
    each = losses(made.reshape((-1, made.shape[-1])), targets.reshape(-1))
    return (each * weights.reshape(-1)).sum()


def _judged_at_once(logits, targets, weights):  # type: ignore[no-untyped-def]
    made = multiplied(logits)
    return _judge(made.reshape((-1, made.shape[-1])), targets.reshape(-1), weights.reshape(-1))


def _judge(flat, targets, weights):  # type: ignore[no-untyped-def]
    right = P.Cast()(P.Argmax(-1)(P.Cast()(flat, ms.float32)) == targets, ms.float32)
    return (losses(flat, targets) * weights).sum(), (right * weights).sum()


def _in_pieces(logits, targets, weights, count):  # type: ignore[no-untyped-def]
    total = _frozen_total if logits.get("frozen", False) else _trained_total
    return total(*_parts(logits, targets, weights, count))["loss"]


def _judged_in_pieces(logits, targets, weights, count):  # type: ignore[no-untyped-def]
    hidden, targets, weights, weight, tied = _parts(logits, targets, weights, count)
    loss, right = _judged_piece(hidden[0], targets[0], weights[0], weight, tied)
    for i in range(1, count):
        more = _judged_piece(hidden[i], targets[i], weights[i], weight, tied)
        loss, right = loss + more[0], right + more[1]
    return loss, right


@block
def _judged_piece(hidden, targets, weights, weight, tied):  # type: ignore[no-untyped-def]
    flat = P.MatMul(transpose_b=tied)(hidden.reshape((-1, hidden.shape[-1])), weight)
    return _judge(flat, targets.reshape(-1), weights.reshape(-1))


def _parts(logits, targets, weights, count):  # type: ignore[no-untyped-def]
    """Return pieces of the hidden states, targets and weights; the head, and whether it is tied."""
    hidden, tied = logits["hidden"], "table" in logits
    pieces_of = [P.Split(0, count)(_cut(x, count)) for x in (hidden, targets, weights)]
    return (*pieces_of, P.Cast()(logits["table"] if tied else logits["head"], hidden.dtype), tied)


def _cut(x, count):  # type: ignore[no-untyped-def]
    """Cut [B, S, ...] into `count` rows of as many tokens; the last one is filled with zeros."""
    if x.shape[1] < 0:
        return x  # as many rows as pieces
    flat = x.reshape((-1, *x.shape[2:]))
    more = -flat.shape[0] % count
    if more:
        flat = P.Concat(0)((flat, P.Zeros()((more, *x.shape[2:]), x.dtype)))
    return flat.reshape((count, -1, *x.shape[2:]))


def _trained(hidden, targets, weights, weight, tied):  # type: ignore[no-untyped-def]
    """Sum up over pieces the loss and what its gradient moves."""
    loss, each, moved, head = _trained_piece(hidden[0], targets[0], weights[0], weight, tied)
    losses, gradients = [each], [moved]
    for i in range(1, len(hidden)):
        found = _trained_piece(hidden[i], targets[i], weights[i], weight, tied)
        loss, head = loss + found[0], head + found[3]
        losses.append(found[1])
        gradients.append(found[2])
    return {"loss": loss, "losses": tuple(losses), "hidden": tuple(gradients), "head": head}


def _frozen(hidden, targets, weights, weight, tied):  # type: ignore[no-untyped-def]
    """Do the same, but for the head."""
    loss, each, moved = _frozen_piece(hidden[0], targets[0], weights[0], weight, tied)
    losses, gradients = [each], [moved]
    for i in range(1, len(hidden)):
        found = _frozen_piece(hidden[i], targets[i], weights[i], weight, tied)
        loss = loss + found[0]
        losses.append(found[1])
        gradients.append(found[2])
    return {"loss": loss, "losses": tuple(losses), "hidden": tuple(gradients)}


def _trained_backward(args, out, cotangent):  # type: ignore[no-untyped-def]
    by = cotangent["loss"]
    head = P.Cast()(out["head"] * by, args[3].dtype)
    return _moved(args, out, by), None, _weighed(out, by), head, None


def _frozen_backward(args, out, cotangent):  # type: ignore[no-untyped-def]
    by = cotangent["loss"]
    return _moved(args, out, by), None, _weighed(out, by), None, None


def _moved(args, out, by):  # type: ignore[no-untyped-def]
    return tuple([P.Cast()(x * by, args[0][0].dtype) for x in out["hidden"]])


def _weighed(out, by):  # type: ignore[no-untyped-def]
    return tuple([x * by for x in out["losses"]])


_trained_total = custom_vjp(_trained, _trained_backward)
_frozen_total = custom_vjp(_frozen, _frozen_backward)


def _apart(hidden, targets, weights, weight, tied):  # type: ignore[no-untyped-def]
    """Return what both kinds of a piece give, and the gradient by the scores as (it, its scale).

    That gradient is (softmax - one at the target) times the weight of the token. A scale is applied
    to what it is multiplied with, which is smaller. In half precision the softmax is divided first:
    sums of exponentials would overflow.
    """
    x, weights = hidden.reshape((-1, hidden.shape[-1])), weights.reshape((-1, 1))
    below, wanted = _below(P.MatMul(transpose_b=tied)(x, weight), targets.reshape(-1))
    shares = P.Exp()(below)
    others = P.ReduceSum(keep_dims=True)(shares, -1) - 1.0
    each, total = P.Log1p()(others) - P.GatherD()(below, 1, wanted), others + 1.0
    apart = P.TensorScatterElements(axis=1, reduction="add")(shares, wanted, -total)
    full = x.dtype == ms.float32
    apart, scale = (
        (apart, weights / total)
        if full
        else (P.Cast()(apart * _spread(1.0 / total, apart.shape[-1]), x.dtype), weights)
    )
    moved = P.Cast()(P.MatMul(transpose_b=not tied)(apart, weight), ms.float32) * scale
    same = moved.reshape(hidden.shape)
    return ((each * weights).sum(), each.reshape(targets.shape), same), apart, scale


@block
def _frozen_piece(hidden, targets, weights, weight, tied):  # type: ignore[no-untyped-def]
    return _apart(hidden, targets, weights, weight, tied)[0]


@block
def _trained_piece(hidden, targets, weights, weight, tied):  # type: ignore[no-untyped-def]
    (loss, each, moved), apart, scale = _apart(hidden, targets, weights, weight, tied)
    # Beside the largest weight, so that nothing vanishes in half precision.
    most = P.Maximum()(P.ReduceMax()(P.Abs()(scale)), 1e-30)
    x = hidden.reshape((-1, hidden.shape[-1])) * P.Cast()(scale / most, hidden.dtype)
    first, second = (apart, x) if tied else (x, apart)
    head = P.Cast()(P.MatMul(transpose_a=True)(first, second), ms.float32) * most
    return loss, each, moved, head
