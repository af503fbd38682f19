"""LoRA: train W + (alpha / rank) A B, where W is frozen and A, B are small.

The adapter is a tree beside the parameters: the same containers, `{"a": A, "b": B}` in the place of
each adapted weight and `None` in the place of all others.

    params   {"q": W, "k": W'}
    adapter  {"q": {"a": A, "b": B}, "k": None}

`apply` lays the adapter over the parameters without multiplying A and B out: `nn.layers.linear`
takes such weights. `merge` multiplies them out.
"""

from __future__ import annotations

import fnmatch
import math
from typing import Any

import attrs
from mindspore.ops import operations as P

from mfunc import random, spec, tree
from mfunc.spec import Spec
from mfunc.tree import Tree


@attrs.frozen(kw_only=True)
class Config:
    """What is adapted and how.

    Attributes:
      rank: columns of A and rows of B.
      alpha: the update is scaled by alpha / rank.
      targets: patterns of parameter paths, `*` standing for anything: `"layers/*/q"`.

    Raises:
      ValueError: a number is not positive, or there is no target.

    Example:
      >>> Config(rank=8, alpha=16, targets=("*/q",)).scale
      2.0
    """

    rank: int = attrs.field(validator=attrs.validators.gt(0))
    alpha: float = attrs.field(validator=attrs.validators.gt(0))
    targets: tuple[str, ...] = attrs.field(converter=tuple, validator=attrs.validators.min_len(1))

    @property
    def scale(self) -> float:
        """The factor of A B."""
        return self.alpha / self.rank


def specs(params: Tree, config: Config) -> Tree:
    """Return what every parameter of the adapter is.

    Args:
      params: tree of weights or of `Spec`; adapted weights are [in, out].
      config: rank and targets.

    Raises:
      ValueError: a target matches nothing, or a matched leaf is not a matrix.

    Example:
      >>> model = {"q": Spec((6, 4), axes=("embed", "heads")), "norm": Spec((6,), axes=("embed",))}
      >>> adapter = specs(model, Config(rank=2, alpha=4, targets=("q",)))
      >>> adapter["norm"], adapter["q"]["a"].shape, adapter["q"]["b"].shape
      (None, (6, 2), (2, 4))
    """
    leaves, structure = tree.flatten(params)
    paths = tree.structure_paths(structure)
    for pattern in config.targets:
        if not fnmatch.filter(paths, pattern):
            some = ", ".join(paths[:3])
            raise ValueError(
                f"lora: target {pattern!r} matches no parameter; paths look like {some}"
            )
    named = zip(paths, leaves, strict=True)
    return tree.unflatten(structure, [_pair(path, leaf, config) for path, leaf in named])


def _pair(path: str, leaf: Any, config: Config) -> Tree:
    """Return the specs of A and B for one parameter, or `None` for one that stays as it is."""
    if not any(fnmatch.fnmatchcase(path, pattern) for pattern in config.targets):
        return None
    if len(leaf.shape) != 2:
        raise ValueError(
            f"lora: {path} has shape {tuple(leaf.shape)}; only matrices can be adapted"
        )
    rows, columns = leaf.shape
    axes = getattr(leaf, "axes", (None, None))
    # A deviation of 1 / sqrt(3 in) is that of the uniform start in PEFT.
    return {
        "a": Spec((rows, config.rank), axes=(axes[0], None), scale=1 / math.sqrt(3 * rows)),
        "b": Spec((config.rank, columns), axes=(None, axes[1]), init="zeros"),
    }


def init(key: random.Key, params: Tree, config: Config) -> Tree:
    """Return a fresh adapter: A random, B zero.

    Laws:
      At init the model computes what it computed without the adapter.

    Source:
      Hu et al. 2021, section 4.1.

    Example:
      >>> from mindspore import Tensor
      >>> config = Config(rank=1, alpha=1, targets=("q",))
      >>> adapter = init(random.key(0), {"q": Tensor([[1.0], [2.0]])}, config)
      >>> adapter["q"]["a"].shape, adapter["q"]["b"].asnumpy()
      ((2, 1), array([[0.]], dtype=float32))
    """
    return spec.init(specs(params, config), key)


def apply(params: Tree, adapter: Tree, config: Config) -> Tree:
    """Lay the adapter over the parameters: each adapted weight W becomes (W, A, B, scale).

    Laws:
      A model computes the same with `apply` as with `merge`.

    Example:
      >>> from mindspore import Tensor
      >>> pair = {"a": Tensor([[1.0]]), "b": Tensor([[5.0]])}
      >>> laid = apply({"q": Tensor([[2.0]])}, {"q": pair}, Config(rank=1, alpha=3, targets=("q",)))
      >>> [float(part) for part in laid["q"]]
      [2.0, 1.0, 5.0, 3.0]
    """
    scale = config.scale

    def lay(weight, pair):  # type: ignore[no-untyped-def]
        return (weight, pair["a"], pair["b"], scale)

    return tree.overlay(lay, params, adapter)


def merge(params: Tree, adapter: Tree, config: Config) -> Tree:
    """Multiply the adapter into the weights: W + scale A B.

    Laws:
      `unmerge(merge(params)) == params` up to rounding.

    Example:
      >>> from mindspore import Tensor
      >>> pair = {"a": Tensor([[1.0]]), "b": Tensor([[5.0]])}
      >>> config = Config(rank=1, alpha=3, targets=("q",))
      >>> float(merge({"q": Tensor([[2.0]])}, {"q": pair}, config)["q"])
      17.0
    """
    scale = config.scale

    def add(weight, pair):  # type: ignore[no-untyped-def]
        return weight + P.MatMul()(pair["a"], pair["b"]) * scale

    return tree.overlay(add, params, adapter)


def unmerge(params: Tree, adapter: Tree, config: Config) -> Tree:
    """Take a merged adapter out of the weights: W - scale A B.

    Example:
      >>> from mindspore import Tensor
      >>> pair = {"a": Tensor([[1.0]]), "b": Tensor([[5.0]])}
      >>> config = Config(rank=1, alpha=3, targets=("q",))
      >>> float(unmerge({"q": Tensor([[17.0]])}, {"q": pair}, config)["q"])
      2.0
    """
    scale = config.scale

    def subtract(weight, pair):  # type: ignore[no-untyped-def]
        return weight - P.MatMul()(pair["a"], pair["b"]) * scale

    return tree.overlay(subtract, params, adapter)
