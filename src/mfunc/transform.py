"""Transforms: function in, function out. The only file that knows `ms.jit` and its traps.

    @mf.jit
    def step(params, batch):
        loss, grads = mf.value_and_grad(next_token_loss)(params, batch)
        ...

Every transform takes and gives trees, and a transform has two forms. Python runs one; the graph compiler,
which reads source and unwraps `__wrapped__`, reads the other. So `value_and_grad` used inside a jitted
function is a graph operation, and used outside it works eagerly on the same trees. In graphs only flat
tensors cross a border (`staging`). `docs/mindspore.md` lists what was measured.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore.graph.api import ms_compile_cache

from mfunc import staging, tree
from mfunc.staging import SLOT, Pattern, Seen, Stage

Function = Callable[..., Any]
FLOATS = (ms.float32, ms.float16, ms.bfloat16, ms.float64)


def jit(
    fn: Function,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
) -> Function:
    """Compile a function of trees; it compiles once for each structure, set of shapes and static values.

    Args:
      fn: a pure function, defined in a file (the compiler reads its source). Its arguments are trees of
        Tensors, NumPy arrays, ints and floats. Ints and floats are traced, not constants: a new value does
        not compile again, and they take the dtype of the tensor they meet.
      static_argnums: positions of hashable arguments that are constants of the graph.
      static_argnames: names of hashable keyword arguments that are constants of the graph.

    Returns:
      A function of the same arguments. `.compiles()` counts the graphs it has compiled so far.

    Raises:
      TypeError: a leaf is none of the above, or a static value cannot be hashed; the path is named.

    Laws:
      `jit(f)(*args) == f(*args)`; a second call with new values compiles nothing and sees no old value.

    Example:
      >>> def predict(params, x):
      ...     return x * params["w"] + params["b"]
      >>> fast = jit(predict)
      >>> fast({"w": np.float32([2, 3]), "b": 1.0}, np.float32([1, 1])).asnumpy()
      array([3., 4.], dtype=float32)
      >>> fast({"w": np.float32([4, 5]), "b": 2.0}, np.float32([1, 1])).asnumpy(), fast.compiles()
      (array([6., 7.], dtype=float32), 1)
    """
    positions = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    entries: dict[Any, Function] = {}
    compiled = 0

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal compiled
        fixed = _static_values(fn, args, kwargs, positions, names)
        traced = tuple([None if i in positions else arg for i, arg in enumerate(args)])
        named = {name: value for name, value in kwargs.items() if name not in names}
        leaves, structure = tree.flatten((traced, named))
        entry = entries.get((structure, fixed))
        if entry is None:
            _refuse_namedtuples((traced, named), fn)
            entry = entries[structure, fixed] = ms.jit(_entry(fn, structure, fixed))
        before = len(ms_compile_cache)
        result = entry(*[_enter(leaf, i, structure) for i, leaf in enumerate(leaves)])
        compiled += len(ms_compile_cache) - before
        return result

    call.compiles = lambda: compiled  # type: ignore[attr-defined]
    return call


def _static_values(
    fn: Function, args: Any, kwargs: Any, positions: tuple[int, ...], names: tuple[str, ...]
) -> tuple[Any, ...]:
    """Return the static arguments as hashable ((where, value), ...), or refuse them."""
    values = [(i, args[i]) for i in positions if i < len(args)]
    values += [(name, kwargs[name]) for name in names if name in kwargs]
    for where, value in values:
        try:
            hash(value)
        except TypeError:
            raise TypeError(
                f"jit({_name(fn)}): static argument {where!r} is {type(value).__name__}, which cannot be "
                "hashed; pass something hashable (a tuple, a frozen config) or trace it"
            ) from None
    return tuple(values)


def _enter(leaf: Any, index: int, structure: tree.Structure) -> Any:
    """Make a leaf what may cross the border of a compiled function.

    A view passed through to a `block` gives garbage without an error, so views are made whole here.
    Python numbers become variables of the graph; as plain arguments they would be constants.
    """
    if isinstance(leaf, ms.Tensor):
        return whole(leaf)
    if isinstance(leaf, (np.ndarray, np.generic)):
        return ms.Tensor(np.asarray(leaf))
    if type(leaf) in (int, float):
        return ms.mutable(leaf)
    path = tree.structure_paths(structure)[index]
    raise TypeError(
        f"jit: the argument at {_argument(path)} is {type(leaf).__name__}; arguments are trees of Tensors, "
        "arrays, ints and floats. Close over it, or name it in static_argnums or static_argnames"
    )


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
    """Refuse what the compiler would change: in a graph the dicts inside a NamedTuple become tuples."""
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        raise TypeError(
            f"jit({_name(fn)}): {type(node).__name__} is a NamedTuple; MindSpore loses the containers inside "
            "one. Use a dict for what enters or leaves a compiled function"
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


def _entry(fn: Function, structure: tree.Structure, fixed: tuple[Any, ...]) -> Function:
    """Write the function of flat tensors that rebuilds the trees and calls `fn`."""
    patterns = tree.unflatten(structure, [SLOT] * tree.count(structure))
    args, kwargs = patterns
    static = dict(fixed)
    leaves, trees, constants = staging.rebuild([*args, *kwargs.values()])
    arguments = trees[: len(args)]
    keywords = dict(zip(kwargs, trees[len(args) :], strict=True))
    for i, where in enumerate(static):
        constants[f"static{i}"] = static[where]
        if isinstance(where, int):
            arguments[where] = f"static{i}"
        else:
            keywords[where] = f"static{i}"
    arguments += [f"{name}={text}" for name, text in keywords.items()]
    text = f"def entry({', '.join(leaves)}):\n    return fn({', '.join(arguments)})"
    return staging.write("entry", text, fn=fn, **constants)


def value_and_grad(
    fn: Function, argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Function:
    """Return a function that gives the value of `fn` and its gradient, as trees.

    Args:
      fn: returns a loss without shape, or `(loss, aux)` with `has_aux`.
      argnums: the arguments to differentiate by: one, or a tuple of them.
      has_aux: `fn` also returns a tree that is not differentiated.

    Returns:
      A function of the arguments of `fn` that returns `(value, gradient)`; the gradient has the containers
      of the argument, or is a tuple of them. Fastest inside a function that is jitted as a whole.

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
        return jit(value_and_grad(fn.__wrapped__, argnums, has_aux))

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
    """Write `differentiate(fn, args)`: the gradient of a function of flat tensors that closes over none."""
    argnums, has_aux, *args = [arg.pattern for arg in seen]
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for i in chosen:
        _check_differentiable(args[i], seen[2 + i].dtype, f"argument {i}")
    order = [*chosen, *[i for i in range(len(args)) if i not in chosen]]
    leaves, trees, constants = staging.rebuild([args[i] for i in order])
    passed = [text for i in order for text in staging.reach(args[i], f"args[{i}]")]
    wanted = tuple(range(sum(len(staging.reach(args[i], "")) for i in chosen)))
    # MindSpore gives the gradient by one position bare, also when it stood in a tuple.
    gradients = iter(["grads"] if len(wanted) == 1 else [f"grads[{i}]" for i in wanted])
    built = [staging.build(args[i], lambda _: next(gradients)) for i in chosen]
    texts = dict(zip(order, trees, strict=True))
    text = (
        "def differentiate(fn, args):\n"
        f"    def flat({', '.join(leaves)}):\n"
        f"        out = fn({', '.join([texts[i] for i in range(len(args))])})\n"
        f"        return check({'out[0]' if has_aux else 'out'})(out)\n"
        f"    transformed = value_and_grad(flat, {wanted}, None, {has_aux})\n"
        f"    value, grads = transformed({', '.join(passed)})\n"
        f"    return value, {built[0] if isinstance(argnums, int) else '(' + ', '.join(built) + ',)'}"
    )
    return staging.write(
        "differentiate", text, value_and_grad=ms.value_and_grad, check=_loss_stage, **constants
    )


