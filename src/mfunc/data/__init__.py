"""Data: from files to packed batches, as pure transforms of columns.

    samples = pipe(rows, chat(style="alpaca", template="alpaca"), tokenize(tokenizer))
    packed = pack(seq_length=2048)(samples)

A batch of samples is a dict of columns (`columns.py`); a transform is a frozen function from
columns to columns with its settings bound (`compose.py`). NumPy only: MindSpore is never imported.
"""

from mfunc.data.batch import batch, shuffle, skip, take
from mfunc.data.chat_template import ChatTemplate, hf_template, render_chat_template
from mfunc.data.columns import Columns, concat
from mfunc.data.compose import Transform, compose, counted, pipe, transform
from mfunc.data.conversation import conversations, invalid_rows
from mfunc.data.instruct import chat
from mfunc.data.mask import actual_seq_len, position_ids, segment_mask, zigzag_mask
from mfunc.data.messages import Call, Message
from mfunc.data.pack import pack, rows, unpack
from mfunc.data.pad import pad_to_divisor, truncate
from mfunc.data.plan import Plan, pack_plan
from mfunc.data.ragged import Ragged
from mfunc.data.read import read
from mfunc.data.template import Piece, Template, render
from mfunc.data.templates import TEMPLATES
from mfunc.data.tokenize import tokenize
from mfunc.data.tokenizers import HFTokenizer, SentencePiece, hf_tokenizer, sentencepiece

__all__ = [
    "TEMPLATES",
    "Call",
    "ChatTemplate",
    "Columns",
    "HFTokenizer",
    "Message",
    "Piece",
    "Plan",
    "Ragged",
    "SentencePiece",
    "Template",
    "Transform",
    "actual_seq_len",
    "batch",
    "chat",
    "compose",
    "concat",
    "conversations",
    "counted",
    "hf_template",
    "hf_tokenizer",
    "invalid_rows",
    "pack",
    "pack_plan",
    "pad_to_divisor",
    "pipe",
    "position_ids",
    "read",
    "render",
    "render_chat_template",
    "rows",
    "segment_mask",
    "sentencepiece",
    "shuffle",
    "skip",
    "take",
    "tokenize",
    "transform",
    "truncate",
    "unpack",
    "zigzag_mask",
]
