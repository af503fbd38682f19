"""MindSpore's `.ckpt` files, as `ms.save_checkpoint` writes them: a message for each array.

They carry no checksum, and MindFormers puts the state of its optimizer and counters beside the
weights. Encrypted files and hash tables are not read.
"""

from __future__ import annotations

import binascii
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from mindspore.common import np_dtype
from mindspore.train.checkpoint_pb2 import Checkpoint

from mfunc.checkpoint.arrays import missing_and_extra, replacing, widened
from mfunc.checkpoint.naming import from_names, to_names
from mfunc.tree import Tree

_NAMES = (
    "Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64",
    "Float16", "Float32", "Float64",
)  # fmt: skip
_DTYPES: dict[str, Any] = {name: np.dtype(name.lower()) for name in _NAMES}
_DTYPES["BFloat16"] = np.dtype(np_dtype.bfloat16)
_NAMES_OF = {dtype: name for name, dtype in _DTYPES.items()}

# An array of more bytes than this comes in several messages.
_SLICE = 512 << 20
_CRC = b"crc_num"

# What training of MindFormers writes beside the weights: whole names, then beginnings.
EXTRAS = frozenset((
    "epoch_num", "step_num", "global_step", "loss_scale", "global_batch_size", "learning_rate",
    "weight_decay", "momentum", "beta1_power", "beta2_power", "scale_sense", "scaling_sens",
    "current_iterator_step", "last_overflow_iterator_step", "random_op", "random_seed",
))  # fmt: skip
EXTRA_PREFIXES = (
    "adam_m.", "adam_v.", "moment1.", "moment2.", "moments.", "accu_grads.", "accu_grad.", "accum.",
    "exp_avg.", "exp_avg_sq.", "exp_avg_row.", "exp_avg_col.", "exp_avg_insta_row.",
    "exp_avg_insta_col.", "ema.", "learning_rate.",
)  # fmt: skip


class FromCkpt(NamedTuple):
    """What a `.ckpt` file holds: `params, extras = from_ckpt(...)`.

    Attributes:
      params: our tree.
      extras: optimizer states and counters (`adam_m.*`, `global_step`, ...) by their names; nothing
        of ours reads them.
    """

    params: Tree
    extras: dict[str, np.ndarray | str]


def from_ckpt(
    path: str | os.PathLike[str], names: Mapping[str, tuple[str, bool]], specs: Tree
) -> FromCkpt:
    """Read a model from a `.ckpt` file of MindFormers.

    Args:
      path: the file.
      names: our path -> (their name, transposed), as `nn.names.llama_mindformers.names(config)`.
      specs: what the model needs, `llama.specs(config)`.

    Returns:
      The parameters in the dtypes of the specs, and what else is known to stand in such files.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no whole checkpoint; or weights are missing, unexpected or misshapen, which
        are named.
    """
    theirs = {name for name, _ in names.values()}
    read = read_ckpt(path)
    extras = {name: value for name, value in read.items() if name not in theirs and _extra(name)}
    texts = sorted(n for n, value in read.items() if isinstance(value, str) and n not in extras)
    if texts:
        raise ValueError(f"{path}: {missing_and_extra([], texts)} (texts)")
    arrays = {n: widened(a) for n, a in read.items() if n not in extras and not isinstance(a, str)}
    return FromCkpt(from_names(arrays, names, specs, str(path)), extras)


def _extra(name: str) -> bool:
    return name in EXTRAS or name.startswith(EXTRA_PREFIXES)


def to_ckpt(
    path: str | os.PathLike[str],
    params: Tree,
    names: Mapping[str, tuple[str, bool]],
    extras: Mapping[str, Any] | None = None,
) -> None:
    """Write a model to a `.ckpt` file that MindFormers and `ms.load_checkpoint` read.

    Args:
      path: the file.
      params: our tree.
      names: our path -> (their name, transposed).
      extras: what else goes in by its name, as `{"global_step": np.int32(100)}`.

    Laws:
      `from_ckpt(path, names, params) == (params, extras)` to the bit.
    """
    arrays = to_names(params, names)
    twice = sorted(arrays.keys() & (extras or {}).keys())
    if twice:
        raise ValueError(f"{path}: the extra {twice[0]} is a weight's name")
    write_ckpt(path, {**arrays, **(extras or {})})


