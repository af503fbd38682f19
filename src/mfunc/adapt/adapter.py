"""Adapters: small bottlenecks behind attention and behind the mlp, x + up(gelu(down(x))).

    adapter  {"layers": ({"attention_adapter_down": [W, M], "attention_adapter_down_bias": [M],
                          "attention_adapter_up": [M, W], "attention_adapter_up_bias": [W],
                          "mlp_adapter_down": ...}, ...)}

for a model of width W. With a rank there are `..._down_left` [W, rank] and `..._down_right`
[rank, M] in the place of `..._down`, and the same for `..._up`.
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
      >>> layer["mlp_adapter_down"].shape, layer["mlp_adapter_up"].shape
      ((4, 3), (3, 4))
    """
    layers = entries.layers_of(params, "adapter", "o")
    return {"layers": tuple([_entries(layer["o"].shape[-1], config) for layer in layers])}


def _entries(width: int, config: Config) -> Tree:
    """Return the specs of the bottlenecks of one layer: down is random, up is zero."""
    narrow = config.bottleneck
    made: dict[str, Spec] = {}
    for place in config.places:
        down, up = f"{place}_down", f"{place}_up"
        made |= _weight(down, (width, narrow), ("embed", None), config.rank, "normal")
        made |= _weight(up, (narrow, width), (None, "embed"), config.rank, "zeros")
        made[f"{down}_bias"] = Spec((narrow,), axes=(None,), init="zeros")
        made[f"{up}_bias"] = Spec((width,), axes=("embed",), init="zeros")
    return made


def _weight(
    name: str,
    shape: tuple[int, int],
    axes: tuple[str | None, str | None],
    rank: int | None,
    start: str,
) -> dict[str, Spec]:
    """Return the spec of a weight, or of its factors in Glorot's scale; `start` is of the right."""
    if rank is None:
        return {name: Spec(shape, axes=axes, init=start, scale=0.02)}
    left, right = (shape[0], rank), (rank, shape[1])
    scales = [math.sqrt(2 / sum(sizes)) for sizes in (left, right)]
    return {
        f"{name}_left": Spec(left, axes=(axes[0], None), scale=scales[0]),
        f"{name}_right": Spec(right, axes=(None, axes[1]), init=start, scale=scales[1]),
    }


def init(key: random.Key, params: Tree, config: Config) -> Tree:
    """Return a fresh adapter: down random, up zero.

    Laws:
      At init the model computes what it computed without the adapter.

    Source:
      Houlsby et al. 2019, section 2.1 (near to the identity at the start).

    Example:
      >>> model = {"layers": ({"o": Spec((6, 4), axes=("heads", "embed"))},)}
      >>> made = init(random.key(0), model, Config(bottleneck=1, places=("mlp_adapter",)))
      >>> made["layers"][0]["mlp_adapter_up"].asnumpy()
      array([[0., 0., 0., 0.]], dtype=float32)
    """
    return spec.init(specs(params, config), key)


def apply(params: Tree, adapter: Tree, config: Config, key: random.Key | None = None) -> Tree:
    """Lay the bottlenecks into the layers, as entries `attention_adapter_*`, `mlp_adapter_*`.

    Args:
      params: the model; an adapter that changes weights (`lora`) is laid before this one.
      adapter: as `specs(params, config)`.
      config: as for `specs`.
      key: not used: nothing here is random. All adapters are applied alike.

    Raises:
      ValueError: the adapter is of a model with other layers, or one is laid already.

    Example:
      >>> model = {"layers": ({"o": 1},)}
      >>> apply(model, {"layers": ({"mlp_adapter_up": 2},)}, Config())
      {'layers': ({'mlp_adapter_up': 2, 'o': 1},)}

    Source:
      Houlsby et al. 2019; MindPet `AdapterLayer`, `LowRankAdapterLayer`.
    """
    return entries.insert(params, adapter)
