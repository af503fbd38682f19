"""P-tuning v2: every layer attends to P virtual tokens, whose keys and values are the parameters.

    adapter  {"embed": [P, 2 L KD]}        columns: layer 0's keys, layer 0's values, layer 1's, ...

for L layers and K heads of D features that give keys and values. With `prefix_projection` they come
from a network of two layers, and the adapter is that of `prefix`.

What `prefix` says of positions holds here too, and at init the output changes as well.
"""

from __future__ import annotations

import attrs

from mfunc import random, spec
from mfunc.adapt import prefix
from mfunc.spec import Spec
from mfunc.tree import Tree


@attrs.frozen(kw_only=True)
class Config:
    """How long the prefix is and how it is made.

    Attributes:
      pre_seq_len: P, at least 1.
      prefix_projection: keys and values come from a network.
      projection_dim: its width; without the network it is not used.
      dropout: probability with which a number of the prefix is dropped, when a key is given.

    Raises:
      TypeError: a size is not a whole number.
      ValueError: a size is not positive, or the probability is not in [0, 1).

    Example:
      >>> Config().pre_seq_len
      128
    """

    pre_seq_len: int = attrs.field(default=128, validator=prefix.whole)
    prefix_projection: bool = attrs.field(
        default=False, validator=attrs.validators.instance_of(bool)
    )
    projection_dim: int = attrs.field(default=128, validator=prefix.whole)
    dropout: float = attrs.field(default=0.01, validator=prefix.share)


def specs(params: Tree, config: Config) -> Tree:
    """Return what every parameter of the adapter is.

    Args:
      params: tree of weights or of `Spec`; every layer has a weight `k` [in, K * D].
      config: the sizes.

    Raises:
      ValueError: `params` is not the tree of a model, or its layers have keys of different widths.

    Example:
      >>> model = {"layers": ({"k": Spec((6, 4), axes=("embed", "kv_heads"))},) * 3}
      >>> specs(model, Config(pre_seq_len=5))["embed"].shape
      (5, 24)
    """
    count, width = prefix.sizes(params, "ptuning")
    every = 2 * count * width
    if config.prefix_projection:
        return prefix.network(config.pre_seq_len, width, config.projection_dim, every)
    return {"embed": Spec((config.pre_seq_len, every), axes=(None, None), scale=1.0)}


def init(key: random.Key, params: Tree, config: Config) -> Tree:
    """Return a fresh adapter; each parameter draws from the key of its own path.

    Example:
      >>> model = {"layers": ({"k": Spec((6, 4), axes=("embed", "kv_heads"))},)}
      >>> init(random.key(0), model, Config(pre_seq_len=5))["embed"].shape
      (5, 8)
    """
    return spec.init(specs(params, config), key)


def apply(params: Tree, adapter: Tree, config: Config, key: random.Key | None = None) -> Tree:
    """Lay the prefix into every layer, as `prefix.apply`, with the same laws.

    Args:
      params: the model; an adapter that changes weights (`lora`) is laid before this one.
      adapter: as `specs(params, config)`.
      config: as for `specs`.
      key: draws the dropout; without it nothing is dropped.

    Raises:
      ValueError: the adapter is of a model with other layers, or a prefix is laid already.

    Example:
      >>> from mindspore import Tensor
      >>> model = {"layers": ({"k": Tensor([[1.0]])},)}
      >>> adapter = {"embed": Tensor([[5.0, 6.0]])}
      >>> laid = apply(model, adapter, Config(pre_seq_len=1))
      >>> float(laid["layers"][0]["prefix_k"]), float(laid["layers"][0]["prefix_v"])
      (5.0, 6.0)

    Source:
      Liu et al. 2022, "P-tuning v2"; peft 0.21 `PrefixEncoder` with `prefix_projection=False`
      (dropout: MindFormers 1.3 `PrefixEncoder`).
    """
    table = prefix.encode(adapter) if config.prefix_projection else adapter["embed"]
    return prefix.lay(params, prefix.dropped(table, key, config.dropout), "ptuning")
