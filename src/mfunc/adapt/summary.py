"""How much of a model is trained."""

from __future__ import annotations

from mfunc import spec
from mfunc.tree import Tree


def trained_share(params: Tree, adapter: Tree) -> str:
    """Say how many numbers an adapter trains, and how many the model has.

    Args:
      params: the model, weights or specs.
      adapter: what is trained, weights or specs.

    Example:
      >>> import numpy as np
      >>> print(trained_share({"w": np.zeros((200, 50))}, {"a": np.zeros((200, 1))}))
      trained: 200 numbers beside the model's 10,000 (2.00 %)
    """
    trained, model = spec.size(adapter), spec.size(params)
    share = 100 * trained / model
    return f"trained: {trained:,} numbers beside the model's {model:,} ({share:.2f} %)"
