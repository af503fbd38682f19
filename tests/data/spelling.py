"""Small SentencePiece models of every kind, and texts that are hard for what stands before them."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import sentencepiece as engine

from mfunc.data.tokens.words import Words, remembering

LINES = (
    "the quick brown fox jumps over the lazy dog",
    "def f(x):\n    return  x",
    "user end system assistant hello, Hello! hello?! 3.14",
    "一二三四五，一二。",
    "ééé naïve café",
    "aaaa aaa aa a  bb   cccc",
)
KINDS: dict[str, dict[str, Any]] = {
    "identity": {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
    "nfkc": {},
    "extra spaces removed": {"normalization_rule_name": "identity"},
    "no prefix": {"add_dummy_prefix": False, "remove_extra_whitespaces": False},
    "symbols": {"user_defined_symbols": ["<|im_start|>", "<turn>", "▁▁", "k b"]},
    "identity with symbols": {
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "user_defined_symbols": ["<|im_start|>", "<turn>"],
        "control_symbols": ["<|ctl|>"],
    },
    "spaces within pieces": {"split_by_whitespace": False, "remove_extra_whitespaces": False},
}
OTHER_KINDS: dict[str, dict[str, Any]] = {
    "unigram": {"model_type": "unigram"},
    "no bytes": {"byte_fallback": False},
    "suffix": {"treat_whitespace_as_suffix": True},
    "words": {"model_type": "word", "byte_fallback": False},
}
HARD = (
    "", " ", "  ", "   a  ", " a", "a ", "\t\n", "▁", "▁▁a", "a▁b", " ▁ ", "a ▁", "\0", "a\0b",
    "a\0", "<s>", "a<s>b", "</s>", "<unk>", "<0x0A>", "<|ctl|>", "<|im_start|>",
    "a<|im_start|> b", "<turn>the", "the<turn> the", "<tu rn>", "k b", "k  b", "k▁b",
    "＜turn＞", "＜s＞",
    "👩‍👩‍👧‍👦 👍🏽", "e\u0301e\u0308", "Ａ１　ｂ", "\u200b", "a\u200d\u200db", "नमस्ते दुनिया",
    "السلام عليكم", "\ufeff", "\ue000", "\U0010ffff", "a\r\nb", "\ufffd", "0" * 50, "\n\n\n",
    "    def f():\n        return", "一二三四五" * 30, "二，二。", "éé naïve", "aaaaaaaaa",
    "a" * 15, "a" * 16, "a" * 64, "a" * 65, "a" * 5000,
    "ab" * 33, "\0" * 15, " " * 100, "the" * 40,
)  # fmt: skip


@cache
def model(kind: str) -> bytes:
    """A model file of one of the kinds."""
    writer = io.BytesIO()
    settings = {"model_type": "bpe", "byte_fallback": True, **{**KINDS, **OTHER_KINDS}[kind]}
    engine.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 20),
        model_writer=writer,
        vocab_size=420,
        character_coverage=0.999,
        hard_vocab_limit=False,
        minloglevel=2,
        **settings,
    )
    return writer.getvalue()


def processor(content: bytes) -> Any:
    return engine.SentencePieceProcessor(model_proto=content)


@cache
def made(kind: str) -> tuple[Any, Words | None]:
    """The processor of a kind, and the one that remembers."""
    one = processor(model(kind))
    return one, remembering(one, processor)


def same(found: Any, texts: Any, processor: Any) -> bool:
    """Whether the ids are the processor's."""
    return [ids.tolist() for ids in found] == processor.encode(list(texts))
