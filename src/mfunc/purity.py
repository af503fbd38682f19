"""What makes a function impure, seen before the compiler drops it without a word."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import mindspore as ms
import numpy as np

CHANGING = frozenset((
    "add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse",
    "setdefault", "sort", "update",
))  # fmt: skip


def check_pure(fn: Callable[..., Any], where: str) -> None:
    """Refuse a function that changes what it did not make.

    Only its own source is read, not that of the functions it calls.

    Raises:
      TypeError: it assigns to a global, to a place in an argument or in a closed over value, or
        calls a method that changes one (`list.append`); the line is named.
    """
    try:
        lines, first = inspect.getsourcelines(fn)
        file = inspect.getsourcefile(fn)
        (function,) = ast.parse(textwrap.dedent("".join(lines))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return  # no source of its own: the compiler has its say
    if not isinstance(function, ast.FunctionDef):
        return
    names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    for line, name in _changes(function, own):
        if isinstance(_value(fn, name), ModuleType):
            continue
        raise TypeError(
            f"jit({where}): {file}:{first + line - 1} changes {name}, which the function did not "
            "make; a compiled function cannot. Return what changes"
        )


def _changes(function: ast.FunctionDef, own: set[str]) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of all that is changed and not made here."""
    for node in ast.walk(function):
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            yield node.lineno, node.names[0]
        elif isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(
            node.ctx, ast.Load
        ):
            name = _root(node)
            if name and name not in own:
                yield node.lineno, name
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            if isinstance(called, ast.Attribute) and called.attr in CHANGING:
                name = _root(called)
                if name and name not in own:
                    yield node.lineno, name


def _root(node: ast.AST) -> str | None:
    """Return the name at the left end of `a.b[c].d`."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _value(fn: Callable[..., Any], name: str) -> Any:
    """Return what a free name of a function stands for now, or `None`."""
    code = getattr(fn, "__code__", None)
    cells = getattr(fn, "__closure__", None)
    if code and cells and name in code.co_freevars:
        try:
            return cells[code.co_freevars.index(name)].cell_contents
        except ValueError:  # not assigned yet
            return None
    return getattr(fn, "__globals__", {}).get(name)


def constants_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """Return the tensors and arrays that a function closes over: constants of its graph."""
    code = getattr(fn, "__code__", None)
    if code is None:
        return {}
    names = {*code.co_freevars, *code.co_names}
    found = {name: _value(fn, name) for name in names}
    return {k: v for k, v in found.items() if isinstance(v, (ms.Tensor, np.ndarray))}


def check_constants(fn: Callable[..., Any], taken: dict[str, Any], where: str) -> None:
    """Refuse a call when a name stands for another tensor than when the graph was made.

    Raises:
      ValueError: it does; the name is given.
    """
    for name, value in taken.items():
        if _value(fn, name) is not value:
            raise ValueError(
                f"jit({where}): {name} is another tensor now than when the function was compiled, "
                "which keeps what it closes over as a constant. Pass it as an argument"
            )
