"""MindSpeed-LLM's `preprocess_data.py`: the same flags, the same bytes.

    preprocess(Settings(
        input="alpaca.json", handler_name="AlpacaStyleInstructionHandler", prompt_type="qwen",
        tokenizer_name_or_path="qwen", seq_length=4096, pack=True, neat_pack=True,
        output_prefix="data/alpaca",
    ))

What upstream does in silence is counted or refused here; `preprocess` says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from toolz import merge_with

from mfunc.data.columns import IGNORED_LABEL, Columns, concat, take_rows
from mfunc.data.compose import Counts
from mfunc.data.dialogue.templates import TEMPLATES
from mfunc.data.mindspeed.rows import LEFT_OUT, chunks, samples_of, sources
from mfunc.data.mindspeed.rules import attention_mask
from mfunc.data.mindspeed.settings import LATER, Settings
from mfunc.data.mindspeed.tokenizer import folder_tokenizer
from mfunc.data.packing.cut import truncate
from mfunc.data.packing.plan import pack_plan
from mfunc.data.packing.steps import rows
from mfunc.data.ragged import Ragged, copy_windows, offsets_of
from mfunc.data.storage import indexed
from mfunc.data.storage.indexed import IDS_OF
from mfunc.data.tokens.hf_tokenizers import HFTokenizer

BLOCK = 1 << 20  # tokens of packed rows that are built at once


def preprocess(settings: Settings) -> Counts:
    """Read, encode, pack and write, as upstream's program with these flags.

    Special tokens that a message spells are read as such, as there; without compat they are text.

    Equal bytes, but said in the counts:
    - rows that are no conversation are left out (`dropped`), by reason;
    - `history`, `system` and `tools` are read only if `map_keys` names them (`unread`);
    - samples as long as `seq_length`, or longer, are left out (`too_long`), in neat packs cut
      (`cut`). Of exactly its length upstream packs for ever; here as in its later versions.
    Refused, as its bytes would be wrong: answers that are lists, calls and tools that cannot be
    read or written, texts that are no text, an Alpaca text without input, samples of no tokens.
    Read otherwise: files of a folder in the order of their names, of one format; cells of tables
    as text, where upstream guesses numbers.

    Args:
      settings: the flags.

    Returns:
      Counts: `rows`, `samples`, `tokens`, `trained`, `documents` (rows of the files), and those
      above.

    Raises:
      ValueError: naming the row or the flag.

    Source:
      MindSpeed-LLM v2.1.0 (7f128db); its version of 2026-08 for `qwen3`, `qwen_lf`, and what the
      handlers `OpenAI` and `LlamaFactory` read.
    """
    tokenizer = folder_tokenizer(settings.tokenizer_name_or_path, prompt_type=settings.prompt_type)
    samples, counts = _samples(settings, tokenizer)
    tokens = {name: c for name, c in samples.items() if name not in IDS_OF}
    counts["tokens"] = sum(len(column.flat) for column in tokens.values())
    if settings.handler.makes in ("text", "alpaca_text"):
        return _write_texts(settings, tokenizer, samples, counts)
    _refuse_unusable(settings, samples, counts)
    labels = [column.flat for name, column in samples.items() if name in IDS_OF]
    counts["trained"] = sum(int((flat != IGNORED_LABEL).sum()) for flat in labels)
    told = _told(settings, tokenizer)
    if not settings.pack:
        kept = _short(settings, samples)
        counts |= {"too_long": int((~kept).sum())}
        documents = np.cumsum([0, *kept])
        written: Any = [(_only(samples, kept), counts)]
        indexed.write(settings.output_prefix, written, document_indices=documents, settings=told)
        return {**counts, "documents": len(kept)}
    packed = _packed(settings, samples, tokenizer.token_id("pad"), counts)
    written = indexed.write(settings.output_prefix, packed, settings=told)
    return {**written["counts"], "documents": written["rows"]}


def merge_groups(folder: str, keys: Sequence[str], output_prefix: str) -> dict[str, list[str]]:
    """Join the pairs of a folder, `--merge-group-keys`: those whose names contain a key.

    Args:
      folder: `--input`.
      keys: of every key one pair `{output_prefix}_{key}` is made.
      output_prefix: `--output-prefix`.

    Returns:
      Of every key the names of the pairs, in order.

    Raises:
      ValueError: if a key is in no name, or the result would be one of its own parts, as when it
        is run twice.
    """
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(f"mindspeed: --input {folder} is no folder to merge from")
    names = sorted({path.stem for path in place.iterdir() if path.suffix in (".bin", ".idx")})
    groups = {key: [name for name in names if key in name] for key in keys}
    for key, group in groups.items():
        out = Path(f"{output_prefix}_{key}")
        if not group:
            raise ValueError(f"mindspeed: no pair in {folder} has {key!r} in its name: {names}")
        if out.parent.resolve() == place.resolve() and out.name in group:
            raise ValueError(
                f"mindspeed: {out} is itself among the pairs to merge; delete it, or choose "
                "another --output-prefix"
            )
    for key, group in groups.items():
        indexed.merge_pairs([place / name for name in group], f"{output_prefix}_{key}")
    return groups


def _samples(settings: Settings, tokenizer: HFTokenizer) -> tuple[Columns, Counts]:
    """All samples, and what was counted."""
    parts, counts = [], [{"rows": 0, "samples": 0}]
    for source in sources(settings):
        make = samples_of(settings, source, tokenizer)
        for columns, unread in chunks(source, settings.max_samples):
            samples, told = make(columns)
            samples.pop("_origin", None)
            _refuse_unknown_cuts(settings, samples)
            samples, cut = _cut(settings, samples) if settings.neat_pack else (samples, {})
            left_out = {f"dropped.{r}": told.get(f"chat.dropped.{r}", 0) for r in LEFT_OUT}
            empty = {name: n for name, n in told.items() if name.endswith(".empty")}
            some = {name: n for name, n in {**left_out, **unread, **empty, **cut}.items() if n}
            size = {"rows": len(next(iter(columns.values()))), "samples": _size(samples)}
            parts.append(samples)
            counts.append({**size, **some})
    total = merge_with(sum, counts)
    if not total["samples"]:
        raise ValueError(f"mindspeed: no sample is left of {settings.input}: {total}")
    # Upstream cuts rows into parts, of which some handlers have left out the invalid ones before.
    many = total["samples" if settings.handler.templated else "rows"]
    if settings.n_subs > many:
        raise ValueError(f"mindspeed: --n-subs {settings.n_subs}, but there are {many} rows")
    names = list(parts[0])  # one by one, so that only one column is in memory twice
    return {name: concat([{name: part.pop(name)} for part in parts])[name] for name in names}, total


def _size(samples: Columns) -> int:
    return max(map(len, samples.values()))


def _only(samples: Columns, kept: np.ndarray) -> Columns:
    """Some rows; no copy where it is all of them."""
    return samples if kept.all() else take_rows(samples, kept)


def _short(settings: Settings, columns: Columns) -> np.ndarray:
    """Which rows are shorter than `--seq-length` in every column."""
    limit = settings.seq_length or np.inf
    return np.all([column.lengths < limit for column in columns.values()], axis=0)


def _refuse_unusable(settings: Settings, samples: Columns, counts: Counts) -> None:
    """Samples of which nothing can be learned, and settings that leave none."""
    for name, column in samples.items():
        if (column.lengths == 0).any():
            row = int((column.lengths == 0).argmax())
            raise ValueError(f"mindspeed: sample {row} of {counts['samples']} has no {name}")
    if not _short(settings, samples).any():
        raise ValueError(
            f"mindspeed: none of {counts['samples']} samples is shorter than --seq-length "
            f"{settings.seq_length}"
        )


def _refuse_unknown_cuts(settings: Settings, samples: Columns) -> None:
    """Templates later than v2.1.0 have rules of their own for what is too long."""
    if settings.prompt_type in LATER and (long := int((~_short(settings, samples)).sum())):
        raise ValueError(
            f"mindspeed: {long} samples have {settings.seq_length} tokens or more; how upstream "
            f"cuts them with --prompt-type {settings.prompt_type}, which is later than v2.1.0, is "
            "not known to the byte: choose a larger --seq-length"
        )


def _packed(
    settings: Settings, samples: Columns, pad: int, counts: Counts
) -> Iterator[tuple[Columns, Counts]]:
    """Packed rows, part by part; with the first all that was counted before."""
    size, width = _size(samples), int(settings.seq_length or 0)
    step, block = size // settings.n_subs, max(1, BLOCK // width)
    for begin in range(0, size, step):
        part = take_rows(samples, slice(begin, begin + step))
        short = _short(settings, part)
        fitted = _only(part, short)
        lengths = fitted["input_ids"].lengths
        plan = pack_plan(lengths, capacity=width - 1, strategy="first_fit_decreasing")
        counts |= {"too_long": int((~short).sum()), "slots": len(plan) * width}
        counts["packed"] = int(lengths.sum())
        for start in range(0, max(len(plan), 1), block):
            stop = min(start + block, len(plan))
            made = rows(
                plan, fitted, start, stop, seq_length=width, pad_id=pad, isolate=settings.neat_pack
            )
            mask = attention_mask(made["segment_ids"], neat_pack=settings.neat_pack)
            yield {**{n: made[n] for n in fitted}, "attention_mask": mask}, counts
            counts = {}


def _cut(settings: Settings, samples: Columns) -> tuple[Columns, Counts]:
    """Samples of neat packs, one token less than a row at most, by upstream's rules.

    It cuts turns before it puts eos behind the last one, and eod behind that; then the whole.
    """
    most = int(settings.seq_length or 0) - 1
    over = int((samples["input_ids"].lengths > most).sum())
    if not over:
        return samples, {}
    if settings.handler.templated:
        form = TEMPLATES[str(settings.prompt_type)]
        tail = int(form.efficient_eos) + int(settings.append_eod)
        ends = {name: _part(c, c.lengths - tail, c.lengths) for name, c in samples.items()}
        turns = {name: _part(c, 0, c.lengths - tail) for name, c in samples.items()}
        cut = truncate(most, policy="per_turn")(turns)
        samples = {name: _joined(cut[name], ends[name]) for name in samples}
    heads = {name: _part(c, 0, np.minimum(c.lengths, most)) for name, c in samples.items()}
    return heads, {"cut": over}


def _part(column: Ragged, begins: Any, ends: np.ndarray) -> Ragged:
    """Of every row the values `begins..ends`."""
    return Ragged.from_windows(column.values, column.starts + begins, ends - begins)


def _joined(left: Ragged, right: Ragged) -> Ragged:
    """Every row of one behind that of the other."""
    offsets = offsets_of(left.lengths + right.lengths)
    out = np.empty(offsets[-1], left.dtype)
    copy_windows(out, offsets[:-1], left.values, left.starts, left.lengths)
    copy_windows(out, offsets[:-1] + left.lengths, right.values, right.starts, right.lengths)
    return Ragged(out, offsets)


def _write_texts(
    settings: Settings, tokenizer: HFTokenizer, texts: Columns, counts: Counts
) -> Counts:
    """A pair for every key; a sidecar for a single one only, as keys may differ in rows."""
    if len(texts) > 1:
        for key, column in texts.items():
            indexed.write_pair(f"{settings.output_prefix}_{key}_document", column)
        return {**counts, **{f"{key}.documents": len(column) for key, column in texts.items()}}
    kept = _short(settings, texts)
    counts |= {"too_long": int((~kept).sum())}
    chunks_: Any = [(_only(texts, kept), counts)]
    indexed.write(
        settings.output_prefix,
        chunks_,
        packed=False,
        document_indices=np.cumsum([0, *kept]),
        settings=_told(settings, tokenizer),
    )
    return {**counts, "documents": len(kept)}


def _told(settings: Settings, tokenizer: HFTokenizer) -> dict[str, Any]:
    """What the sidecar says of how the files were made: nothing of where."""
    places = ("input", "output_prefix", "tokenizer_name_or_path", "dataset_dir")
    flags = attrs.asdict(settings, filter=lambda field, _: field.name not in places)
    return {"compat": "MindSpeed-LLM v2.1.0", **flags, "tokenizer": tokenizer}
