"""What an adapter may lay into a layer beside its weights, and how a model family takes it.

A layer is a flat dict. More entries are looked for in it while the model is compiled, so a layer
without them compiles as if this file did not exist:

    prefix_k, prefix_v                      [P, K * D]: keys and values of P virtual tokens
    attention_adapter_*, mlp_adapter_*      a bottleneck behind attention, one behind the mlp

Every token sees all virtual tokens: in every row and, in a packed row, in every segment. Their keys
are not turned by a position, and the tokens of the text count from P on, as behind a cache that
begins with P tokens.

Shapes: B rows, S positions, T keys, H heads, K key/value heads, D features of a head, W model
width, N = B * S tokens.
"""

from __future__ import annotations

from mindspore import Tensor
from mindspore.ops import operations as P

from mfunc.nn.dense_attention import positions
from mfunc.nn.layers import linear, split_heads
from mfunc.tree import Tree

PREFIX = ("prefix_k", "prefix_v")
BOTTLENECKS = ("attention_adapter", "mlp_adapter")


def prefix_length(layer: Tree) -> int:
    """Return how many virtual tokens a layer has.

    Example:
      >>> prefix_length({}), prefix_length({"prefix_k": Tensor([[1.0, 2.0]])})
      (0, 1)
    """
    return layer["prefix_k"].shape[0] if "prefix_k" in layer else 0


def running_positions(input_ids: Tensor, segment_ids: Tensor | None, layer: Tree) -> Tensor:
    """Return 0, 1, ... along the rows, where that is right.

    Args:
      input_ids: int32 [B, S].
      segment_ids: int32 [B, S] or `None`.
      layer: the first layer.

    Raises:
      ValueError: the layer has a prefix and the rows have segments. Between tokens only the
        difference of positions counts, so running positions are right in packed rows; from a prefix
        it is the position itself, which must start again in every segment.

    Example:
      >>> running_positions(Tensor([[7, 7]]), None, {}).asnumpy().tolist()
      [[0, 1]]
    """
    if segment_ids is not None and "prefix_k" in layer:
        raise ValueError(
            "prefix: segment_ids came without position_ids; before a prefix the positions of every "
            "segment must start at 0: give position_ids too"
        )
    return positions(input_ids)


def after_prefix(position_ids: Tensor, layer: Tree) -> Tensor:
    """Return the positions of the text, int32 [B, S]: they count from the length of the prefix.

    Example:
      >>> layer = {"prefix_k": Tensor([[1.0], [2.0]])}
      >>> after_prefix(Tensor([[0, 1]]), layer).asnumpy().tolist()
      [[2, 3]]

    Source:
      peft 0.21 `PeftModel._adjust_prompt_learning_kwargs`; Li and Liang 2021.
    """
    return position_ids + prefix_length(layer) if "prefix_k" in layer else position_ids


def see_prefix(seen: Tree, layer: Tree) -> Tree:
    """Widen what is added to the scores by the virtual tokens, which everybody sees.

    Args:
      seen: of `attention.see`; its `bias` is float32 [B, H, S, T] where there is a prefix.
      layer: the first layer; all have prefixes of one length.

    Returns:
      The same with a `bias` float32 [B, H, S, P + T].

    Example:
      >>> seen = see_prefix({"bias": Tensor([[[[-1e9]]]])}, {"prefix_k": Tensor([[1.0]])})
      >>> seen["bias"].asnumpy().tolist()
      [[[[0.0, -1000000000.0]]]]
    """
    if "prefix_k" not in layer:
        return seen
    return {"bias": P.Pad(((0, 0), (0, 0), (0, 0), (prefix_length(layer), 0)))(seen["bias"])}


def behind_prefix(x: Tensor, layer: Tree, name: str) -> Tensor:
    """Put the virtual tokens before the keys or the values of a layer.

    Args:
      x: [B, K, T, D].
      layer: may have `name`, [P, K * D].
      name: `"prefix_k"` or `"prefix_v"`.

    Returns:
      [B, K, P + T, D].

    Raises:
      ValueError: the prefix is of a model with other heads.

    Example:
      >>> layer = {"prefix_k": Tensor([[1.0, 2.0]])}
      >>> behind_prefix(Tensor([[[[3.0]], [[4.0]]]]), layer, "prefix_k").asnumpy().tolist()
      [[[[1.0], [3.0]], [[2.0], [4.0]]]]
    """
    if name not in layer:
        return x
    if layer[name].shape[1] != x.shape[1] * x.shape[3]:
        raise ValueError(
            f"prefix: {name} has {layer[name].shape[1]} numbers a virtual token, the model has "
            f"{x.shape[1]} key/value heads of {x.shape[3]}; it is of another model"
        )
    heads = P.Cast()(split_heads(layer[name], 1, x.shape[1]), x.dtype)
    return P.Concat(2)((P.Tile()(heads, (x.shape[0], 1, 1, 1)), x))


def through_adapter(x: Tensor, layer: Tree, name: str) -> Tensor:
    """Send what a part of a layer computed through its bottleneck: x + up(gelu(down(x))).

    Args:
      x: [N, W], not yet added to the residual stream.
      layer: may have `{name}_down` [W, M], `{name}_down_bias` [M], `{name}_up` [M, W] and
        `{name}_up_bias` [W]; in the place of a weight, `{weight}_left` and `{weight}_right`, which
        stand for their product.
      name: `"attention_adapter"` or `"mlp_adapter"`.

    Returns:
      [N, W].

    Example:
      >>> one, none = Tensor([[1.0]]), Tensor([0.0])
      >>> parts = {"down": one, "down_bias": none, "up": one, "up_bias": none}
      >>> layer = {f"mlp_adapter_{part}": weight for part, weight in parts.items()}
      >>> round(float(through_adapter(one, layer, "mlp_adapter")), 4)
      1.8412

    Source:
      Houlsby et al. 2019, figure 2; MindPet `AdapterLayer`, with its GELU (the form with tanh).
    """
    if f"{name}_up_bias" not in layer:
        return x
    narrow = P.GeLU()(_affine(x, layer, f"{name}_down"))
    return x + _affine(narrow, layer, f"{name}_up")


def _affine(x: Tensor, layer: Tree, name: str) -> Tensor:
    """Multiply and add, in the dtype of the activations."""
    bias = P.Cast()(layer[f"{name}_bias"], x.dtype)
    if name in layer:
        return P.BiasAdd()(linear(x, layer[name]), bias)
    return P.BiasAdd()(linear(linear(x, layer[f"{name}_left"]), layer[f"{name}_right"]), bias)
