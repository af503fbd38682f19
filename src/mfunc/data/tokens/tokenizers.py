"""Tokenizers as frozen values: SentencePiece models; `hf_tokenizers.py` has those of Hugging Face.

All that `tokenize` asks of a tokenizer is `encode(list[str])`, a list of id sequences; the
attributes `vocab_size`, `bos_id`, `eos_id` and the methods `token_id(name)`, `encode_ragged(texts)`
(a Ragged of the same ids: faster) are used if it has them.
The ones made here are equal if their files are, can be hashed, and can be sent to other processes.

`encode` reads text as text: whatever it contains, no special token comes of it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from mfunc.data.check import nearest
from mfunc.data.ragged import Ragged
from mfunc.data.tokens.fast import Fast, gigatoken
from mfunc.data.tokens.words import Words, remembering

# Protobuf messages merge when joined: field 3 (normalizer), its field 3 (add_dummy_prefix) = false.
NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"


@attrs.frozen(repr=False)
class SentencePiece:
    """A SentencePiece model; made by `sentencepiece(path)`."""

    path: str = attrs.field(eq=False)
    digest: str
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None
    unk_id: int
    vocab_size: int
    special: tuple[str, ...]
    dummy_prefix: bool
    _model: Any = attrs.field(eq=False)
    _bare: Any = attrs.field(eq=False)
    _engine: Words | Fast | None = attrs.field(eq=False)  # faster, with the same ids

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of every text, encoded on its own: int32, those of SentencePiece.

        If the model adds a dummy prefix (a space before the text, as LLaMA's does), every text
        gets it, so "a" and " a" differ as the model was trained that they do.
        """
        return list(self.encode_ragged(texts))

    def encode_ragged(self, texts: Sequence[str]) -> Ragged:
        """The same as one Ragged, without an array a text."""
        texts = list(texts)
        if self._engine is not None:
            ids = self._engine.encode(texts)
        else:
            threads = os.cpu_count() or 1
            rows = self._model.encode(texts, return_type="numpy", num_threads=threads)
            ids = Ragged.from_rows(rows, np.int32)
        if self.special:
            names = re.compile("|".join(map(re.escape, self.special)))
            apart = {i for i, text in enumerate(texts) if names.search(text)}
            if apart:
                cut = (
                    self._encode_apart(texts[i], names) if i in apart else row
                    for i, row in enumerate(ids)
                )
                ids = Ragged.from_rows(cut, np.int32)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; control tokens (bos, eos) give nothing."""
        return self._model.decode([int(i) for i in ids])

    def token_id(self, name: str) -> int:
        """Id of a special token: `"bos"`, `"eos"`, `"pad"`, `"unk"`, or the piece of that name.

        Raises:
          ValueError: if there is none, or if plain text could produce it.
        """
        if name in ("bos", "eos", "pad", "unk"):
            return known(getattr(self, f"{name}_id"), name, self.path)
        found = self._model.piece_to_id(name)
        if found == self.unk_id:
            raise ValueError(
                f"sentencepiece: {self.path} has no piece {name!r}; use a template without it, or "
                "train the model with it as a control symbol"
            )
        if not self._model.is_control(found) and name not in self.special:
            raise ValueError(
                f"sentencepiece: in {self.path} the piece {name!r} can come of plain text; "
                f"say that it is special: sentencepiece(path, special=[{name!r}, ...])"
            )
        return found

    @property
    def special_ids(self) -> dict[int, str]:
        """Ids that are no text, with their names: control pieces, the unknown, those `special`."""
        model = self._model
        found = (i for i in range(self.vocab_size) if model.is_control(i) or model.is_unknown(i))
        return {i: model.id_to_piece(i) for i in (*found, *map(model.piece_to_id, self.special))}

    @property
    def roles(self) -> dict[str, str]:
        """Names of the pieces that are bos, eos and pad, of those that there are."""
        return names_of_roles(self, self._model.id_to_piece)

    @property
    def model(self) -> bytes:
        """The model file's content, to be saved beside a checkpoint."""
        return self._model.serialized_model_proto()

    def _encode_apart(self, text: str, names: re.Pattern[str]) -> np.ndarray:
        """Ids of a text that spells special tokens: each is cut behind its first character."""
        cuts = [0, *(match.start() + 1 for match in names.finditer(text)), len(text)]
        parts = [text[a:b] for a, b in pairwise(cuts)]
        first = self._model.encode(parts[0], return_type="numpy")
        rest = [self._bare.encode(part, return_type="numpy") for part in parts[1:]]
        return np.concatenate([first, *rest]).astype(np.int32)

    def __repr__(self) -> str:
        return f"sentencepiece({self.path!r}, vocab_size={self.vocab_size})"


