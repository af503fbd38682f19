"""Dropout, and its keys: the same key drops the same numbers, also in a layer computed again.

Random bits are dear on a CPU, where Threefry is a hundred kernels, so they are used sparingly: 16
of them decide four neighbours. A table holds each of the 16 patterns of four as often as its
probability says, rounded to 1 / 65,536. Neighbours, rows and keys are independent.
"""

from __future__ import annotations

import functools
import zlib
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops import operations as P

from mfunc import forms, random, staging, tree
from mfunc.depth import block
from mfunc.staging import SLOT, Pattern
from mfunc.tree import Tree

_GROUP = 4  # numbers that 16 bits decide
_BLOCK = 4 * _GROUP  # numbers that one block of Threefry (64 bits) decides


@block  # a hundred operations that every weight would bring anew
def _mask(x: Tensor, key: random.Key, factors: Tensor) -> Tensor:
    """Draw rows of the table for the places of `x`: token and column."""
    width = x.shape[-1]
    blocks = -(-width // _BLOCK)
    # Ones in place of a count of rows, which a graph may not know while it is compiled.
    first = x.reshape((-1, width))[:, :1]
    row = P.CumSum()(ops.cast(ops.ones_like(first), ms.int32), 0) - 1
    column = Tensor(np.arange(blocks, dtype=np.int32).reshape((1, -1)))
    counter = ops.cast((row * blocks + column).reshape((-1,)), ms.uint32)
    first_word, second_word = random.threefry(key, counter ^ counter, counter)
    half, over = Tensor(np.array([2**16], np.uint32)), P.FloorDiv()
    # The upper half of a word, then the lower one.
    halves = P.Stack(-1)((
        over(first_word, half), over(first_word * half, half),
        over(second_word, half), over(second_word * half, half),
    ))  # fmt: skip
    drawn = ops.cast(halves, ms.int32)
    mask = P.Gather()(factors, drawn.reshape((-1,)), 0).reshape((-1, blocks * _BLOCK))
    if blocks * _BLOCK != width:
        mask = mask[:, :width]
    return mask.reshape(x.shape)


def _write_dropout(patterns: list[Pattern], kinds: list[Any]) -> Any:
    """Write `call(args)` with the table as a constant of the graph."""
    rate = patterns[2]
    if rate is SLOT:
        raise TypeError("dropout: the rate is a variable of the graph; give it as a constant")
    constant = Tensor(table(rate)).astype(kinds[0])
    text = "def call(args):\n    x = args[0]\n    return x * stop(mask(stop(x), args[1], constant))"
    return staging.write("call", text, mask=_mask, stop=ops.stop_gradient, constant=constant)


@functools.partial(forms.for_graphs, write=_write_dropout)
def dropout(x: Tensor, key: random.Key, rate: float) -> Tensor:
    """Set numbers to zero with a probability and scale the others up, so that the mean stays.

    Args:
      x: float [..., D].
      key: uint32 [2].
      rate: probability of a zero, from 0 to below 1.

    Returns:
      As `x`; the gradient passes where `x` does.

    Laws:
      The same key gives the same zeros, eager or compiled; more rows do not change the first ones.
      The mean over all keys is `x`.

    Example:
      >>> dropout(Tensor(np.ones((1, 8), np.float32)), Tensor(random.key(0)), 0.5).asnumpy()
      array([[0., 2., 2., 0., 0., 0., 0., 0.]], dtype=float32)

    Source:
      Srivastava et al. 2014; the scale is applied in training, as in `torch.nn.Dropout`.
    """
    # Outside of graphs NumPy draws the same bits a hundred times as fast.
    width = x.shape[-1]
    blocks = -(-width // _BLOCK)
    counter = np.arange(x.size // width * blocks, dtype=np.uint32)
    words = random.threefry(_array(key), counter ^ counter, counter)
    drawn = np.stack([half for word in words for half in (word >> 16, word & 0xFFFF)], -1)
    mask = table(rate)[drawn].reshape((-1, blocks * _BLOCK))[:, :width]
    return x * Tensor(mask.reshape(x.shape)).astype(x.dtype)


@functools.lru_cache(maxsize=16)
def table(rate: float) -> np.ndarray:
    """Return the factors of four neighbours for each value of 16 bits: float32 [65536, 4].

    Laws:
      Each of the four is zero for a share of `rate`, to 3e-5, and has the mean 1.

    Raises:
      ValueError: the rate is not from 0 to below 1.

    Example:
      >>> table(0.5)[[0, 65535]].tolist()
      [[0.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]]
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: rate={rate}; it must be at least 0 and below 1")
    kept = np.arange(2**_GROUP)[:, None] >> np.arange(_GROUP) & 1
    ends = np.cumsum(np.where(kept, 1 - rate, rate).prod(1)) * 2**16
    rows = kept[np.searchsorted(ends.round(), np.arange(2**16), side="right")]
    # By the share that is kept, not by 1 - rate: the rounding does not move the mean.
    return (rows / np.maximum(rows.mean(0), 2**-16)).astype(np.float32)


def _write_fold_paths(patterns: list[Pattern], kinds: list[Any]) -> Any:
    """Write `call(args)`: one call of the generator, taken apart into the tree."""
    _, node, name = patterns
    paths, places = _places(node, name)
    counters = np.array([zlib.crc32(path.encode()) for path in paths], np.uint32)
    text = "def call(args):\n    return build(fold(args[0], counters))"
    return staging.write(
        "call", text, build=forms.write_tree(places), fold=_fold, counters=Tensor(counters)
    )


def _places(node: Tree, name: str) -> tuple[list[str], Tree]:
    """Return the paths that end in a name, and a tree that has slots at them."""
    paths = tree.paths(node)
    found = [path for path in paths if path.split("/")[-1] == name]
    return found, tree.refill(node, [SLOT if path in set(found) else None for path in paths])


@functools.partial(forms.for_graphs, write=_write_fold_paths)
def fold_paths(key: random.Key, node: Tree, name: str) -> Tree:
    """Return a key for each leaf of one name, folded from its path; `None` for all other leaves.

    Args:
      key: uint32 [2].
      node: any tree.
      name: the last word of the paths.

    Returns:
      A tree of the containers of `node`.

    Laws:
      The key at a path is `random.fold_in(key, path)`; all of them cost one call of the generator.

    Example:
      >>> keys = fold_paths(Tensor(random.key(0)), {"q": {"a": 0, "b": 0}}, "a")
      >>> keys["q"]["b"], (keys["q"]["a"].asnumpy() == random.fold_in(random.key(0), "q/a")).all()
      (None, True)
    """
    paths, places = _places(node, name)
    return tree.refill(places, [Tensor(random.fold_in(_array(key), path)) for path in paths])


def _fold(key: random.Key, counters: Tensor) -> tuple[random.Key, ...]:
    """Return `random.fold_in(key, n)` for each of the counters."""
    return P.Unstack(0)(P.Stack(-1)(random.threefry(key, counters ^ counters, counters)))


def _array(key: random.Key) -> np.ndarray:
    return key.asnumpy() if isinstance(key, Tensor) else key
