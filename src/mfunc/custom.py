"""`custom_vjp`: a function with a gradient of one's own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mindspore import nn
from mindspore.ops import operations as P

from mfunc import forms, staging, tree
from mfunc.gradient import FLOATS
from mfunc.staging import SLOT, Pattern, Seen, Stage, listed

Function = Callable[..., Any]


def custom_vjp(fn: Function, backward: Function) -> Function:
    """Give a function a gradient of one's own.

    Args:
      fn: takes trees by position, gives a tree of float tensors.
      backward: `(args, out, cotangent) -> gradients`: the tuple of the arguments, the result, and
        how much each number of it matters; returns a tuple with the gradient of each argument, or
        `None` for one that has none.

    Returns:
      A function that computes what `fn` does, with that gradient. Make it outside of compiled
      functions and take its gradient inside of one: outside, it is that of `fn`.

    Raises:
      ValueError: `backward` returns another number of gradients, or other containers.

    Example:
      >>> from mindspore import Tensor
      >>> def double(x):
      ...     return x * 2.0
      >>> def same(args, out, cotangent):
      ...     return (cotangent,)
      >>> custom_vjp(double, same)(Tensor([1.0])).asnumpy()
      array([2.], dtype=float32)

    Source:
      jax `custom_vjp`.
    """
    return forms.for_graphs(fn, functools.partial(_write_custom, fn, backward))


def _custom_in_graph(fn, backward):  # type: ignore[no-untyped-def]
    """What the compiler reads for `custom_vjp` itself."""
    raise TypeError("custom_vjp: make it outside of the compiled function, and call it inside")


custom_vjp.__wrapped__ = _custom_in_graph  # type: ignore[attr-defined]


def _write_custom(
    fn: Function, backward: Function, patterns: list[Pattern], kinds: list[Any]
) -> Function:
    """Write `call(args)`: a cell of flat tensors with `backward` for its gradient."""
    leaves, trees, constants = staging.rebuild(patterns)
    passed = staging.opened(tuple(patterns), "args")
    results: list[Pattern] = []

    def write_results(seen: list[Seen]) -> Function:
        results.append(seen[0].pattern)
        return forms.write_slots(results[-1])

    def write_trees(_: list[Seen]) -> Function:
        return forms.write_tree(results[-1])

    def write_gradients(seen: list[Seen]) -> Function:
        return _write_gradients(patterns, kinds, seen[0].pattern)

    text = (
        f"def layer({listed(leaves)}):\n"
        f"    out = fn({listed(trees)})\n"
        "    return results_of(out)(out)\n"
        "class Custom(Cell):\n"
        f"    def construct(self, {listed(leaves)}):\n"
        f"        return layer({listed(leaves)})\n"
        f"    def bprop(self, {listed([*leaves, 'out', 'd'])}):\n"
        f"        args = ({listed([*trees, ''])})\n"
        "        grads = backward(args, trees_of(out)(out), trees_of(d)(d))\n"
        f"        return gradients_of(grads)(grads, ({listed([*leaves, ''])}))\n"
        "cell = Custom()\n"
        f"def call(args):\n{passed.lines}"
        f"    out = cell({listed(passed.spread)})\n"
        "    return trees_of(out)(out)"
    )
    return staging.write(
        "call", text, fn=fn, backward=backward, Cell=nn.Cell, results_of=Stage(write_results),
        trees_of=Stage(write_trees), gradients_of=Stage(write_gradients), **constants,
    )  # fmt: skip


def _write_gradients(patterns: list[Pattern], kinds: list[Any], grads: Pattern) -> Function:
    """Write `gradients(grads, leaves)`: one for each leaf, zeros where there is none."""
    if not isinstance(grads, (tuple, list)) or len(grads) != len(patterns):
        raise ValueError(
            f"custom_vjp: the function takes {len(patterns)} arguments; backward must return a "
            "tuple with the gradient of each, or None for it"
        )
    opened = staging.opened(tuple(grads), "grads")
    given = iter(opened.every)
    texts: list[str] = []
    for i, (pattern, grad) in enumerate(zip(patterns, grads, strict=True)):
        leaves = tree.leaves(pattern)
        wanted, found = tree.flatten(pattern)[1], tree.flatten(grad)[1]
        if grad is None:
            texts += [""] * leaves.count(SLOT)
        elif wanted == found:
            mine = [next(given) for _ in leaves]
            texts += [text for leaf, text in zip(leaves, mine, strict=True) if leaf is SLOT]
        else:
            said = tree.difference(wanted, found)
            raise ValueError(f"custom_vjp: the gradient of argument {i} {said}")
    parts = [
        text if text and kind in FLOATS else f"zeros_like(leaves[{i}])"
        for i, (text, kind) in enumerate(zip(texts, kinds, strict=True))
    ]
    text = f"def gradients(grads, leaves):\n{opened.lines}    return ({listed([*parts, ''])})"
    return staging.write("gradients", text, zeros_like=P.ZerosLike())
