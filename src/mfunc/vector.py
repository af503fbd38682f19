"""A tree as one vector, and back.

Small tensors cost their operators, not their numbers: about 50 us each, whatever its size. What is
done alike to every number of a tree is cheaper done once, to the vector of all of them.
"""

from __future__ import annotations

import math

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import operations as P

from mfunc import staging, tree
from mfunc.staging import Seen, Stage
from mfunc.tree import Tree


def ravel(node: Tree) -> Tensor:
    """Join the leaves of a tree into one vector, in leaf order.

    Args:
      node: a tree of float Tensors with at least one leaf.

    Returns:
      float32 [sum of the sizes].

    Raises:
      ValueError: the tree has no leaves.

    Laws:
      `unravel(t, ravel(t)) == t`.

    Example:
      >>> ravel({"b": Tensor([[1.0, 2.0]]), "a": Tensor([3.0])}).asnumpy()
      array([3., 1., 2.], dtype=float32)

    Source:
      jax `ravel_pytree`.
    """
    parts = tree.leaves(tree.map(_flat, node))
    if len(parts) == 0:
        raise ValueError("ravel: the tree has no leaves; there is nothing to join")
    return parts[0] if len(parts) == 1 else P.Concat()(parts)


def _flat(leaf):  # type: ignore[no-untyped-def]
    flat = leaf.reshape((-1,))
    return flat if flat.dtype == ms.float32 else ops.cast(flat, ms.float32)


def unravel(like: Tree, vector: Tensor) -> Tree:
    """Cut a vector into the shapes of a tree; the dtype stays that of the vector.

    Args:
      like: gives the containers and the shapes.
      vector: as many numbers as `like` has.

    Raises:
      ValueError: the vector is of another size.

    Example:
      >>> like = {"b": Tensor([[0.0, 0.0]]), "a": Tensor([0.0])}
      >>> parts = unravel(like, Tensor([3.0, 1.0, 2.0]))
      >>> parts["a"].asnumpy(), parts["b"].asnumpy()
      (array([3.], dtype=float32), array([[1., 2.]], dtype=float32))
    """
    shapes = [leaf.shape for leaf in tree.leaves(like)]
    cuts = _cuts(shapes, vector.shape)
    parts = [
        P.Slice()(vector, (begin,), (size,)).reshape(shape)
        for (begin, size), shape in zip(cuts, shapes, strict=True)
    ]
    return tree.refill(like, parts)


def _cuts(shapes: list[tuple[int, ...]], found: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return where each leaf begins in the vector and how long it is."""
    sizes = [math.prod(shape) for shape in shapes]
    if tuple(found) != (sum(sizes),):
        raise ValueError(
            f"unravel: the tree holds {sum(sizes)} numbers, the vector has shape {tuple(found)}"
        )
    return [(sum(sizes[:i]), size) for i, size in enumerate(sizes)]


def _write_unravel(args: list[Seen]):  # type: ignore[no-untyped-def]
    """Write `parted(vector)`: one slice a leaf."""
    like, vector = args
    shapes = staging.shapes(like)
    cuts = zip(_cuts(shapes, vector.shape), shapes, strict=True)
    texts = iter([f"cut(vector, ({a},), ({n},)).reshape({shape})" for (a, n), shape in cuts])
    result = staging.build(like.pattern, lambda _: next(texts))
    return staging.write("parted", f"def parted(vector):\n    return {result}", cut=P.Slice())


_unravel_stage = Stage(_write_unravel)


def _unravel_in_graph(like, vector):  # type: ignore[no-untyped-def]
    return _unravel_stage(like, vector)(vector)


unravel.__wrapped__ = _unravel_in_graph  # type: ignore[attr-defined]
