"""Prefix tuning: every layer attends to P virtual tokens, whose keys and values are trained.

Keys and values of all layers come from one small table by a network of two layers, which trains
more steadily than keys and values of their own (`ptuning`, P-tuning v2, has those):

    adapter  {"embed": [P, KD], "hidden": [KD, M], "hidden_bias": [M],
              "out": [M, 2 L KD], "out_bias": [2 L KD]}

for L layers and K heads of D features that give keys and values (KD features together). Columns of
the result are layer 0's keys, layer 0's values, layer 1's keys, and so on.

The virtual tokens have no positions, and the text counts its positions from P on: what PEFT does.
At init the output is *not* that of the model without a prefix: every softmax has P more terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from mindspore import Tensor
from mindspore.ops import operations as P

from mfunc import random, spec, staging
from mfunc.adapt import entries
from mfunc.nn.adapted import PREFIX
from mfunc.nn.dropping import dropout
from mfunc.nn.layers import linear
from mfunc.spec import Spec
from mfunc.staging import Seen, Stage
from mfunc.tree import Tree

whole = attrs.validators.and_(attrs.validators.instance_of(int), attrs.validators.gt(0))
share: Any = attrs.validators.and_(attrs.validators.ge(0), attrs.validators.lt(1))


@attrs.frozen(kw_only=True)
class Config:
    """How long the prefix is and how it is made.

    Attributes:
      num_virtual_tokens: P, at least 1.
      mid_dim: M, width of the network.
      dropout: probability with which a number of the prefix is dropped, when a key is given.

    Raises:
      TypeError: a size is not a whole number.
      ValueError: a size is not positive, or the probability is not in [0, 1).

    Example:
      >>> Config(num_virtual_tokens=20).mid_dim
      512
    """

    num_virtual_tokens: int = attrs.field(validator=whole)
    mid_dim: int = attrs.field(default=512, validator=whole)
    dropout: float = attrs.field(default=0.1, validator=share)


def specs(params: Tree, config: Config) -> Tree:
    """Return what every parameter of the adapter is.

    Args:
      params: tree of weights or of `Spec`; every layer has a weight `k` [in, K * D].
      config: the sizes.

    Raises:
      ValueError: `params` is not the tree of a model, or its layers have keys of different widths.

    Example:
      >>> model = {"layers": ({"k": Spec((6, 4), axes=("embed", "kv_heads"))},) * 3}
      >>> adapter = specs(model, Config(num_virtual_tokens=5, mid_dim=7))
      >>> adapter["embed"].shape, adapter["out"].shape
      ((5, 4), (7, 24))
    """
    count, width = sizes(params, "prefix")
    return network(config.num_virtual_tokens, width, config.mid_dim, 2 * count * width)


def sizes(params: Tree, method: str) -> tuple[int, int]:
    """Return how many layers a model has and how wide its keys are.

    Example:
      >>> sizes({"layers": ({"k": Spec((6, 4), axes=("embed", "kv_heads"))},)}, "prefix")
      (1, 4)
    """
    layers = entries.layers_of(params, method, "k")
    widths = sorted({layer["k"].shape[-1] for layer in layers})
    if len(widths) > 1:
        raise ValueError(f"{method}: the keys of the layers have widths {widths}; one is needed")
    return len(layers), widths[0]


def network(tokens: int, width: int, inner: int, out: int) -> Tree:
    """Return the specs of a table and the two layers that its rows go through.

    Example:
      >>> sorted(network(1, 2, 3, 4))
      ['embed', 'hidden', 'hidden_bias', 'out', 'out_bias']
    """

    def dense(rows: int, columns: int) -> Spec:
        # The deviation of the uniform start in torch and PEFT, 1 / sqrt(3 in).
        return Spec((rows, columns), axes=(None, None), scale=1 / math.sqrt(3 * rows))

    return {
        "embed": Spec((tokens, width), axes=(None, None), scale=1.0),
        "hidden": dense(width, inner),
        "hidden_bias": Spec((inner,), axes=(None,), init="zeros"),
        "out": dense(inner, out),
        "out_bias": Spec((out,), axes=(None,), init="zeros"),
    }


def init(key: random.Key, params: Tree, config: Config) -> Tree:
    """Return a fresh adapter; each parameter draws from the key of its own path.

    Example:
      >>> model = {"layers": ({"k": Spec((6, 4), axes=("embed", "kv_heads"))},)}
      >>> init(random.key(0), model, Config(num_virtual_tokens=5))["embed"].shape
      (5, 4)
    """
    return spec.init(specs(params, config), key)


def apply(params: Tree, adapter: Tree, config: Config, key: random.Key | None = None) -> Tree:
    """Lay the prefix into every layer: entries `prefix_k` and `prefix_v`, [P, K * D] each.

    Args:
      params: the model; an adapter that changes weights (`lora`) is laid before this one.
      adapter: as `specs(params, config)`.
      config: as for `specs`.
      key: draws the dropout; without it nothing is dropped.

    Raises:
      ValueError: the adapter is of another model (with the right layers but other heads the model
        finds out when it runs), or a prefix is laid already.

    Laws:
      A packed row computes what its segments compute alone; prefill + decode == the whole forward
      pass; keys and values are different numbers with different gradients, none of them zero.

    Example:
      >>> model = {"layers": ({"k": Tensor([[1.0, 2.0]])},)}
      >>> settings = Config(num_virtual_tokens=3, mid_dim=4)
      >>> laid = apply(model, init(random.key(0), model, settings), settings)
      >>> laid["layers"][0]["prefix_v"].shape
      (3, 2)

    Source:
      Li and Liang 2021, "Prefix-tuning", section 4; peft 0.21 `PrefixEncoder` with
      `prefix_projection=True` (dropout: MindPet `PrefixLayer`).
    """
    return lay(params, dropped(encode(adapter), key, config.dropout), "prefix")


def dropped(table: Tensor, key: random.Key | None, rate: float) -> Tensor:
    """Drop numbers of a table of keys and values, if there is a key to draw with.

    Example:
      >>> dropped(Tensor([[1.0]]), None, 0.5).asnumpy()
      array([[1.]], dtype=float32)
    """
    return table if key is None or rate == 0 else dropout(table, key, rate)


def encode(adapter: Tree) -> Tensor:
    """Return keys and values of all layers: out(tanh(hidden(embed))), [P, 2 L KD].

    Example:
      >>> one, none = Tensor([[1.0]]), Tensor([0.0])
      >>> parts = {"embed": one, "hidden": one, "hidden_bias": none, "out": one, "out_bias": none}
      >>> round(float(encode(parts)), 4)
      0.7616
    """
    hidden = P.BiasAdd()(linear(adapter["embed"], adapter["hidden"]), adapter["hidden_bias"])
    return P.BiasAdd()(linear(P.Tanh()(hidden), adapter["out"]), adapter["out_bias"])


def lay(params: Tree, table: Tensor, method: str) -> Tree:
    """Cut keys and values of all layers apart, and lay them into the layers.

    Example:
      >>> laid = lay({"layers": ({"k": Tensor([[1.0]])},)}, Tensor([[5.0, 6.0]]), "prefix")
      >>> float(laid["layers"][0]["prefix_k"]), float(laid["layers"][0]["prefix_v"])
      (5.0, 6.0)
    """
    count = len(params["layers"])
    if table.shape[1] % (2 * count):
        raise ValueError(
            f"{method}: the adapter has {table.shape[1]} numbers a virtual token, which are not "
            f"keys and values of {count} layers; it is of another model"
        )
    return entries.insert(params, _paired(P.Split(-1, 2 * count)(table)))


def _paired(parts: Sequence[Any]) -> Tree:
    """Return the entries of all layers: keys and values by turns."""
    keys_values = zip(parts[::2], parts[1::2], strict=True)
    return {"layers": tuple([dict(zip(PREFIX, pair, strict=True)) for pair in keys_values])}


def _write_paired(seen: list[Seen]) -> Callable[..., Any]:
    """Write `paired(parts)` without a loop: compiling one takes longer, the more layers."""
    found = staging.opened(seen[0].pattern, "parts")
    text = staging.build(_paired(found.every), str)
    return staging.write("paired", f"def paired(parts):\n    return {text}")


_paired_stage = Stage(_write_paired)


def _paired_in_graph(parts):  # type: ignore[no-untyped-def]
    return _paired_stage(parts)(parts)


# The compiler reads what `__wrapped__` names in place of the function itself.
_paired.__wrapped__ = _paired_in_graph  # type: ignore[attr-defined]
