"""A tokenizer of bytes, then special tokens: the one that the MindSpeed cases were made with."""

from __future__ import annotations

import attrs

NAMES = [
    "<unk>",
    "<s>",
    "</s>",
    "<pad>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "[gMASK]",
    "sop",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|observation|>",
    "<|begin_of_text|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
]
SPECIAL = {name: 256 + i for i, name in enumerate(NAMES)} | {"bos": 257, "eos": 258}


@attrs.frozen
class ByteTokenizer:
    vocab_size: int = 277

    def encode(self, texts):
        return [list(text.encode()) for text in texts]

    def decode(self, ids):
        return bytes(i for i in ids if i < 256).decode()

    def token_id(self, name):
        return SPECIAL[name]
