"""Depth: a layer compiled once for all its calls (`block`), or computed again backwards (`remat`).

With `transform` the only place that knows the compiler: here its mark `no_inline`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import nn, ops
from mindspore.ops import operations as P

from mfunc import forms, staging
from mfunc.gradient import FLOATS
from mfunc.staging import Pattern, Seen, Stage, listed

Function = Callable[..., Any]


def block(fn: Function) -> Function:
    """Compile `fn` once for all its calls in a graph: the layers of a model.

    Without it a graph of n layers takes n times as long to compile, about twice the time a step and
    2.6 times the memory.

    Args:
      fn: the function of one layer: trees in, trees out, all arguments by position. Numbers,
        strings and frozen configs may be arguments.

    Returns:
      A function that computes the same.

    Example:
      >>> @block
      ... def residual(x):
      ...     return x + x * x
      >>> residual(ms.Tensor([1.0, 2.0])).asnumpy()
      array([2., 6.], dtype=float32)
    """

    def write(patterns: list[Pattern], kinds: list[Any]) -> Function:
        return _write_block(fn, patterns)

    return forms.for_graphs(fn, write)


def _block_in_graph(fn):  # type: ignore[no-untyped-def]
    """What the compiler reads for `block` itself."""
    raise TypeError("block: make block(fn) outside of the compiled function, and call it inside")


block.__wrapped__ = _block_in_graph  # type: ignore[attr-defined]


def _write_block(fn: Function, patterns: list[Pattern]) -> Function:
    """Write `call(args)`, which hands flat tensors to one `no_inline` function."""
    leaves, trees, constants = staging.rebuild(patterns)
    text = f"def layer({listed(leaves)}):\n    return fn({listed(trees)})"
    layer = ms.no_inline(staging.write("layer", text, fn=fn, **constants))
    passed = staging.opened(tuple(patterns), "args")
    text = f"def call(args):\n{passed.lines}    return layer({listed(passed.spread)})"
    return staging.write("call", text, layer=layer)


def remat(fn: Function) -> Function:
    """Return a function whose inner results are not kept for the gradient but computed again.

    The arguments and the result of each call are all that a compiled gradient holds: for a model of
    n layers the memory of n inputs and one layer, at the price of one more forward pass.

    Args:
      fn: the function of one layer, as for `block`; it is compiled once for all its calls.

    Returns:
      A function that computes the same. Only gradients that are taken inside of a compiled function
      save memory; outside of one it is `fn`. MindSpore refuses its gradient under `vmap`.

    Laws:
      `remat(f) == f`, and so are its gradients.

    Example:
      >>> def layer(x):
      ...     return x * x * x
      >>> remat(layer)(ms.Tensor([1.0, 2.0])).asnumpy()
      array([1., 8.], dtype=float32)

    Source:
      Chen et al. 2016, "Training deep nets with sublinear memory cost"; jax `checkpoint`.
    """
    return forms.for_graphs(fn, functools.partial(_write_remat, fn))


def _remat_in_graph(fn):  # type: ignore[no-untyped-def]
    """What the compiler reads for `remat` itself."""
    raise TypeError("remat: make remat(fn) outside of the compiled function, and call it inside")


remat.__wrapped__ = _remat_in_graph  # type: ignore[attr-defined]


def _write_remat(fn: Function, patterns: list[Pattern], kinds: list[Any]) -> Function:
    """Write `call(args)`: a cell of flat tensors that has its own gradient."""
    leaves, trees, constants = staging.rebuild(patterns)
    floats = [name for name, kind in zip(leaves, kinds, strict=True) if kind in FLOATS]
    rest = [name for name in leaves if name not in floats]
    passed = staging.opened(tuple(patterns), "args")
    results: list[Pattern] = []

    def write_results(seen: list[Seen]) -> Function:
        results.append(seen[0].pattern)
        return forms.write_slots(results[-1])

    def write_trees(_: list[Seen]) -> Function:
        return forms.write_tree(results[-1])

    text = (
        f"def layer({listed(leaves)}):\n"
        f"    out = fn({listed(trees)})\n"
        "    return results_of(out)(out)\n"
        "layer = no_inline(layer)\n"
        f"def paired({listed([*floats, *rest, 'd'])}):\n"
        f"    out = layer({listed(leaves)})\n"
        "    return dot_of(out)(out, d)\n"
        "class Remat(Cell):\n"
        f"    def construct(self, {listed(leaves)}):\n"
        f"        return layer({listed(leaves)})\n"
        f"    def bprop(self, {listed([*leaves, 'out', 'd'])}):\n"
        + "".join([f"        {name} = depend({name}, d)\n" for name in leaves])
        + f"        grads = grad(paired, {tuple(range(len(floats)))})"
        f"({listed([*floats, *rest, 'd'])})\n"
        f"        return ({listed([*_gradients(leaves, kinds, floats), ''])})\n"
        "cell = Remat()\n"
        f"def call(args):\n{passed.lines}"
        f"    out = cell({listed(passed.spread)})\n"
        "    return trees_of(out)(out)"
    )
    return staging.write(
        "call", text, fn=fn, results_of=Stage(write_results), trees_of=Stage(write_trees),
        dot_of=_dot_stage, no_inline=ms.no_inline, Cell=nn.Cell, depend=ops.depend, grad=ms.grad,
        zeros_like=P.ZerosLike(), **constants,
    )  # fmt: skip


def _gradients(leaves: list[str], kinds: list[Any], floats: list[str]) -> list[str]:
    """Return the text of the gradient of each leaf; MindSpore gives a single one bare."""
    given = {name: "grads" if len(floats) == 1 else f"grads[{i}]" for i, name in enumerate(floats)}
    # A number that is traced is no tensor, and has no zeros.
    given |= {name: "0" for name, kind in zip(leaves, kinds, strict=True) if isinstance(kind, str)}
    return [given.get(name, f"zeros_like({name})") for name in leaves]


def _write_dot(seen: list[Seen]) -> Function:
    """Write `dot(out, d)`: the sum of the products of the float results."""
    kinds = staging.dtypes(seen[0])
    terms = [f"total(out[{i}] * d[{i}])" for i, kind in enumerate(kinds) if kind in FLOATS]
    return staging.write(
        "dot", f"def dot(out, d):\n    return {' + '.join(terms)}", total=P.ReduceSum()
    )


_dot_stage = Stage(_write_dot)