def _write_loss_check(seen: list[Seen]) -> Function:
    """Refuse a loss that is not one number; otherwise it passes unchanged."""
    _check_loss(tuple(seen[0].shape))
    return _unchanged


def _unchanged(out):  # type: ignore[no-untyped-def]
    return out


_gradient_stage = Stage(_write_gradient)
_loss_stage = Stage(_write_loss_check)


def _check_loss(shape: tuple[int, ...]) -> None:
    if shape != ():
        raise TypeError(
            f"value_and_grad: the loss has shape {shape}; it must be one number without shape. "
            "Reduce it with .sum() or .mean()"
        )


def _check_differentiable(pattern: Pattern, dtypes: Any, where: str) -> None:
    """Refuse leaves that have no gradient, by path."""
    found = zip(tree.paths(pattern), tree.leaves(pattern), tree.leaves(dtypes), strict=True)
    for path, leaf, dtype in found:
        kind = dtype.element_type() if hasattr(dtype, "element_type") else dtype
        if leaf is not SLOT or kind not in FLOATS:
            raise TypeError(
                f"value_and_grad: {where}{path and ', '}{path} is {kind if leaf is SLOT else repr(leaf)}; "
                "only float tensors have gradients. Keep other leaves in an argument that argnums does not name"
            )


def _eager_value_and_grad(
    fn: Function, argnums: int | tuple[int, ...], has_aux: bool, args: tuple[Any, ...]
) -> Any:
    """Differentiate operation by operation, outside a compiled function."""
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    args = tuple([tree.map(_own, arg) for arg in args])
    tensors = {i: args[i] for i in chosen}
    for i in chosen:
        dtypes = tree.map(_dtype, tensors[i])
        _check_differentiable(tree.map(_slot, tensors[i]), dtypes, f"argument {i}")
    leaves, structure = tree.flatten(tuple(tensors.values()))
    aux = None

    def flat(*inputs: Any) -> Any:
        nonlocal aux
        replaced = dict(zip(chosen, tree.unflatten(structure, inputs), strict=True))
        out = fn(*[replaced.get(i, arg) for i, arg in enumerate(args)])
        loss, aux = out if has_aux else (out, None)
        _check_loss(tuple(loss.shape))
        return loss

    value, gradients = ms.value_and_grad(flat, tuple(range(len(leaves))))(*leaves)
    grads = tree.unflatten(structure, (gradients,) if len(leaves) == 1 else gradients)
    result = grads[0] if isinstance(argnums, int) else grads
    return ((value, aux), result) if has_aux else (value, result)


