"""Foreign names: the arrays of another project's checkpoint <-> our tree, by a map that is data."""

from __future__ import annotations

from collections.abc import Mapping

import mindspore as ms
import numpy as np

from mfunc import spec, tree
from mfunc.checkpoint.arrays import as_array, missing_and_extra
from mfunc.tree import Tree


def from_names(
    arrays: Mapping[str, np.ndarray], names: Mapping[str, tuple[str, bool]], specs: Tree, where: str
) -> Tree:
    """Rename the arrays of a foreign checkpoint into our tree.

    Args:
      arrays: their name -> array.
      names: our path -> (their name, transposed).
      specs: what the model needs.
      where: the file, for errors.

    Returns:
      The tree, in the dtypes of the specs.

    Raises:
      ValueError: arrays are missing, unexpected or misshapen; they are named as in the file.
    """
    theirs = {name for name, _ in names.values()}
    missing = sorted(theirs - arrays.keys())
    extra = sorted(arrays.keys() - theirs)
    if missing or extra:
        raise ValueError(f"{where}: {missing_and_extra(missing, extra)}")
    leaves = []
    for path, leaf in zip(tree.paths(specs), tree.leaves(specs), strict=True):
        name, transposed = names[path]
        array = arrays[name].T if transposed else arrays[name]
        if array.shape != leaf.shape:
            wanted = leaf.shape[::-1] if transposed else leaf.shape
            raise ValueError(
                f"{where}: {name} has shape {arrays[name].shape}, the config asks for {wanted}"
            )
        leaves.append(ms.Tensor(np.ascontiguousarray(array), spec.DTYPES[leaf.dtype]))
    return tree.unflatten(tree.flatten(specs)[1], leaves)


def to_names(params: Tree, names: Mapping[str, tuple[str, bool]]) -> dict[str, np.ndarray]:
    """Rename our tree into the arrays of a foreign checkpoint; the inverse of `from_names`."""
    renamed = {}
    for path, leaf in zip(tree.paths(params), tree.leaves(params), strict=True):
        name, transposed = names[path]
        renamed[name] = as_array(leaf).T if transposed else as_array(leaf)
    return renamed
