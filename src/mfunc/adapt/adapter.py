"""Adapters: small bottlenecks behind attention and behind the mlp, x + up(gelu(down(x))).

    adapter  {"layers": ({"attention_adapter": {"down": [W, M], "down_bias": [M],
                                                "up": [M, W], "up_bias": [W]},
                          "mlp_adapter": {...}}, ...)}

for a model of width W. With a rank each weight is a pair (left [in, rank], right [rank, out]) that
stands for its product.
"""

from __future__ import annotations

import math
from typing import Any

import attrs

from mfunc import random, spec
from mfunc.adapt import entries
from mfunc.adapt.prefix import whole
from mfunc.nn.adapted import BOTTLENECKS
from mfunc.spec import Spec
from mfunc.tree import Tree


@attrs.frozen(kw_only=True)
class Config:
    """Where the bottlenecks stand and how narrow they are.

    Attributes:
      bottleneck: M, features between down and up.
      rank: `None` for whole weights, or the rank of their two factors (a low-rank adapter).
      places: some of `"attention_adapter"` and `"mlp_adapter"`.

    Raises:
      TypeError: a size is not a whole number.
      ValueError: a size is not positive, or a place is unknown or named twice.

    Example:
      >>> Config().bottleneck
      64
    """

    bottleneck: int = attrs.field(default=64, validator=whole)
    rank: int | None = attrs.field(default=None, validator=attrs.validators.optional(whole))
    places: tuple[str, ...] = attrs.field(default=BOTTLENECKS, converter=tuple)

    @places.validator
    def _known(self, attribute: Any, value: tuple[str, ...]) -> None:
        if not value or len(set(value)) < len(value) or not set(value) <= set(BOTTLENECKS):
            raise ValueError(
                f"adapter.Config: places={value}; known are {', '.join(BOTTLENECKS)}, each once"
            )


def specs(params: Tree, config: Config) -> Tree:
    """Return what every parameter of the adapter is.

    Args:
      params: tree of weights or of `Spec`; every layer has a weight `o` [in, W].
      config: the sizes.

    Raises:
      ValueError: `params` is not the tree of a model.

    Example:
      >>> model = {"layers": ({"o": Spec((6, 4), axes=("heads", "embed"))},)}
      >>> layer = specs(model, Config(bottleneck=3))["layers"][0]
      >>> layer["mlp_adapter"]["down"].shape, layer["mlp_adapter"]["up"].shape
      ((4, 3), (3, 4))
    """
    layers = entries.layers_of(params, "adapter", "o")
    widths = [layer["o"].shape[-1] for layer in layers]
    return {"layers": tuple([dict.fromkeys(config.places, _bottleneck(w, config)) for w in widths])}


def _bottleneck(width: int, config: Config) -> Tree:
    """Return the specs of one bottleneck: down is random, up is zero."""
    narrow = config.bottleneck
    return {
        "down": _weight(width, narrow, ("embed", None), config.rank, zero=False),
        "down_bias": Spec((narrow,), axes=(None,), init="zeros"),
        "up": _weight(narrow, width, (None, "embed"), config.rank, zero=True),
        "up_bias": Spec((width,), axes=("embed",), init="zeros"),
    }


def _weight(
    rows: int, columns: int, axes: tuple[str | None, str | None], rank: int | None, *, zero: bool
) -> Tree:
    """Return the spec of a weight, or of its factors, in Glorot's scale; zero is the right one."""
    kind = "zeros" if zero else "normal"
    if rank is None:
        return Spec((rows, columns), axes=axes, init=kind, scale=0.02)
    return (
        Spec((rows, rank), axes=(axes[0], None), scale=math.sqrt(2 / (rows + rank))),
        Spec(
            (rank, columns),
            axes=(None, axes[1]),
            init=kind,
            scale=math.sqrt(2 / (rank + columns)),
        ),
    )


def init(key: random.Key, params: Tree, config: Config) -> Tree:
    """Return a fresh adapter: down random, up zero.

    Laws:
      At init the model computes what it computed without the adapter.

    Source:
      Houlsby et al. 2019, section 2.1 (near to the identity at the start).

    Example:
      >>> model = {"layers": ({"o": Spec((6, 4), axes=("heads", "embed"))},)}
      >>> made = init(random.key(0), model, Config(bottleneck=1, places=("mlp_adapter",)))
      >>> made["layers"][0]["mlp_adapter"]["up"].asnumpy()
      array([[0., 0., 0., 0.]], dtype=float32)
    """
    return spec.init(specs(params, config), key)


def apply(params: Tree, adapter: Tree, config: Config, key: random.Key | None = None) -> Tree:
    """Lay the bottlenecks into the layers, as entries `attention_adapter` and `mlp_adapter`.

    Args:
      params: the model; an adapter that changes weights (`lora`) is laid before this one.
      adapter: as `specs(params, config)`.
      config: as for `specs`.
      key: not used: nothing here is random. All adapters are applied alike.

    Raises:
      ValueError: the adapter is of a model with other layers, or one is laid already.

    Example:
      >>> model = {"layers": ({"o": 1},)}
      >>> apply(model, {"layers": ({"mlp_adapter": 2},)}, Config(places=("mlp_adapter",)))
      {'layers': ({'mlp_adapter': 2, 'o': 1},)}

    Source:
      Houlsby et al. 2019; MindPet `AdapterLayer`, `LowRankAdapterLayer`.
    """
    return entries.insert(params, adapter)
