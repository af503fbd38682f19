"""Tokenizers of Hugging Face: a `tokenizer.json` as a frozen value."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import attrs
from toolz import partition_all

from mfunc.data.check import flag
from mfunc.data.tokens.tokenizers import content_of, known, named, names_of_roles


@attrs.frozen(repr=False)
class HFTokenizer:
    """A `tokenizer.json` of Hugging Face tokenizers; made by `hf_tokenizer(path)`.

    Attributes:
      content: the `tokenizer.json` itself, to be saved beside a checkpoint.
      chat_template: Jinja, where the tokenizer came with one (a folder, a GGUF file).
    """

    path: str = attrs.field(eq=False)
    digest: str
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None
    vocab_size: int
    parse_special: bool
    content: bytes = attrs.field(eq=False)
    _model: Any = attrs.field(eq=False)
    chat_template: str | None = attrs.field(default=None, eq=False)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of every text, encoded on its own; nothing is added, no special token is read."""
        # Said at every call, as pickling forgets it.
        self._model.encode_special_tokens = not self.parse_special  # that is: as text
        # In parts, as what the engine gives takes some hundred bytes a token.
        encode = partial(self._model.encode_batch_fast, add_special_tokens=False)
        return [e.ids for part in partition_all(1024, texts) for e in encode(list(part))]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special tokens give nothing."""
        return self._model.decode([int(i) for i in ids], skip_special_tokens=True)

    def token_id(self, name: str) -> int:
        """Id of a special token: `"bos"`, `"eos"`, `"pad"`, or the entry of that name."""
        if name in ("bos", "eos", "pad"):
            return known(getattr(self, f"{name}_id"), name, self.path)
        return named("hf_tokenizer", self.path, name, self._model.get_vocab(True))

    @property
    def affixes(self) -> tuple[list[int], list[int]]:
        """Ids that the file would put before and behind a text (bos); `encode` puts none."""
        around, ids = (self._model.encode("x", add_special_tokens=a).ids for a in (True, False))
        at = next(i for i in range(len(around)) if around[i : i + len(ids)] == ids)
        return around[:at], around[at + len(ids) :]

    @property
    def roles(self) -> dict[str, str]:
        """Names of the tokens that are bos, eos and pad, of those that there are."""
        return names_of_roles(self, self._model.id_to_token)

    @property
    def special(self) -> tuple[str, ...]:
        """The texts that are special tokens, though `encode` reads them as text."""
        return tuple(self.special_ids.values())

    @property
    def special_ids(self) -> dict[int, str]:
        """Ids that are no text, with their names."""
        added = self._model.get_added_tokens_decoder().items()
        return {i: token.content for i, token in added if token.special}

    def __repr__(self) -> str:
        return f"hf_tokenizer({self.path!r}, vocab_size={self.vocab_size})"


def hf_tokenizer(
    path: str | os.PathLike[str],
    *,
    bos: str | None = None,
    eos: str | None = None,
    pad: str | None = None,
    parse_special: bool = False,
) -> HFTokenizer:
    """Load a `tokenizer.json`, which needs the extra `hf`.

    The file does not say which tokens are bos, eos and pad (`tokenizer_config.json` beside it
    does), so they are named here.

    Args:
      path: the `tokenizer.json`.
      bos: name of the token that begins a text, such as `"<|begin_of_text|>"`.
      eos: name of the token that ends it.
      pad: name of the token for padding.
      parse_special: read special tokens wherever a text spells them, as transformers does. Whoever
        writes a message can then end its turn: only for equality with programs that do so.

    Returns:
      A tokenizer.

    Raises:
      ImportError: without the extra.
      FileNotFoundError: if there is no such file.
      ValueError: if it is not a tokenizer, or lacks a named token.
    """
    _package()  # missing, it is named before a missing file is
    return from_content(
        path, content_of("hf_tokenizer", path), bos=bos, eos=eos, pad=pad,
        parse_special=parse_special,
    )  # fmt: skip


def from_content(
    path: str | os.PathLike[str],
    content: bytes,
    *,
    bos: str | None = None,
    eos: str | None = None,
    pad: str | None = None,
    parse_special: bool = False,
    chat_template: str | None = None,
) -> HFTokenizer:
    """Make the tokenizer of what a `tokenizer.json` holds; `path` is where it came from.

    Raises:
      ImportError: without the extra.
      ValueError: if it is not a tokenizer, or lacks a named token.
    """
    tokenizers = _package()
    try:
        model = tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the package raises plain Exception
        raise ValueError(f"hf_tokenizer: {path} is not a tokenizer.json: {error}") from error
    # Some files (DeepSeek's) do not call the tokens of turns special, so text could spell them.
    turns = [t.content for t in model.get_added_tokens_decoder().values()]
    model.add_special_tokens([name for name in turns if re.fullmatch(r"<[|｜].+[|｜]>", name)])
    vocab = model.get_vocab(True)
    bos_id, eos_id, pad_id = (
        None if name is None else named("hf_tokenizer", path, name, vocab)
        for name in (bos, eos, pad)
    )
    return HFTokenizer(
        path=str(path),
        digest=hashlib.sha256(content).hexdigest(),
        bos_id=bos_id,
        eos_id=eos_id,
        pad_id=pad_id,
        vocab_size=max(vocab.values(), default=-1) + 1,
        parse_special=flag("hf_tokenizer", "parse_special", parse_special),
        content=content,
        model=model,
        chat_template=chat_template,
    )


def _package() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError(
            "hf_tokenizer(...) needs the package tokenizers: pip install 'mfunc[hf]'"
        ) from error
    return tokenizers
