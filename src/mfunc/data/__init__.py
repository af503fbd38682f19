"""Data: from files to packed batches, as pure transforms of columns.

    samples = pipe(rows, chat(style="alpaca", template="alpaca"), tokenize(tokenizer))
    packed = pack(seq_length=2048)(samples)

A batch of samples is a dict of columns (`columns.py`); a transform is a frozen function from
columns to columns with its settings bound (`compose.py`). NumPy only: MindSpore is never imported.
"""

from mfunc.data.batch import batch, repeat_to_multiple, shuffle, skip, take
from mfunc.data.building.build import build_dataset
from mfunc.data.building.report import BuildReport
from mfunc.data.building.workers import map_chunks
from mfunc.data.columns import Columns, concat
from mfunc.data.compose import Transform, carry, compose, counted, pipe, transform
from mfunc.data.dialogue.chat_template import ChatTemplate, hf_template, render_chat_template
from mfunc.data.dialogue.conversation import conversations, invalid_rows
from mfunc.data.dialogue.conversion import alpaca_conversations, belle_conversations
from mfunc.data.dialogue.instruct import chat
from mfunc.data.dialogue.map_functions import sft
from mfunc.data.dialogue.messages import Call, Message
from mfunc.data.dialogue.template import Piece, Template, render
from mfunc.data.dialogue.templates import TEMPLATES
from mfunc.data.epoch_batches import count_batches, epochs
from mfunc.data.packing.attention_blocks import (
    attention_blocks,
    pays_by_blocks,
    with_attention_blocks,
)
from mfunc.data.packing.buckets import BatchPlan, batch_by_length, length_batches
from mfunc.data.packing.cut import infer_max_len, infer_seqlen, truncate
from mfunc.data.packing.mask import actual_seq_len, position_ids, segment_mask, zigzag_mask
from mfunc.data.packing.pack import pack, unpack
from mfunc.data.packing.pad import pad_to_divisor
from mfunc.data.packing.plan import Plan, pack_plan
from mfunc.data.packing.steps import rows
from mfunc.data.packing.token_blocks import blocks
from mfunc.data.ragged import Ragged
from mfunc.data.sources.corpora import ag_news, squad, wikitext
from mfunc.data.sources.fields import MapKeys, map_keys
from mfunc.data.sources.read import read
from mfunc.data.storage import indexed, mindrecord
from mfunc.data.storage.cache import cache_key, cached
from mfunc.data.storage.identity import fingerprint
from mfunc.data.storage.json_file import write
from mfunc.data.tokens.gguf_tokenizers import gguf_tokenizer
from mfunc.data.tokens.hf_tokenizers import HFTokenizer, hf_tokenizer
from mfunc.data.tokens.tokenize import tokenize
from mfunc.data.tokens.tokenizer_files import load_tokenizer
from mfunc.data.tokens.tokenizers import SentencePiece, sentencepiece
from mfunc.data.views.decoded import show
from mfunc.data.views.difference import Difference, diff
from mfunc.data.views.summary import Statistics, samples, segments, statistics
from mfunc.data.views.token_set import read_tokens

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
    "attention_blocks",
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
    "count_batches",
    "counted",
    "diff",
    "epochs",
    "fingerprint",
    "gguf_tokenizer",
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
    "pays_by_blocks",
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
    "with_attention_blocks",
    "write",
    "zigzag_mask",
]
