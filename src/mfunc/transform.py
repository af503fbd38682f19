"""Transforms: function in, function out. The only file that knows `ms.jit` and its traps.

    @mf.jit
    def step(params, batch):
        loss, grads = mf.value_and_grad(next_token_loss)(params, batch)
        ...

Every transform takes and gives trees, and a transform has two forms. Python runs one; the graph
compiler, which reads source and unwraps `__wrapped__`, reads the other. So `value_and_grad` used
inside a jitted function is a graph operation, and used outside it works eagerly on the same trees.
In graphs only flat tensors cross a border (`staging`). `docs/mindspore.md` lists what was measured.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mindspore as ms
import numpy as np

from mfunc import entry, staging, tree
from mfunc.donation import DEAD, Donated, Home, Resident
from mfunc.dynamic import Axes, Dim, axes_of, check
from mfunc.entry import Graph
from mfunc.purity import check_constants, check_pure, constants_of

Function = Callable[..., Any]


def jit(
    fn: Function,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    donate_argnums: int | Sequence[int] = (),
    home: str | None = None,
    dynamic: Mapping[str, Sequence[Dim | None]] | None = None,
) -> Function:
    """Compile a function of trees, once for each structure, set of shapes and static values.

    Args:
      fn: a pure function, defined in a file (the compiler reads its source). Its arguments are
        trees of Tensors, NumPy arrays, ints and floats. Ints and floats are traced, not constants:
        a new value does not compile again, and they take the dtype of the tensor they meet.
      static_argnums: positions of hashable arguments that are constants of the graph.
      static_argnames: names of hashable keyword arguments that are constants of the graph.
      donate_argnums: positions of arguments that the caller gives away. Results of the same shapes
        and dtypes take their memory, and stay in it from call to call; it lives as long as the
        function. A donated tree is dead afterwards. Methods of a tensor never share this memory;
        what a function of `mindspore.ops` returns as a view does, until the next call: copy it.
      home: name of a keyword argument of `fn` that gets the memory of the donated arguments, for
        kernels that overwrite it (`optim.step`, as the last thing that `fn` does); a tree if one is
        donated, else a tuple of trees. The result is the new tree, or a tuple that begins with it.
      dynamic: `{pattern: axes}`, which axes may have another size at each call without compiling
        again: `{"input_ids": (None, Dim("length", divisor=8, max=4096))}`. A pattern names leaves
        by the end of their path. Sizes in `Dim(static=)` have graphs of their own.

    Returns:
      A function of the same arguments. `.compiles()` counts the graphs it has compiled so far. A
      second `jit(fn)` of the same settings finds those of the first, unless it donates.
      `.compilations()` tells of each the sizes it is for (`None`: any), by the name of their `Dim`,
      and the seconds of its first call.

    Raises:
      TypeError: a leaf is none of the above, or a static value cannot be hashed; the path is named.
        Or `fn` changes what it did not make: a list outside of it, an argument.
      ValueError: a size does not fit its `Dim`, or `dynamic` names what is not there. Or `fn`
        closes over a tensor by a name that stands for another one now. Or a donated leaf stands at
        two places, or no result can take its memory.
      RuntimeError: an argument was donated before.

    Laws:
      `jit(f)(*args) == f(*args)`; a second call with new values compiles nothing and sees no old
      value.

    Example:
      >>> def predict(params, x):
      ...     return x * params["w"] + params["b"]
      >>> fast = jit(predict)
      >>> fast({"w": np.float32([2, 3]), "b": 1.0}, np.float32([1, 1])).asnumpy()
      array([3., 4.], dtype=float32)
      >>> fast({"w": np.float32([4, 5]), "b": 2.0}, np.float32([1, 1])).asnumpy(), fast.compiles()
      (array([6., 7.], dtype=float32), 1)
    """
    positions, given = _several(static_argnums), _several(donate_argnums)
    names = _several(static_argnames)
    flexible = tuple(map(_with_tuple, (dynamic or {}).items()))
    homes: dict[Any, Home] = {}
    compiled: list[int] = [0]
    made: list[Any] = []
    graphs, constants = _remembered(fn, None if given else (positions, names, home, flexible))
    name = _name(fn)
    check_pure(fn, name)

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        fixed = _static_values(fn, args, kwargs, positions, names)
        leaves, structure = tree.flatten(_traced(args, kwargs, positions, names))
        inputs = _entered(leaves, structure)
        kinds = _kinds(inputs, flexible, structure, name)
        key = structure, staging.frozen(fixed), tuple(kinds)
        began = 0.0 if key in graphs else time.perf_counter()
        if began:
            _refuse_namedtuples(tree.unflatten(structure, leaves), fn)
            donation = entry.donation_of(structure, kinds, given, leaves, inputs, homes, name)
            graphs[key] = entry.build(fn, structure, fixed, kinds, donation, home, name)
            constants.update({} if constants else constants_of(fn))
        check_constants(fn, constants, name)
        result = entry.run(graphs[key], leaves, inputs, name, compiled)
        if began:
            made.append((_sizes(inputs, flexible, structure, name), time.perf_counter() - began))
        return result

    again: dict[str, Any] = {"static_argnums": positions, "static_argnames": names}
    return _telling(call, compiled, made, functools.partial(jit, **again, dynamic=dynamic))


def _telling(call: Any, compiled: list[int], made: list[Any], again: Function) -> Function:
    """Give a jitted function what it tells of its graphs."""
    call.compiles = lambda: compiled[0]
    call.compilations = lambda: tuple(made)
    call.again = again
    return call


def _remembered(fn: Function, settings: Any) -> tuple[dict[Any, Graph], dict[str, Any]]:
    """Return what is known of `fn`: it is kept on the function itself, and goes with it."""
    kept = getattr(fn, "__dict__", {}) if settings else {}
    owner, known = kept.get("_mfunc_graphs", (None, {}))
    if owner is not fn:  # `functools.wraps` copies what a function carries
        known = {}
        kept["_mfunc_graphs"] = (fn, known)
    return known.setdefault(settings, ({}, {}))


def _with_tuple(item: tuple[str, Sequence[Dim | None]]) -> tuple[str, Axes]:
    return item[0], tuple(item[1])


def _several(value: Any) -> tuple[Any, ...]:
    """Return a tuple of what is one thing or several."""
    return (value,) if isinstance(value, (int, str)) else tuple(value)


def _jit_in_graph(  # type: ignore[no-untyped-def]
    fn, static_argnums=(), static_argnames=(), donate_argnums=(), home=None, dynamic=None
):
    """What the compiler reads for `jit` itself: in a compiled function all is compiled."""
    return fn


jit.__wrapped__ = _jit_in_graph  # type: ignore[attr-defined]


def _static_values(
    fn: Function, args: Any, kwargs: Any, positions: tuple[int, ...], names: tuple[str, ...]
) -> tuple[Any, ...]:
    """Return the static arguments as hashable ((where, value), ...), or refuse them."""
    values: list[tuple[Any, Any]] = [(i, args[i]) for i in positions if i < len(args)]
    values += [(name, kwargs[name]) for name in names if name in kwargs]
    for where, value in values:
        try:
            hash(value)
        except TypeError:  # noqa: PERF203
            raise TypeError(
                f"jit({_name(fn)}): static argument {where!r} is {type(value).__name__}, which "
                "cannot be hashed; pass something hashable (a tuple, a frozen config) or trace it"
            ) from None
    return tuple(values)


def _traced(args: Any, kwargs: Any, positions: tuple[int, ...], names: tuple[str, ...]) -> Any:
    """Return the arguments without the static ones."""
    traced = tuple([None if i in positions else arg for i, arg in enumerate(args)])
    return traced, {name: value for name, value in kwargs.items() if name not in names}


def _entered(leaves: Sequence[Any], structure: tree.Structure) -> list[Any]:
    """Make leaves what may cross the border; those of a donated state are whole as they are."""
    return [
        leaf if type(leaf) is Resident else _enter(leaf, i, structure)
        for i, leaf in enumerate(leaves)
    ]


def _enter(leaf: Any, index: int, structure: tree.Structure) -> Any:
    """Make a leaf what may cross the border of a compiled function.

    A view passed through to a `block` gives garbage without an error, so views are made whole here.
    Python numbers become variables of the graph; as plain arguments they would be constants.
    """
    if type(leaf) is Donated:
        path = _argument(tree.structure_paths(structure)[index])
        raise RuntimeError(f"jit: the leaf at {path} is dead: {DEAD}")
    if isinstance(leaf, ms.Tensor):
        return whole(leaf)
    if isinstance(leaf, (np.ndarray, np.generic)):
        return ms.Tensor(np.asarray(leaf))
    if type(leaf) in (int, float):
        return ms.mutable(leaf)
    path = tree.structure_paths(structure)[index]
    raise TypeError(
        f"jit: the argument at {_argument(path)} is {type(leaf).__name__}; arguments are trees of "
        "Tensors, arrays, ints and floats. Close over it, or name it in static_argnums or "
        "static_argnames"
    )


def _kinds(
    inputs: list[Any], flexible: tuple[tuple[str, Axes], ...], structure: tree.Structure, name: str
) -> list[Any]:
    """Return what a graph depends on: shapes and dtypes, not the values; a `Dim` for some sizes."""
    # The type first: `isinstance` of a subclass of Tensor is Python code.
    kinds = [
        (x.shape, x.dtype) if type(x) is Resident or isinstance(x, ms.Tensor) else type(x)
        for x in inputs
    ]
    if not flexible:
        return kinds
    paths, every = _flexible_places(flexible, structure, name)
    shapes = [kind[0] if isinstance(kind, tuple) else None for kind in kinds]
    check(every, shapes, paths, name)
    return [
        kind if axes is None else (_mixed(kind[0], axes), kind[1])
        for kind, axes in zip(kinds, every, strict=True)
    ]


def _sizes(
    inputs: list[Any], flexible: tuple[tuple[str, Axes], ...], structure: tree.Structure, name: str
) -> dict[str, int | None]:
    """Return the size that a graph was made for, by the name of its `Dim`; `None` if for any."""
    found: dict[str, int | None] = {}
    if flexible:
        for x, axes in zip(inputs, _flexible_places(flexible, structure, name)[1], strict=True):
            for dim, size in zip(axes or (), x.shape if axes else (), strict=True):
                if dim is not None:
                    found[dim.name] = size if size in dim.static else None
    return found


@functools.lru_cache(maxsize=256)
def _flexible_places(
    flexible: tuple[tuple[str, Axes], ...], structure: tree.Structure, name: str
) -> tuple[list[str], list[Axes | None]]:
    """Return the path and the dynamic axes of each leaf: found once, not at every call."""
    paths = [_place(path) for path in tree.structure_paths(structure)]
    return paths, axes_of(dict(flexible), paths, name)


def _mixed(shape: tuple[int, ...], axes: Axes) -> tuple[int | Dim, ...]:
    return tuple(
        [
            size if dim is None or size in dim.static else dim
            for dim, size in zip(axes, shape, strict=True)
        ]
    )


def _place(path: str) -> str:
    """Turn a path in (args, kwargs) into that of an argument: `0/2/w` is `2/w`."""
    return path.partition("/")[2]


def whole(tensor: ms.Tensor) -> ms.Tensor:
    """Return the tensor itself, or a copy if it is a view of another one.

    Example:
      >>> base = ms.Tensor(np.arange(6.0).reshape(2, 3))
      >>> whole(base) is base, whole(base[1]).storage_offset()
      (True, 0)
    """
    if (
        tensor.is_contiguous()
        and tensor.storage_offset() == 0
        and tensor.untyped_storage().size() == tensor.nbytes
    ):
        return tensor
    return tensor.copy()  # not by way of NumPy: an eager gradient passes through here


def _refuse_namedtuples(node: tree.Tree, fn: Function) -> None:
    """Refuse what would change: in a graph the dicts inside a NamedTuple become tuples."""
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        raise TypeError(
            f"jit({_name(fn)}): {type(node).__name__} is a NamedTuple; MindSpore loses the "
            "containers inside one. Use a dict for what enters or leaves a compiled function"
        )
    if isinstance(node, (dict, tuple, list)):
        for child in node.values() if isinstance(node, dict) else node:
            _refuse_namedtuples(child, fn)


def _argument(path: str) -> str:
    """Turn a path in (args, kwargs) into words: `0/2/w` is `argument 2, w`."""
    side, name, *rest = path.split("/")
    first = f"argument {name}" if side == "0" else f"argument {name!r}"
    return first + (f", {'/'.join(rest)}" if rest else "")


def _name(fn: Function) -> str:
    return getattr(fn, "__name__", repr(fn))
