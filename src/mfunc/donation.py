"""Donation: a state that stays in one place while steps overwrite it.

What a donated argument holds lives in Parameters that the graph closes over, its *home*: it crosses
no border, and kernels write to it in place. The user holds leaves that share this memory, until the
next call is given them and hands out others. So a donated tree is dead after the call, and every
other tree is a value.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops import operations as P

from mfunc import staging, tree
from mfunc.staging import SLOT, Opened, Seen, listed

_serial = itertools.count()

# What gives the memory itself away: NumPy arrays, views, casts to the same dtype.
_SHARING = (
    "__array__", "__getitem__", "__iter__", "as_strided", "asnumpy", "astype", "bfloat16",
    "bool", "broadcast_to", "byte", "chunk", "detach", "diagonal", "double", "dsplit",
    "expand_as", "expand_dims", "flatten", "float", "half", "hsplit", "index_select", "int",
    "long", "movedim", "narrow", "numpy", "permute", "ravel", "reshape", "reshape_as", "select",
    "short", "split", "squeeze", "storage", "swapaxes", "swapdims", "t", "tensor_split", "to",
    "to_dlpack", "transpose", "type", "type_as", "unbind", "unfold", "unsqueeze",
    "untyped_storage", "view", "view_as", "vsplit",
)  # fmt: skip


class Resident(Tensor):
    """A leaf of a state that is in its home; the next step overwrites this memory.

    Methods that give a view, or an array of the same memory, give one of a copy.
    """

    @property
    def T(self) -> Tensor:  # noqa: N802
        """The transpose of a copy."""
        return copied(self).T

    mT = T  # noqa: N815

    @property
    def data(self) -> Tensor:
        """A copy."""
        return copied(self)

    def copy(self) -> Tensor:
        """Return a copy."""
        return copied(self)

    clone = copy


def _through_copy(name: str) -> Callable[..., Any]:
    def method(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        return getattr(copied(self), name)(*args, **kwargs)

    method.__name__ = name
    return method


for _name in _SHARING:
    if hasattr(Tensor, _name):
        setattr(Resident, _name, _through_copy(_name))


def copied(leaf: Tensor) -> Tensor:
    """Return a tensor of its own memory.

    Example:
      >>> copied(Tensor([1.0, 2.0])).asnumpy().tolist()
      [1.0, 2.0]
    """
    return Tensor(Tensor.asnumpy(leaf).copy(), leaf.dtype)


class Donated(Tensor):
    """What a leaf becomes when its tree was donated: every use of it raises."""

    def __getattribute__(self, name: str) -> Any:
        if name not in ("__class__", "__dict__"):
            _refuse()
        return object.__getattribute__(self, name)

    def __repr__(self) -> str:
        return "<donated tensor>"


DEAD = (
    "it was donated (donate_argnums) and its memory holds newer numbers; use the tree that the "
    "call returned, or copy what you keep before the call"
)


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError(f"this tensor is dead: {DEAD}")


_KEPT = ("class", "del", "dict", "doc", "getattribute", "init", "init_subclass", "module", "new",
         "repr", "str", "subclasshook", "hash", "weakref", "setattr", "dir")  # fmt: skip
for _name in dir(Tensor):
    if _name.startswith("__") and _name.strip("_") not in _KEPT:
        setattr(Donated, _name, _refuse)

# Of a type that no kernel takes: an operator that reads a dead leaf fails.
_NOTHING = Tensor(np.zeros(0, "U1"))


class Home(NamedTuple):
    """Where donated leaves live, and who holds them now: one `Resident` or first leaf each."""

    parameters: tuple[ms.Parameter, ...]
    holders: list[Any]


def settle(given: Sequence[Any], inputs: Sequence[Tensor]) -> Home:
    """Make a home for leaves and bring them there, one by one: each is dead when it is copied.

    Args:
      given: what the user holds.
      inputs: the same as whole tensors, who hold the home.
    """
    parameters = []
    for leaf, tensor in zip(given, inputs, strict=True):
        parameters.append(ms.Parameter(copied(tensor), name=f"mfunc_{next(_serial)}"))
        _kill(leaf)
    return Home(tuple(parameters), [weakref.ref(tensor) for tensor in inputs])


def move_in(home: Home, given: Sequence[Any], inputs: Sequence[Tensor]) -> None:
    """Bring leaves home, if it is not they who live there; who lived there gets a copy."""
    for i, tensor in enumerate(inputs):
        holder = home.holders[i]()
        if holder is tensor:
            continue
        if type(holder) is Resident:
            _swap(holder, copied(holder), Tensor)
        home.parameters[i].copy_(tensor)
        home.holders[i] = weakref.ref(tensor)
        _kill(given[i])


def hand_out(home: Home, given: Sequence[Any]) -> list[Tensor]:
    """Return new holders after a step; whoever held the home before is dead."""
    for leaf in given:
        _kill(leaf)
    new = [Tensor._make_subclass(Resident, parameter) for parameter in home.parameters]
    home.holders[:] = map(weakref.ref, new)
    return new


def revive(home: Home, given: Sequence[Any]) -> None:
    """Give leaves their numbers back: the step has failed."""
    for parameter, leaf in zip(home.parameters, given, strict=True):
        if type(leaf) is Donated:
            _swap(leaf, copied(parameter), Tensor)


def _kill(leaf: Any) -> None:
    # The type first: `isinstance` of a Tensor is Python code, and a step kills every leaf.
    if type(leaf) is Resident or isinstance(leaf, Tensor):
        _swap(leaf, _NOTHING, Donated)


_memory = Tensor.__mro__[1].data


def _swap(leaf: Tensor, memory: Tensor, kind: type) -> None:
    """Give a Python object another tensor behind it."""
    _memory.__set__(leaf, memory)
    leaf.__class__ = kind


# --- what the compiler reads ---

# What stands in a result for a leaf that a kernel has overwritten.
THERE = "there"


def places(home: Home, seen: Seen, paths: Sequence[str], name: str) -> list[int | None]:
    """Return where each leaf of a result is written: the first place of its kind that is free.

    Args:
      home: the places.
      seen: the result.
      paths: of the places, for an error.
      name: of the function.

    Raises:
      ValueError: a place stays empty.
    """
    leaves = tree.leaves(seen.pattern)
    _check_new_tree_first(home, leaves, name)
    kinds = iter(zip(staging.shapes(seen), staging.dtypes(seen), strict=True))
    free: dict[Any, list[int]] = {}
    for i, parameter in enumerate(home.parameters):
        free.setdefault((tuple(parameter.shape), parameter.dtype), []).append(i)
    found: list[int | None] = []
    for i, leaf in enumerate(leaves):
        kind = next(kinds) if leaf is SLOT else None
        if _is_there(leaf):
            parameter = home.parameters[i]
            kind = tuple(parameter.shape), parameter.dtype
        fitting = free.get(kind)
        found.append(fitting.pop(0) if fitting else None)
    for i, parameter in enumerate(home.parameters):
        if i not in found:
            raise ValueError(
                f"jit({name}): the donated leaf at {paths[i]} is {parameter.dtype} "
                f"{tuple(parameter.shape)}, and no result is left that could take its place; do "
                "not donate this argument, or return its new value"
            )
    return found


def _is_there(leaf: Any) -> bool:
    return type(leaf) is str and leaf == THERE


def _check_new_tree_first(home: Home, leaves: Sequence[Any], name: str) -> None:
    """Refuse a result in which an overwritten leaf is not where its place is."""
    count = len(home.parameters)
    if any(_is_there(leaf) for leaf in leaves[count:]) or (
        any(_is_there(leaf) for leaf in leaves) and len(leaves) < count
    ):
        raise ValueError(
            f"jit({name}): with home=..., the result is the new tree, or a tuple that begins with "
            "it; another tree was returned"
        )


def write_finish(home: Home, seen: Seen, out: Opened, found: Sequence[int | None]) -> Any:
    """Write `finished(out, home)`: write to the home what belongs there, return the rest.

    Args:
      home: the places.
      seen: the result.
      out: how its leaves are reached.
      found: the place of each leaf, or `None`.
    """
    leaves = tree.leaves(seen.pattern)
    lines, rest, written = [], [], []
    for text, place, leaf in zip(out.every, found, leaves, strict=True):
        if place is None:
            rest.append(text)
        elif leaf is SLOT:
            lines.append(f"    written{place} = assign(home[{place}], {text})")
            written.append(f"written{place}")
    # A graph whose results are all constants is not run, so one result is not. It is the one that
    # the caller waits for: a number that is read when the kernels that overwrite are done.
    there = [i for i, leaf in enumerate(leaves) if _is_there(leaf)]
    sizes = [math.prod(parameter.shape) for parameter in home.parameters]
    small = min(there or range(len(sizes)), key=lambda i: sizes[i] or math.inf)
    axes = len(home.parameters[small].shape) if sizes[small] else 0  # of nothing there is no part
    last = f"part(home[{small}], {(0,) * axes}, {(1,) * axes})" if axes else f"home[{small}]"
    last = f"depend({last}, ({listed([*written, ''])}))" if written else last
    rest.append(f"identity({last})")
    body = "\n".join([*lines, f"    return ({listed([*rest, ''])})"])
    text = f"def finished(out, home):\n{out.lines}{body}"
    return staging.write(
        "finished",
        text,
        assign=P.Assign(),
        identity=P.Identity(),
        depend=ops.depend,
        part=P.Slice(),
    )