def sentencepiece(
    path: str | os.PathLike[str],
    *,
    bos: str | None = None,
    eos: str | None = None,
    pad: str | None = None,
    special: Sequence[str] | None = None,
    dummy_prefix: bool | None = None,
    fast: bool = False,
) -> SentencePiece:
    """Load a SentencePiece model (`tokenizer.model`, `spiece.model`) as a frozen tokenizer.

    Args:
      path: the model file.
      bos: piece to use as bos, if not the model's own; so too `eos` and `pad`.
      eos: such as `"<|im_end|>"` for models that end a turn with it.
      pad: such as `"<unk>"` for models without padding.
      special: user-defined pieces that text must never produce, however it is spelt. By default
        those of the form `<|...|>`. Control pieces never come of text anyway.
      dummy_prefix: whether each encoded text gets a space before it; by default as the model says.
        LLaMA's says yes, so the pieces `'Q:'`, `'A'` are not the ids of `'Q:A'`. False makes
        the ids of pieces those of the text they add up to, wherever no token spans two of them.
      fast: encode by gigatoken, which needs the extra `fast`. Without it words of BPE models are
        remembered (see `mfunc.data.tokens.words`). The ids are the same in every case.

    Returns:
      A tokenizer.

    Raises:
      ImportError: for `fast` without the extra.
      FileNotFoundError: if there is no such file.
      ValueError: if it is not a SentencePiece model, or lacks a named piece; for `fast`, if
        gigatoken does not read such a model exactly.
    """
    content = content_of("sentencepiece", path)
    model, bare = _load(path, content), _load(path, content + NO_DUMMY_PREFIX)
    prefixed = model.encode("a") != bare.encode("a")
    if dummy_prefix and not prefixed:
        raise ValueError(f"sentencepiece: {path} adds no dummy prefix, so dummy_prefix=True cannot")
    if dummy_prefix is False:
        model, prefixed = bare, False
    own = {"bos": model.bos_id(), "eos": model.eos_id(), "pad": model.pad_id()}
    ids = {name: found if found >= 0 else None for name, found in own.items()}
    for name, piece in {"bos": bos, "eos": eos, "pad": pad}.items():
        if piece is not None:
            ids[name] = named("sentencepiece", path, piece, _pieces(model))
    return SentencePiece(
        path=str(path),
        digest=hashlib.sha256(content).hexdigest(),
        bos_id=ids["bos"],
        eos_id=ids["eos"],
        pad_id=ids["pad"],
        unk_id=model.unk_id(),
        vocab_size=model.vocab_size(),
        special=_guarded(path, special, model),
        dummy_prefix=prefixed,
        model=model,
        bare=bare,
        engine=gigatoken(model) if fast else remembering(model, partial(_load, path)),
    )


def _load(path: object, content: bytes) -> Any:
    """The engine's processor of a model file's content."""
    try:
        import sentencepiece as engine
    except ImportError as error:
        raise ImportError("sentencepiece(...) needs: pip install sentencepiece") from error
    try:
        return engine.SentencePieceProcessor(model_proto=content)
    except RuntimeError as error:
        raise ValueError(f"sentencepiece: {path} is not a SentencePiece model") from error


def content_of(where: str, path: str | os.PathLike[str]) -> bytes:
    """What a file holds, if there is one."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{where}: there is no file {path}") from None


def _pieces(model: Any) -> dict[str, int]:
    return {model.id_to_piece(i): i for i in range(model.vocab_size())}


def named(where: str, path: object, name: str, vocab: dict[str, int]) -> int:
    """Id of an entry of the vocabulary."""
    if name not in vocab:
        raise ValueError(f"{where}: {path} has no token {name!r}{nearest(name, vocab)}")
    return vocab[name]


def known(found: int | None, name: str, path: str) -> int:
    """A role's token, if there is one."""
    if found is None:
        raise ValueError(
            f"tokenizer: {path} has no {name} token; name one when loading it: {name}='...'"
        )
    return found


def _guarded(path: object, special: Sequence[str] | None, model: Any) -> tuple[str, ...]:
    """The pieces that text could produce and must not."""
    if special is None:
        looks = re.compile(r"<\|.+\|>")
        names = [p for p, i in _pieces(model).items() if looks.fullmatch(p)]
    else:
        names = list(special)
        pieces = _pieces(model)
        for name in names:
            named("sentencepiece", path, name, pieces)
            if len(name) < 2:
                raise ValueError(f"sentencepiece: special piece {name!r} is a single character")
    return tuple(n for n in names if not model.is_control(model.piece_to_id(n)))


def names_of_roles(tokenizer: Any, name_of: Callable[[int], str]) -> dict[str, str]:
    """The names of bos, eos and pad, of those that a tokenizer has."""
    ids = {role: getattr(tokenizer, f"{role}_id") for role in ("bos", "eos", "pad")}
    return {role: name_of(i) for role, i in ids.items() if i is not None}