def _own(leaf: Any) -> Any:
    """Give a leaf an identity of its own: MindSpore adds up the gradients of all uses of one tensor object."""
    if isinstance(leaf, (np.ndarray, np.generic)):
        return ms.Tensor(leaf)
    return leaf.view(leaf.shape) if isinstance(leaf, ms.Tensor) else leaf


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
        return jit(grad(fn.__wrapped__, argnums, has_aux))

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


def block(fn: Function) -> Function:
    """Compile `fn` once for all its calls in a graph: the layers of a model.

    Without it a graph of n layers takes n times as long to compile, about twice the time a step and 2.6
    times the memory.

    Args:
      fn: the function of one layer: trees in, trees out, all arguments by position. Numbers, strings and
        frozen configs may be arguments.

    Returns:
      A function that computes the same.

    Example:
      >>> @block
      ... def residual(x):
      ...     return x + x * x
      >>> residual(ms.Tensor([1.0, 2.0])).asnumpy()
      array([2., 6.], dtype=float32)
    """
    written: dict[Any, Function] = {}

    def write_block(seen: list[Seen]) -> Function:
        patterns = [arg.pattern for arg in seen]
        key = staging.frozen(patterns)
        if key not in written:
            written[key] = _write_block(fn, patterns)
        return written[key]

    stage = Stage(write_block)

    def in_graph(*args):  # type: ignore[no-untyped-def]
        return stage(*args)(args)

    @functools.wraps(fn)
    def call(*args: Any) -> Any:
        return fn(*args)

    call.__wrapped__ = in_graph  # type: ignore[attr-defined]
    return call


def _write_block(fn: Function, patterns: list[Pattern]) -> Function:
    """Write `call(args)`, which hands flat tensors to one `no_inline` function."""
    leaves, trees, constants = staging.rebuild(patterns)
    text = f"def layer({', '.join(leaves)}):\n    return fn({', '.join(trees)})"
    layer = ms.no_inline(staging.write("layer", text, fn=fn, **constants))
    passed = [text for i, node in enumerate(patterns) for text in staging.reach(node, f"args[{i}]")]
    return staging.write(
        "call", f"def call(args):\n    return layer({', '.join(passed)})", layer=layer
    )
