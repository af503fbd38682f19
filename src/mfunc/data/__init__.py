"""Data: from files to packed batches, as pure transforms of columns.

    samples = pipe(rows, chat(style="alpaca", template="alpaca"), tokenize(tokenizer))
    packed = pack(seq_length=2048)(samples)

A batch of samples is a dict of columns (`columns.py`); a transform is a frozen function from
columns to columns with its settings bound (`compose.py`). NumPy only: MindSpore is never imported.
"""

from mfunc.data.batch import batch, shuffle, skip, take
from mfunc.data.columns import Columns, concat
from mfunc.data.compose import Transform, compose, counted, pipe, transform
from mfunc.data.conversations import alpaca_conversations, belle_conversations
from mfunc.data.instruct import chat
from mfunc.data.map_functions import sft
from mfunc.data.mask import actual_seq_len, position_ids, segment_mask, zigzag_mask
from mfunc.data.pack import pack, rows, unpack
from mfunc.data.pad import pad_to_divisor, truncate
from mfunc.data.plan import Plan, pack_plan
from mfunc.data.ragged import Ragged
from mfunc.data.read import read
from mfunc.data.template import TEMPLATES, Message, Piece, Template, render
from mfunc.data.tokenize import tokenize
from mfunc.data.tokenizers import HFTokenizer, SentencePiece, hf_tokenizer, sentencepiece

__all__ = [
    "TEMPLATES",
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
    "alpaca_conversations",
    "batch",
    "belle_conversations",
    "chat",
    "compose",
    "concat",
    "counted",
    "hf_tokenizer",
    "pack",
    "pack_plan",
    "pad_to_divisor",
    "pipe",
    "position_ids",
    "read",
    "render",
    "rows",
    "segment_mask",
    "sentencepiece",
    "sft",
    "shuffle",
    "skip",
    "take",
    "tokenize",
    "transform",
    "truncate",
    "unpack",
    "zigzag_mask",
]
