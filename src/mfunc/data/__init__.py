"""Data: from files to packed batches, as pure transforms of columns.

    samples = pipe(rows, chat(style="alpaca", template="alpaca"), tokenize(tokenizer))
    packed = pack(seq_length=2048)(samples)

A batch of samples is a dict of columns (`columns.py`); a transform is a frozen function from
columns to columns with its settings bound (`compose.py`). NumPy only: MindSpore is never imported.
"""

from mfunc.data import indexed, mindrecord
from mfunc.data.batch import batch, repeat_to_multiple, shuffle, skip, take
from mfunc.data.buckets import BatchPlan, batch_by_length, length_batches
from mfunc.data.build import build_dataset
from mfunc.data.cache import cache_key, cached
from mfunc.data.chat_template import ChatTemplate, hf_template, render_chat_template
from mfunc.data.columns import Columns, concat
from mfunc.data.compose import Transform, carry, compose, counted, pipe, transform
from mfunc.data.conversation import conversations, invalid_rows
from mfunc.data.conversion import alpaca_conversations, belle_conversations
from mfunc.data.corpora import ag_news, squad, wikitext
from mfunc.data.cut import infer_max_len, infer_seqlen, truncate
from mfunc.data.decoded import show
from mfunc.data.difference import Difference, diff
from mfunc.data.fields import MapKeys, map_keys
from mfunc.data.hf_tokenizers import HFTokenizer, hf_tokenizer
from mfunc.data.instruct import chat
from mfunc.data.json_file import write
from mfunc.data.map_functions import sft
from mfunc.data.mask import actual_seq_len, position_ids, segment_mask, zigzag_mask
from mfunc.data.messages import Call, Message
from mfunc.data.pack import pack, rows, unpack
from mfunc.data.pad import pad_to_divisor
from mfunc.data.plan import Plan, pack_plan
from mfunc.data.ragged import Ragged
from mfunc.data.read import read
from mfunc.data.report import BuildReport
from mfunc.data.summary import Statistics, samples, segments, statistics
from mfunc.data.template import Piece, Template, render
from mfunc.data.templates import TEMPLATES
from mfunc.data.token_blocks import blocks
from mfunc.data.token_set import read_tokens
from mfunc.data.tokenize import tokenize
from mfunc.data.tokenizer_files import load_tokenizer
from mfunc.data.tokenizers import SentencePiece, sentencepiece
from mfunc.data.workers import map_chunks

__all__ = [
    "TEMPLATES",
    "BatchPlan",
    "BuildReport",
    "Call",
    "ChatTemplate",
    "Columns",
    "Difference",
    "HFTokenizer",
    "MapKeys",
    "Message",
    "Piece",
    "Plan",
    "Ragged",
    "SentencePiece",
    "Statistics",
    "Template",
    "Transform",
    "actual_seq_len",
    "ag_news",
    "alpaca_conversations",
    "batch",
    "batch_by_length",
    "belle_conversations",
    "blocks",
    "build_dataset",
    "cache_key",
    "cached",
    "carry",
    "chat",
    "compose",
    "concat",
    "conversations",
    "counted",
    "diff",
    "hf_template",
    "hf_tokenizer",
    "indexed",
    "infer_max_len",
    "infer_seqlen",
    "invalid_rows",
    "length_batches",
    "load_tokenizer",
    "map_chunks",
    "map_keys",
    "mindrecord",
    "pack",
    "pack_plan",
    "pad_to_divisor",
    "pipe",
    "position_ids",
    "read",
    "read_tokens",
    "render",
    "render_chat_template",
    "repeat_to_multiple",
    "rows",
    "samples",
    "segment_mask",
    "segments",
    "sentencepiece",
    "sft",
    "show",
    "shuffle",
    "skip",
    "squad",
    "statistics",
    "take",
    "tokenize",
    "transform",
    "truncate",
    "unpack",
    "wikitext",
    "write",
    "zigzag_mask",
]
