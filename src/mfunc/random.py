"""Random numbers from keys: counter-based, the same bits from NumPy and inside a compiled step.

A key is uint32 [2], a NumPy array outside and a Tensor inside compiled functions. Nothing is drawn
without a key and no call changes one: the same key gives the same numbers, `split` and `fold_in`
give new keys. The generator is Threefry-2x32 with 20 rounds. Keys and bits agree with `jax.random`
(0.10, partitionable Threefry), so results can be compared across libraries.

A NumPy key gives NumPy results, a Tensor key gives Tensors.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops import operations as P

Key = Any
Array = Any

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def key(seed: int) -> np.ndarray:
    """Return the key of a seed.

    Args:
      seed: 0 <= seed < 2**64.

    Raises:
      ValueError: the seed is out of range.

    Example:
      >>> key(7)
      array([0, 7], dtype=uint32)

    Source:
      jax 0.10 `jax.random.PRNGKey` with 64-bit seeds.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"random.key: seed is {seed}; it must be from 0 to 2**64 - 1")
    return np.array([seed >> 32, seed & 0xFFFFFFFF], dtype=np.uint32)


def split(key: Key, n: int = 2) -> tuple[Key, ...]:
    """Return `n` new keys, independent of each other and of the old one.

    Example:
      >>> first, second = split(key(0))
      >>> first
      array([1797259609, 2579123966], dtype=uint32)

    Source:
      jax 0.10 `jax.random.split` (partitionable).
    """
    high, low = _encrypt(key, _iota(key, n))
    pairs = _stack_last(high, low)
    return tuple([pairs[i] for i in range(n)])


def fold_in(key: Key, data: int | str) -> Key:
    """Return the key of `key` and a number or a name (a step, a layer, a parameter path).

    Args:
      key: uint32 [2].
      data: an int in [0, 2**32), in a compiled step also an int Tensor without shape; a string
        stands for its CRC-32.

    Example:
      >>> fold_in(key(0), "embed").tolist() == fold_in(key(0), "head").tolist()
      False

    Source:
      jax 0.10 `jax.random.fold_in`.
    """
    number = zlib.crc32(data.encode()) if isinstance(data, str) else data
    high, low = _encrypt(key, _counter(key, number))
    return _stack_last(high, low)[0]


def bits(key: Key, shape: tuple[int, ...]) -> Array:
    """Return uint32 of the shape, all 32 bits random.

    Example:
      >>> bits(key(0), (2,))
      array([4070199207, 4202968722], dtype=uint32)

    Source:
      jax 0.10 `jax.random.bits` (partitionable).
    """
    size = math.prod(shape)
    high, low = _encrypt(key, _iota(key, size))
    return (high ^ low).reshape(shape)


