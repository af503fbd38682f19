"""Products with the Jacobian of a function of trees: `jvp` forwards, `vjp` backwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mindspore.ops import operations as P

from mfunc import tree
from mfunc.gradient import check_outermost, grad
from mfunc.transform import jit
from mfunc.tree import Tree

Function = Callable[..., Any]


def vjp(fn: Function, *primals: Tree) -> tuple[Tree, Function]:
    """Return the value of a function, and a function that pulls a change of it back.

    Args:
      fn: takes trees of float tensors by position, gives a tree of float tensors.
      primals: its arguments.

    Returns:
      `fn(*primals)`, and a function that takes a tree like it (how much each number of the result
      matters) and returns a tuple with a gradient for each argument.

    Raises:
      ValueError: the containers or a shape of what is pulled back are others.
      TypeError: a leaf is not a float tensor.

    Laws:
      For a result of one number, `vjp(f, x)[1](1.0) == (grad(f)(x),)`.

    Example:
      >>> from mindspore import Tensor
      >>> def square(p):
      ...     return p["x"] * p["x"]
      >>> out, pull = vjp(square, {"x": Tensor([3.0, 4.0])})
      >>> pull(Tensor([1.0, 10.0]))[0]["x"].asnumpy()
      array([ 6., 80.], dtype=float32)

    Source:
      jax `vjp`.
    """
    by_primals = grad(_paired(fn), tuple(range(1, 1 + len(primals))))

    def pull(cotangent):  # type: ignore[no-untyped-def]
        return by_primals(cotangent, *primals)

    return fn(*primals), pull


def jvp(fn: Function, primals: tuple[Tree, ...], tangents: tuple[Tree, ...]) -> tuple[Tree, Tree]:
    """Return the value of a function and how it changes along a direction.

    Args:
      fn: takes trees of float tensors by position, gives a tree of float tensors.
      primals: its arguments.
      tangents: the direction; containers and shapes as `primals`.

    Returns:
      `fn(*primals)` and its directional derivative, of the same containers. Outside of a compiled
      function every call compiles: use it inside of one.

    Raises:
      ValueError: the containers or a shape of `tangents` are others.
      TypeError: a leaf is not a float tensor.

    Laws:
      `jvp(f, (x,), (v,))[1]` is linear in v, and u . jvp(v) == vjp(u) . v.

    Example:
      >>> from mindspore import Tensor
      >>> def square(p):
      ...     return {"y": p["x"] * p["x"]}
      >>> out, change = jvp(square, ({"x": Tensor([3.0])},), ({"x": Tensor([10.0])},))
      >>> out["y"].asnumpy(), change["y"].asnumpy()
      (array([9.], dtype=float32), array([60.], dtype=float32))

    Source:
      jax `jvp`; Townsend 2017, "A new trick for calculating Jacobian vector products".
    """
    check_outermost("jvp")

    def push(primals, tangents):  # type: ignore[no-untyped-def]
        return _jvp_in_graph(fn, primals, tangents)

    # It is a gradient of a gradient, which MindSpore has only in a graph.
    return jit(push)(tuple(primals), tuple(tangents))


def _jvp_in_graph(fn, primals, tangents):  # type: ignore[no-untyped-def]
    """The gradient of u -> vjp(u) . v, which is linear in u: where it is taken does not matter."""
    by_primals = grad(_paired(fn), tuple(range(1, 1 + len(primals))))

    def pulled(cotangent, primals, tangents):  # type: ignore[no-untyped-def]
        return _dot(by_primals(cotangent, *primals), tuple(tangents))

    out = fn(*primals)
    return out, grad(pulled)(tree.map(_zeros_like, out), primals, tangents)


def _zeros_like(leaf):  # type: ignore[no-untyped-def]
    return P.ZerosLike()(leaf)  # `ops.zeros_like` does not compile in the gradient of a `remat`


jvp.__wrapped__ = _jvp_in_graph  # type: ignore[attr-defined]


def _paired(fn):  # type: ignore[no-untyped-def]
    """Return `(cotangent, *primals) -> fn(*primals) . cotangent`."""

    def paired(cotangent, *primals):  # type: ignore[no-untyped-def]
        return _dot(fn(*primals), cotangent)

    return paired


def _dot(a, b):  # type: ignore[no-untyped-def]
    return P.AddN()(tree.leaves(tree.map(_sum_of_products, a, b)))


def _sum_of_products(a, b):  # type: ignore[no-untyped-def]
    if a.shape != b.shape:
        raise ValueError(
            f"jvp, vjp: a leaf of shape {b.shape} stands for one of shape {a.shape}; a tangent is "
            "shaped like its primal, and what is pulled back like the result"
        )
    return (a * b).sum()
