"""Gradients: `value_and_grad` and `grad` over trees, in compiled functions and outside of them.

In a graph the arguments are taken apart into flat tensors and built again inside the differentiated
function, by code written for just their containers: a dict or a captured value at the border of
MindSpore's own gradient gives stale or mixed up numbers without an error (`docs/mindspore.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import ops
from mindspore.graph.api import _pynative_executor

from mfunc import staging, tree
from mfunc.staging import SLOT, Pattern, Seen, Stage, listed

Function = Callable[..., Any]
FLOATS = (ms.float32, ms.float16, ms.bfloat16, ms.float64)


def value_and_grad(
    fn: Function, argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Function:
    """Return a function that gives the value of `fn` and its gradient, as trees.

    Args:
      fn: returns a loss without shape, or `(loss, aux)` with `has_aux`.
      argnums: the arguments to differentiate by: one, or a tuple of them.
      has_aux: `fn` also returns a tree that is not differentiated.

    Returns:
      A function of the arguments of `fn` that returns `(value, gradient)`; the gradient has the
      containers of the argument, or is a tuple of them. Fastest inside a function that is jitted as
      a whole.

    Raises:
      TypeError: a leaf is not a float tensor, or the loss has a shape.

    Laws:
      `jit(value_and_grad(f)) == value_and_grad(jit(f)) == value_and_grad(f)`.

    Example:
      >>> def loss(params, x):
      ...     return (params["w"] * x).sum()
      >>> value, grads = value_and_grad(loss)({"w": np.float32([1, 2])}, ms.Tensor([3.0, 4.0]))
      >>> float(value), grads["w"].asnumpy()
      (11.0, array([3., 4.], dtype=float32))
    """
    if hasattr(fn, "compiles"):
        return fn.again(  # type: ignore[attr-defined]
            value_and_grad(fn.__wrapped__, argnums, has_aux)  # type: ignore[attr-defined]
        )

    def call(*args: Any) -> Any:
        return _eager_value_and_grad(fn, argnums, has_aux, args)

    call.__wrapped__ = _value_and_grad_in_graph(fn, argnums, has_aux)  # type: ignore[attr-defined]
    return call


def _value_and_grad_in_graph(fn, argnums=0, has_aux=False):  # type: ignore[no-untyped-def]
    """What the compiler reads for `value_and_grad`."""

    def call(*args):  # type: ignore[no-untyped-def]
        return _gradient_stage(argnums, has_aux, *args)(fn, args)

    return call


value_and_grad.__wrapped__ = _value_and_grad_in_graph  # type: ignore[attr-defined]


def _write_gradient(seen: list[Seen]) -> Function:
    """Write `differentiate(fn, args)`: the gradient of a function of flat tensors only."""
    argnums, has_aux, *args = [arg.pattern for arg in seen]
    chosen = _positions(argnums, len(args))
    for i in chosen:
        _check_differentiable(
            args[i], tree.map(staging.element, seen[2 + i].dtype), f"argument {i}"
        )
    order = [*chosen, *[i for i in range(len(args)) if i not in chosen]]
    leaves, trees, constants = staging.rebuild([args[i] for i in order])
    passed = staging.opened(tuple([args[i] for i in order]), "ordered")
    wanted = tuple(range(sum(len(tree.leaves(args[i])) for i in chosen)))
    # MindSpore gives the gradient by one position bare, also when it stood in a tuple.
    gradients = iter(["grads"] if len(wanted) == 1 else [f"grads[{i}]" for i in wanted])
    built = [staging.build(args[i], lambda _: next(gradients)) for i in chosen]
    texts = dict(zip(order, trees, strict=True))
    text = (
        "def differentiate(fn, args):\n"
        f"    def flat({listed(leaves)}):\n"
        f"        out = fn({listed([texts[i] for i in range(len(args))])})\n"
        f"        return check({'out[0]' if has_aux else 'out'})(out)\n"
        f"    transformed = value_and_grad(flat, {wanted}, None, {has_aux})\n"
        f"    ordered = ({listed([*[f'args[{i}]' for i in order], ''])})\n"
        f"{passed.lines}"
        f"    value, grads = transformed({listed(passed.spread)})\n"
        f"    return value, {built[0] if isinstance(argnums, int) else '(' + listed(built) + ',)'}"
    )
    return staging.write(
        "differentiate", text, value_and_grad=ms.value_and_grad, check=_loss_stage, **constants
    )


def _write_loss_check(seen: list[Seen]) -> Function:
    """Refuse a loss that is not one number; otherwise it passes unchanged."""
    _check_loss(tuple(seen[0].shape))
    return staging.unchanged


_gradient_stage = Stage(_write_gradient)
_loss_stage = Stage(_write_loss_check)


def _check_loss(shape: tuple[int, ...]) -> None:
    if shape != ():
        raise TypeError(
            f"value_and_grad: the loss has shape {shape}; it must be one number without shape. "
            "Reduce it with .sum() or .mean()"
        )


def _positions(argnums: int | Sequence[int], count: int) -> tuple[int, ...]:
    """Count positions from 0, and refuse those that there are not."""
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for i in chosen:
        if not -count <= i < count:
            raise ValueError(f"value_and_grad: argnums names argument {i}, but {count} were given")
    return tuple([i % count for i in chosen])


def _check_differentiable(pattern: Pattern, dtypes: Any, where: str) -> None:
    """Refuse leaves that have no gradient, by path."""
    found = zip(tree.paths(pattern), tree.leaves(pattern), tree.leaves(dtypes), strict=True)
    for path, leaf, kind in found:
        if leaf is not SLOT or kind not in FLOATS:
            raise TypeError(
                f"value_and_grad: {where}{path and ', '}{path} is "
                f"{kind if leaf is SLOT else repr(leaf)}; only float tensors have gradients. "
                "Keep other leaves in an argument that argnums does not name"
            )


def _eager_value_and_grad(
    fn: Function, argnums: int | tuple[int, ...], has_aux: bool, args: tuple[Any, ...]
) -> Any:
    """Differentiate operation by operation, outside a compiled function."""
    check_outermost("value_and_grad")
    chosen = _positions(argnums, len(args))
    args = tuple([tree.map(_own, arg) for arg in args])
    tensors = {i: args[i] for i in chosen}
    for i in chosen:
        _check_differentiable(*_tensors_of(tensors[i]), f"argument {i}")
    leaves, structure = tree.flatten(tuple(tensors.values()))
    aux = None

    def flat(*inputs: Any) -> Any:
        nonlocal aux
        replaced = dict(zip(chosen, tree.unflatten(structure, inputs), strict=True))
        out = fn(*[replaced.get(i, arg) for i, arg in enumerate(args)])
        loss, aux = out if has_aux else (out, None)
        _check_loss(tuple(loss.shape))
        return loss

    try:
        value, gradients = ms.value_and_grad(flat, tuple(range(len(leaves))))(*leaves)
    except Exception:
        _pynative_executor.clear_res()  # else MindSpore goes on recording
        raise
    grads = tree.unflatten(structure, (gradients,) if len(leaves) == 1 else gradients)
    result = grads[0] if isinstance(argnums, int) else grads
    return ((value, aux), result) if has_aux else (value, result)


def check_outermost(name: str) -> None:
    """Refuse an eager gradient inside an eager gradient."""
    if _pynative_executor.grad_flag():
        raise TypeError(
            f"{name}: a gradient inside a gradient, and the outer one is not compiled; "
            "MindSpore loses terms of it. Put jit around the outer one"
        )


def _own(leaf: Any) -> Any:
    """Give a leaf an identity: MindSpore adds up the gradients of all uses of one object."""
    if isinstance(leaf, (np.ndarray, np.generic)):
        return ms.Tensor(leaf)
    return leaf.view(leaf.shape) if isinstance(leaf, ms.Tensor) else leaf


def _tensors_of(node: tree.Tree) -> tuple[Pattern, tree.Tree]:
    """Return the pattern and the dtypes of a tree outside of a graph."""
    return tree.map(_slot, node), tree.map(_dtype, node)


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if isinstance(leaf, ms.Tensor) else type(leaf)


def _slot(leaf: Any) -> Any:
    return SLOT if isinstance(leaf, ms.Tensor) else leaf


def grad(fn: Function, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Function:
    """Return a function that gives the gradient of `fn`; `value_and_grad` without the value.

    Returns:
      A function that returns the gradient, or `(gradient, aux)` with `has_aux`.

    Example:
      >>> def loss(x):
      ...     return (x * x * x).sum()
      >>> grad(loss)(ms.Tensor([1.0, 2.0])).asnumpy()
      array([ 3., 12.], dtype=float32)
    """
    if hasattr(fn, "compiles"):
        return fn.again(  # type: ignore[attr-defined]
            grad(fn.__wrapped__, argnums, has_aux)  # type: ignore[attr-defined]
        )

    def call(*args: Any) -> Any:
        value, gradient = _eager_value_and_grad(fn, argnums, has_aux, args)
        return (gradient, value[1]) if has_aux else gradient

    call.__wrapped__ = _grad_in_graph(fn, argnums, has_aux)  # type: ignore[attr-defined]
    return call


def _grad_in_graph(fn, argnums=0, has_aux=False):  # type: ignore[no-untyped-def]
    """What the compiler reads for `grad`."""

    def call(*args):  # type: ignore[no-untyped-def]
        value, gradient = _gradient_stage(argnums, has_aux, *args)(fn, args)
        return (gradient, value[1]) if has_aux else gradient

    return call


grad.__wrapped__ = _grad_in_graph  # type: ignore[attr-defined]


def stop_gradient(node: tree.Tree) -> tree.Tree:
    """Return the same tree, through which no gradient flows.

    Example:
      >>> def loss(x):
      ...     return (stop_gradient({"x": x})["x"] * x).sum()
      >>> grad(loss)(ms.Tensor([1.0, 2.0])).asnumpy()
      array([1., 2.], dtype=float32)
    """
    return tree.map(ops.stop_gradient, node)
