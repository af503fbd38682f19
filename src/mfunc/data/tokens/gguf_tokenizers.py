"""The tokenizer in a GGUF file's metadata: byte-level BPE, as a `tokenizer.json`.

tokenizer.ggml.model       "gpt2": byte-level BPE; others are refused by name
tokenizer.ggml.pre         how text is cut into words, by name
tokenizer.ggml.tokens      text of every id
tokenizer.ggml.token_type  1 plain, 2 unknown, 3 control, 4 the user's own, 5 unused
tokenizer.ggml.merges      "a b", the first first
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mfunc.data.tokens.hf_tokenizers import HFTokenizer, from_content

_UNKNOWN, _CONTROL, _OWN = 2, 3, 4
ROLES = {"bos": "bos_token_id", "eos": "eos_token_id", "pad": "padding_token_id"}


def _bytes(use_regex: bool) -> dict[str, Any]:
    """The step that spells bytes, and may cut words as GPT-2 does."""
    return {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
        "use_regex": use_regex,
    }  # fmt: skip


def _split(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False
    }  # fmt: skip


# How each name cuts text into words, as the `tokenizer.json` of the models that it stands for does.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DIGITS = [{"type": "Digits", "individual_digits": True}, _bytes(True)]
PRE: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [_bytes(True)],
    "llama-bpe": [_split(_LLAMA3), _bytes(False)],
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
}


def gguf_tokenizer(metadata: Mapping[str, Any], where: str) -> HFTokenizer | None:
    """Make the tokenizer that a GGUF file describes; needs the extra `hf`.

    Control tokens are special: no text gives one. Tokens of the user's own are found in text.

    Args:
      metadata: of the file.
      where: the file, for errors.

    Returns:
      A tokenizer with the file's bos, eos, pad and chat template; `None` if it describes none.

    Raises:
      ImportError: without the extra.
      ValueError: it is of a kind that is not read (SentencePiece, WordPiece, ...), cuts words in
        a way that is not known, or its parts do not fit.

    Example:
      >>> metadata = {"model": "gpt2", "pre": "gpt-2", "tokens": ["a", "b", "ab", "<end>"],
      ...             "token_type": [1, 1, 1, 3], "merges": ["a b"], "eos_token_id": 3}
      >>> made = gguf_tokenizer({f"tokenizer.ggml.{k}": v for k, v in metadata.items()}, "x.gguf")
      >>> made.encode(["aba"]), made.eos_id
      ([[2, 0]], 3)

    Source:
      llama.cpp, src/llama-vocab.cpp: kinds of tokens, names of `pre`.
    """
    given = {
        key.removeprefix("tokenizer.ggml."): value
        for key, value in metadata.items()
        if key.startswith("tokenizer.ggml.")
    }
    if given.get("model", "no_vocab") == "no_vocab":
        return None
    _check(given, where)
    tokens = given["tokens"]
    ids = {role: given[key] for role, key in ROLES.items() if key in given}
    for role, found in ids.items():
        if not (isinstance(found, int) and 0 <= found < len(tokens)):
            raise ValueError(f"{where}: {role} is token {found} of {len(tokens)}")
    roles = {role: tokens[found] for role, found in ids.items()}
    content = json.dumps(_json(given, ids), ensure_ascii=False).encode()
    template = metadata.get("tokenizer.chat_template")
    return from_content(where, content, **roles, chat_template=template)


def _check(given: Mapping[str, Any], where: str) -> None:
    """Refuse what is no byte-level BPE that is known."""
    if given["model"] != "gpt2":
        kinds = {"llama": " (SentencePiece)", "bert": " (WordPiece)", "t5": " (Unigram)"}
        kind = kinds.get(given["model"], "") if isinstance(given["model"], str) else ""
        raise ValueError(
            f"{where}: tokenizer.ggml.model is {given['model']!r}{kind}; only 'gpt2' (byte-level "
            "BPE) is read; use the model's Hugging Face folder"
        )
    if given.get("pre") not in PRE:
        raise ValueError(
            f"{where}: tokenizer.ggml.pre is {given.get('pre')!r}; known are {', '.join(PRE)}"
        )
    for key in ("tokens", "token_type", "merges"):
        if not isinstance(given.get(key), list):
            raise ValueError(f"{where}: tokenizer.ggml.{key} is missing, or no list")
    count, types = len(given["tokens"]), len(given["token_type"])
    if len(set(given["tokens"])) != count:
        twice = count - len(set(given["tokens"]))
        raise ValueError(f"{where}: {twice} of {count} tokens are there twice")
    if count != types:
        raise ValueError(f"{where}: there are {count} tokens but {types} in token_type")
    for merge in given["merges"]:
        if len(_parts(merge)) != 2:
            raise ValueError(f"{where}: the merge {merge!r} is not two tokens with a space between")


def _parts(merge: Any) -> list[str]:
    return merge.split(" ") if isinstance(merge, str) else []


def _json(given: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, Any]:
    """The tokenizer as `tokenizer.json` has it."""
    tokens, pre = given["tokens"], given["pre"]
    added = [
        {
            "id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": kind != _OWN,
        }
        for i, (token, kind) in enumerate(zip(tokens, given["token_type"], strict=True))
        if kind in (_UNKNOWN, _CONTROL, _OWN)
    ]  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": PRE[pre]},
        "post_processor": _around(given, ids),
        "decoder": _bytes(True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre == "llama-bpe",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [_parts(merge) for merge in given["merges"]],
        },
    }


def _around(given: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, Any] | None:
    """What is put before and behind a text, for programs that do so; `encode` does not."""
    wanted = {
        "bos": given.get("add_bos_token", given["pre"] == "llama-bpe"),
        "eos": given.get("add_eos_token", False),
    }
    put = {role: given["tokens"][ids[role]] for role, on in wanted.items() if on and role in ids}
    if not put:
        return None

    def around(sequence: str, kind: int) -> list[dict[str, Any]]:
        parts = [(role, {"SpecialToken": {"id": put[role], "type_id": kind}}) for role in put]
        text = {"Sequence": {"id": sequence, "type_id": kind}}
        first, last = ([part for role, part in parts if role == side] for side in ("bos", "eos"))
        return [*first, text, *last]

    special = {
        name: {"id": name, "ids": [ids[role]], "tokens": [name]} for role, name in put.items()
    }
    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": [*around("A", 0), *around("B", 1)],
        "special_tokens": special,
    }
