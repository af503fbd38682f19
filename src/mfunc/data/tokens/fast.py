"""The extra `fast`: gigatoken, another engine for SentencePiece BPE models with byte fallback.

Its ids are SentencePiece's but for texts that spell a control token (`<s>`), which it reads as the
token, or a user-defined piece, after which it may go another way. Such texts are encoded by
SentencePiece, and models where spelling cannot be seen in the text as it is are refused.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from mfunc.data.ragged import Ragged
from mfunc.data.tokens.proto import CONTROL, UNKNOWN, UNUSED, USER_DEFINED, model_facts


@attrs.frozen(eq=False)
class Fast:
    """A SentencePiece processor with gigatoken in front; made by `gigatoken(...)`."""

    model: Any
    engine: Any
    names: tuple[str, ...]  # spellings that SentencePiece must read

    def __reduce__(self) -> Any:
        return gigatoken, (self.model,)

    def encode(self, texts: list[str]) -> Ragged:
        """Ids of every text, those of SentencePiece. One thread: a second gains nothing."""
        if not texts:
            return Ragged.from_rows([])
        try:
            found = self.engine.encode_batch(texts, parallel=False).layout
        except TypeError:
            "".join(texts).encode()  # raises UnicodeEncodeError for a lone surrogate
            raise
        values = np.asarray(found.content.data).astype(np.int32)
        ragged = Ragged(values, np.asarray(found.offsets.data))
        spelt = {i for name in self.names for i, text in enumerate(texts) if name in text}
        if not spelt:
            return ragged
        rows = (self.model.encode(texts[i]) if i in spelt else row for i, row in enumerate(ragged))
        return Ragged.from_rows(rows, np.int32)


def gigatoken(model: Any) -> Fast:
    """Put gigatoken in front of a SentencePiece processor.

    Raises:
      ImportError: without the extra.
      ValueError: for a model that it does not read, or not exactly.
    """
    try:
        import gigatoken as package
    except ImportError as error:
        raise ImportError(
            "sentencepiece(..., fast=True) needs the package gigatoken: pip install 'mfunc[fast]'"
        ) from error
    content = model.serialized_model_proto()  # of one piece: the package does not merge messages
    facts = model_facts(content)
    names = facts.spelt(CONTROL, UNKNOWN, USER_DEFINED)
    rewrites = facts.maps_characters or facts.removes_spaces
    if rewrites or facts.spelt(UNUSED) or any(" " in name for name in names):
        raise ValueError(
            "sentencepiece: fast=True is exact only for a model without character map, removal of "
            "extra spaces, unused pieces and spaces in user-defined pieces; leave it away"
        )
    try:
        engine = package.Tokenizer.from_sentencepiece(content)
    except ValueError as error:
        raise ValueError(f"sentencepiece: fast=True: {error}; leave it away") from error
    return Fast(model, engine, tuple(names))
