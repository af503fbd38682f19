"""BitFit: train the biases (or what patterns name) and freeze all other parameters.

The adapter is a tree of the containers of the parameters: copies of the trained leaves, and `None`
in the place of all others.

    params   {"w": W, "bias": b}
    adapter  {"w": None, "bias": b'}
"""

from __future__ import annotations

import fnmatch
from typing import Any

import attrs
from mindspore import Tensor

from mfunc import random, spec, tree
from mfunc.spec import Spec
from mfunc.tree import Tree


@attrs.frozen(kw_only=True)
class Config:
    """What is trained.

    Attributes:
      targets: patterns of parameter paths, `*` standing for anything. A model without biases, such
        as LLaMA, has its norms: `("*norm",)`.

    Raises:
      ValueError: there is no target.

    Example:
      >>> Config().targets
      ('*bias',)
    """

    targets: tuple[str, ...] = attrs.field(
        default=("*bias",), converter=tuple, validator=attrs.validators.min_len(1)
    )


def split(params: Tree, config: Config) -> tuple[Tree, Tree]:
    """Split parameters into those that are trained and those that are not.

    Args:
      params: tree of weights or of `Spec`.
      config: patterns of what is trained.

    Returns:
      Two trees of the containers of `params`; each has `None` where the other has a leaf.

    Raises:
      ValueError: a target matches nothing.

    Laws:
      `tree.combine(*split(params, config)) == params`.

    Example:
      >>> split({"w": 1, "bias": 2}, Config())
      ({'bias': 2, 'w': None}, {'bias': None, 'w': 1})
    """
    paths = tree.paths(params)
    for pattern in config.targets:
        if not fnmatch.filter(paths, pattern):
            some = ", ".join(paths[:3])
            raise ValueError(
                f"bitfit: target {pattern!r} matches no parameter; paths look like {some}; a model "
                'without biases has its norms, targets=("*norm",)'
            )

    def trained(path: str, leaf: Any) -> bool:
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in config.targets)

    return tree.partition(trained, params)


def specs(params: Tree, config: Config) -> Tree:
    """Return what every trained parameter is.

    Raises:
      ValueError: a target matches nothing.

    Example:
      >>> specs({"w": Tensor([1.0]), "bias": Tensor([1.0, 2.0])}, Config())["bias"].shape
      (2,)
    """

    def described(leaf: Any) -> Spec:
        if isinstance(leaf, Spec):
            return leaf
        kinds = {kind: name for name, kind in spec.DTYPES.items()}
        return Spec(leaf.shape, axes=(None,) * len(leaf.shape), dtype=kinds[leaf.dtype])

    return tree.map(described, split(params, config)[0])


def init(key: random.Key, params: Tree, config: Config) -> Tree:
    """Return the adapter at the start: copies of the parameters' own values.

    Args:
      key: not used: nothing here is random. All adapters are made alike.
      params: the weights.
      config: patterns of what is trained.

    Raises:
      ValueError: a target matches nothing.

    Laws:
      At init the model computes what it computed without the adapter.

    Example:
      >>> init(random.key(0), {"w": Tensor([1.0]), "bias": Tensor([2.0])}, Config())["w"] is None
      True
    """

    # A step that overwrites its state must not overwrite the model.
    def copied(leaf: Tensor) -> Tensor:
        return leaf.copy()

    return tree.map(copied, split(params, config)[0])


def apply(params: Tree, adapter: Tree, config: Config, key: random.Key | None = None) -> Tree:
    """Put the trained leaves in the place of the model's; also the way to keep them for good.

    Args:
      params: the model, or the frozen side of `split`.
      adapter: the trained leaves.
      config: as for `init`.
      key: not used: nothing here is random. All adapters are applied alike.

    Raises:
      ValueError: the adapter has other containers than the model.

    Example:
      >>> apply({"w": 1, "bias": 2}, {"w": None, "bias": 3}, Config())
      {'bias': 3, 'w': 1}

    Source:
      Ben Zaken et al. 2022, "BitFit".
    """

    def trained(leaf, its):  # type: ignore[no-untyped-def]
        return its

    return tree.overlay(trained, params, adapter)
