"""Spec: what a parameter is, before it exists. A model's ONE tree of specs gives init and checks.

A model family has `specs(config)`, a tree of `Spec`. Weights, shardings, checkpoint checks and
parameter counts are all maps over that tree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import attrs
import mindspore as ms
import numpy as np

from mfunc import random, tree

DTYPES = {"float32": ms.float32, "float16": ms.float16, "bfloat16": ms.bfloat16, "int32": ms.int32}
INITS = ("normal", "zeros", "ones")


def _sizes(shape: Iterable[int]) -> tuple[int, ...]:
    return tuple(shape)


def _names(axes: Iterable[str | None]) -> tuple[str | None, ...]:
    return tuple(axes)


def _positive(instance: Spec, attribute: Any, value: tuple[int, ...]) -> None:
    if not all(isinstance(n, int) and n > 0 for n in value):
        raise ValueError(f"Spec: shape is {value}; every size must be a positive int")


def _one_axis_a_size(instance: Spec, attribute: Any, value: tuple[str | None, ...]) -> None:
    if len(value) != len(instance.shape):
        raise ValueError(
            f"Spec: {len(value)} axes {value} for shape {instance.shape}; give one a size"
        )


@attrs.frozen
class Spec:
    """One parameter: its shape, dtype, the names of its axes, and how it starts.

    Attributes:
      shape: sizes, all positive.
      axes: a logical name for each size (`"embed"`, `"vocab"`), which sharding rules map to a mesh;
        `None` for a size that is never sharded.
      init: `"normal"` (mean 0, deviation `scale`), `"zeros"` or `"ones"`.
      scale: standard deviation of `"normal"`.
      dtype: `"float32"`, `"float16"`, `"bfloat16"` or `"int32"`.

    Raises:
      ValueError: a size is not positive, the axes do not match, the init or dtype is unknown.

    Example:
      >>> Spec((4, 8), axes=("embed", "mlp"), scale=0.02).init
      'normal'
    """

    shape: tuple[int, ...] = attrs.field(converter=_sizes, validator=_positive)
    axes: tuple[str | None, ...] = attrs.field(
        converter=_names, validator=_one_axis_a_size, kw_only=True
    )
    init: str = attrs.field(default="normal", validator=attrs.validators.in_(INITS), kw_only=True)
    scale: float = attrs.field(default=0.02, kw_only=True)
    dtype: str = attrs.field(
        default="float32", validator=attrs.validators.in_(tuple(DTYPES)), kw_only=True
    )


def init(specs: tree.Tree, key: random.Key) -> tree.Tree:
    """Make the parameters of a tree of specs.

    Args:
      specs: tree of `Spec`.
      key: uint32 [2]; every parameter draws from the key of its own path.

    Returns:
      A tree of Tensors of the same containers.

    Laws:
      Adding, removing or renaming a leaf changes no other leaf.

    Example:
      >>> params = init({"w": Spec((2, 2), axes=(None, None))}, random.key(0))
      >>> params["w"].shape
      (2, 2)
    """
    leaves, structure = tree.flatten(specs)
    named = zip(tree.structure_paths(structure), leaves, strict=True)
    return tree.unflatten(
        structure, [_tensor(spec, random.fold_in(key, path)) for path, spec in named]
    )


def _tensor(spec: Spec, key: random.Key) -> ms.Tensor:
    """Draw one parameter in float32 and round it to its dtype."""
    if spec.init == "normal":
        values = random.normal(key, spec.shape) * np.float32(spec.scale)
    else:
        values = np.full(spec.shape, 0.0 if spec.init == "zeros" else 1.0, dtype=np.float32)
    tensor = ms.Tensor.from_numpy(np.asarray(values, order="C"))
    return tensor if spec.dtype == "float32" else tensor.astype(DTYPES[spec.dtype])


def size(specs: tree.Tree) -> int:
    """Return the number of numbers in a tree of specs or of tensors.

    Example:
      >>> size({"w": Spec((4, 8), axes=(None, None)), "b": Spec((8,), axes=(None,))})
      40
    """
    return sum(math.prod(leaf.shape) for leaf in tree.leaves(specs))


def check(params: tree.Tree, specs: tree.Tree, where: str = "params") -> None:
    """Refuse parameters that are not what the specs say.

    Raises:
      ValueError: leaves are missing, unexpected or of another shape; each is named.

    Example:
      >>> check({"w": np.zeros((2, 3))}, {"w": Spec((2, 2), axes=(None, None))})
      Traceback (most recent call last):
      ...
      ValueError: params: w has shape (2, 3), the model needs (2, 2)
    """
    wanted = dict(zip(tree.paths(specs), tree.leaves(specs), strict=True))
    seen = dict(zip(tree.paths(params), tree.leaves(params), strict=True))
    faults = [f"{path} is missing" for path in wanted if path not in seen]
    faults += [f"{path} is unexpected" for path in seen if path not in wanted]
    faults += [
        f"{path} has shape {tuple(seen[path].shape)}, the model needs {spec.shape}"
        for path, spec in wanted.items()
        if path in seen and tuple(seen[path].shape) != spec.shape
    ]
    if faults:
        more = f" (and {len(faults) - 8} more)" if len(faults) > 8 else ""
        raise ValueError(f"{where}: " + "; ".join(faults[:8]) + more)