def read_ckpt(path: str | os.PathLike[str]) -> dict[str, np.ndarray | str]:
    """Read all that a `.ckpt` file holds, by name; bfloat16 has MindSpore's NumPy type.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no whole checkpoint, or one of a kind that is not read.

    Example:
      >>> write_ckpt("x.ckpt", {"w": np.float32([1, 2]), "step_num": np.int32(7)})
      >>> read_ckpt("x.ckpt")
      {'w': array([1., 2.], dtype=float32), 'step_num': array(7, dtype=int32)}
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    pieces: dict[str, list[Any]] = {}
    previous = None
    for value in _messages(file.read_bytes(), str(path)):
        if not value.HasField("tensor"):
            raise ValueError(f"{path}: {value.tag} is a hash table; only arrays are read")
        if value.tag in pieces and value.tag != previous:
            raise ValueError(f"{path}: {value.tag} stands there twice")
        previous = value.tag
        pieces.setdefault(value.tag, []).append(value.tensor)
    return {name: _joined(tensors, f"{path}: {name}") for name, tensors in pieces.items()}


def _messages(data: bytes, where: str) -> Iterator[Any]:
    """Yield the values of a file: field 1 again and again, perhaps a CRC-32 at the end."""
    end = len(data)
    if data[-17:-10] == _CRC:
        end -= 17
        if binascii.crc32(memoryview(data)[:end]) != int.from_bytes(data[-10:], "big"):
            raise ValueError(f"{where}: damaged, its CRC-32 is not the one that was written")
    at = 0
    while at < end:
        header = re.compile(rb"\x0a([\x80-\xff]{0,4}[\x00-\x7f])").match(data, at, end)
        if header is None:
            raise ValueError(f"{where}: not a MindSpore checkpoint (byte {at}), or encrypted")
        size = sum((byte & 127) << 7 * i for i, byte in enumerate(header[1]))
        at = header.end() + size
        if at > end:
            raise ValueError(f"{where}: cut off, {at - end} bytes are missing at its end")
        try:
            yield Checkpoint.Value.FromString(data[header.end() : at])
        except (DecodeError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{where}: not a MindSpore checkpoint (before byte {at}: {error})"
            ) from error


def _joined(tensors: list[Any], where: str) -> np.ndarray | str:
    """Make an array, or a text, of its slices."""
    first = tensors[0]
    kinds = {(tensor.tensor_type, *tensor.dims) for tensor in tensors}
    if len(kinds) > 1:
        raise ValueError(f"{where}: its slices differ in dtype or shape")
    data = b"".join([tensor.tensor_content for tensor in tensors])
    if first.tensor_type == "str":
        try:
            return data.decode("utf-32-le")
        except UnicodeDecodeError as error:
            raise ValueError(f"{where}: not a text ({error})") from error
    if first.tensor_type not in _DTYPES:
        known = ", ".join(_DTYPES)
        raise ValueError(f"{where} has dtype {first.tensor_type!r}; known are {known}")
    dtype = _DTYPES[first.tensor_type]
    # The dims of a number without shape are (0,), as those of no numbers are.
    shape = () if list(first.dims) == [0] and data else tuple(first.dims)
    if any(size < 0 for size in shape) or len(data) != dtype.itemsize * math.prod(shape):
        raise ValueError(
            f"{where}: {len(data)} bytes are not {first.tensor_type} of the shape {list(shape)}"
        )
    # By way of integers: NumPy cannot read MindSpore's bfloat16 from a buffer.
    words = np.frombuffer(data, f"u{dtype.itemsize}" if dtype == _DTYPES["BFloat16"] else dtype)
    return words.view(dtype).reshape(shape)


def write_ckpt(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Write named arrays, numbers and texts to a `.ckpt` file, whole or not at all.

    Raises:
      ValueError: an array is of a dtype that MindSpore has not.
    """
    encoded = {name: _encoded(value, f"{path}: {name}") for name, value in arrays.items()}
    with replacing(path) as part, part.open("wb") as file:
        for name, (dims, kind, data) in encoded.items():
            view = memoryview(data)
            for at in range(0, max(1, len(view)), _SLICE):
                message = Checkpoint()
                value = message.value.add(tag=name)
                value.tensor.dims.extend(dims)
                value.tensor.tensor_type = kind
                value.tensor.tensor_content = bytes(view[at : at + _SLICE])
                file.write(message.SerializeToString())


def _encoded(value: Any, where: str) -> tuple[list[int], str, Any]:
    if isinstance(value, str):
        return [0], "str", value.encode("utf-32-le")
    array = np.asarray(value, order="C")
    if array.dtype not in _NAMES_OF:
        raise ValueError(f"{where} has dtype {array.dtype}; known are {', '.join(_DTYPES)}")
    data = array.reshape(-1).view(np.uint8) if array.size else b""
    return list(array.shape) or [0], _NAMES_OF[array.dtype], data