def uniform(key: Key, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Array:
    """Return float32 of the shape, uniform in [low, high).

    Example:
      >>> uniform(key(0), (2,)).round(4)
      array([0.9477, 0.9786], dtype=float32)

    Source:
      jax 0.10 `jax.random.uniform`: the upper 23 bits are the fraction.
    """
    unit = _float(_shift_right(bits(key, shape), 9)) * 2.0**-23
    return unit if (low, high) == (0.0, 1.0) else unit * (high - low) + low


def normal(key: Key, shape: tuple[int, ...]) -> Array:
    """Return float32 of the shape with mean 0 and variance 1.

    Example:
      >>> normal(key(0), (2,)).round(4)
      array([1.6226, 2.0253], dtype=float32)

    Source:
      jax 0.10 `jax.random.normal`, which is sqrt(2) erfinv(u); agrees to 1e-5.
    """
    lowest = -0.99999994  # the float32 after -1, whose erfinv is finite
    return _erfinv(uniform(key, shape, lowest, 1.0)) * math.sqrt(2.0)


def bernoulli(key: Key, probability: float, shape: tuple[int, ...]) -> Array:
    """Return bool of the shape, true with the probability.

    Example:
      >>> bernoulli(key(0), 0.5, (4,))
      array([False, False,  True,  True])
    """
    return uniform(key, shape) < probability


def categorical(key: Key, logits: Array) -> Array:
    """Draw one index for each row of logits [..., n]; returns int32 [...].

    Example:
      >>> categorical(key(0), np.array([[0.0, 9.0, 0.0]], dtype=np.float32))
      array([1], dtype=int32)

    Source:
      The Gumbel-max rule: argmax(logits - log(-log u)).
    """
    tiny = 1.1754944e-38
    noise = uniform(key, logits.shape) + tiny
    scores = logits - _log(-_log(noise))
    return _argmax(scores)


def threefry(key: Key, high: Array, low: Array) -> tuple[Array, Array]:
    """Encrypt counters (high, low), uint32 [n] each, under a key: 20 rounds of Threefry-2x32.

    Example:
      >>> zero = np.zeros(1, np.uint32)
      >>> [hex(int(word[0])) for word in threefry(key(0), zero, zero)]
      ['0x6b200159', '0x99ba4efe']

    Source:
      Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011; Random123 1.09 known
      answers.
    """
    first, second = key[0:1], key[1:2]
    third = first ^ second ^ _word(key, _PARITY)
    schedule = (first, second, third)
    x, y = high + first, low + second
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = _rotate(y, rotation) ^ x
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + _word(key, group + 1)
    return x, y


def _encrypt(key: Key, low: Array) -> tuple[Array, Array]:
    """Encrypt counters below 2**32."""
    return threefry(key, low ^ low, low)


# Below: the few words in which NumPy and the compiled graph differ.


def _iota(like: Array, n: int) -> Array:
    """Return uint32 0 .. n - 1."""
    if isinstance(like, np.ndarray):
        return np.arange(n, dtype=np.uint32)
    return Tensor(np.arange(n, dtype=np.uint32))


def _word(like: Array, value: Any) -> Array:
    """Return one number as uint32 [1]."""
    number = np.array([value], dtype=np.uint32)
    return number if isinstance(like, np.ndarray) else Tensor(number)


def _counter(like: Array, value: Any) -> Array:
    """Return one number, which a graph may know as a variable only, as uint32 [1]."""
    if isinstance(like, np.ndarray) and not isinstance(value, Tensor):
        return _word(like, value)
    return ops.cast(value, ms.uint32).reshape((1,))


def _rotate(x: Array, by: int) -> Array:
    if isinstance(x, np.ndarray):
        return (x << np.uint32(by)) | (x >> np.uint32(32 - by))
    # A product and a quotient: MindSpore's shifts on CPU take three times as long.
    low = P.FloorDiv()(x, _word(x, 1 << (32 - by)))
    return x * _word(x, 1 << by) + low


def _shift_right(x: Array, by: int) -> Array:
    return x >> np.uint32(by) if isinstance(x, np.ndarray) else ops.bitwise_right_shift(x, by)


def _stack_last(a: Array, b: Array) -> Array:
    return np.stack([a, b], -1) if isinstance(a, np.ndarray) else ops.stack((a, b), -1)


def _float(x: Array) -> Array:
    return x.astype(np.float32) if isinstance(x, np.ndarray) else ops.cast(x, ms.float32)


def _log(x: Array) -> Array:
    return np.log(x) if isinstance(x, np.ndarray) else ops.log(x)


def _sqrt(x: Array) -> Array:
    return np.sqrt(x) if isinstance(x, np.ndarray) else ops.sqrt(x)


def _where(condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition, a, b) if isinstance(a, np.ndarray) else ops.where(condition, a, b)


def _argmax(x: Array) -> Array:
    if isinstance(x, np.ndarray):
        return x.argmax(-1).astype(np.int32)
    return ops.cast(ops.argmax(x, -1), ms.int32)


_ERFINV_CENTRE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
    -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
_ERFINV_TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613,
    0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip


def _erfinv(x: Array) -> Array:
    """Inverse error function in float32 (Giles, "Approximating the erfinv function", 2010)."""
    w = -_log((1.0 - x) * (1.0 + x))
    centre = _polynomial(_ERFINV_CENTRE, w - 2.5)
    tail = _polynomial(_ERFINV_TAIL, _sqrt(w) - 3.0)
    return _where(w < 5.0, centre, tail) * x


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    total = x * 0.0 + coefficients[0]
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total
