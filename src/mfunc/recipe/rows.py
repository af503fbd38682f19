"""The rows of a recipe: read, held out, tokenized, and laid out as batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mfunc.data as md
from mfunc.recipe.settings import Data

Report = Callable[[str], Any]


def samples_of(
    data: Data, tokenizer: Any, template: Any, *, pad_id: int, report: Report
) -> tuple[md.Columns, md.Columns]:
    """Return the samples to train on, and those to evaluate on; none of these is among those.

    Args:
      data: section of a recipe.
      tokenizer: of the model.
      template: see `template_of`.
      pad_id: what is padding in files of tokens that do not tell.
      report: gets a line of text on what became of the rows.

    Returns:
      Twice `input_ids` and `labels` (Ragged int32), no sample longer than `data.seq_length`.

    Raises:
      ValueError: there is no file to train on; rows are held out of a set that has files of its own
        for evaluation, or none is left.
    """
    train, held_out = read_rows(data, pad_id)
    read = md.truncate(data.seq_length, policy=data.overlong)
    if not data.tokens:
        read = md.compose(read, md.tokenize(tokenizer), pieces_of(data, template))
    return _counted(read, train, "train", report), _counted(read, held_out, "evaluation", report)


def read_rows(data: Data, pad_id: int = 0) -> tuple[md.Columns, md.Columns]:
    """Read what `samples_of` makes samples of: rows of text, or of tokens.

    Raises:
      ValueError: see `samples_of`.
    """
    if bool(data.train) == bool(data.tokens):
        raise ValueError(
            "data.train or data.tokens must name what to train on, and only one of them"
        )
    if data.evaluation and data.held_out:
        raise ValueError("data.evaluation names files, and data.held_out rows: give one of them")
    rows = _tokens(data.tokens, pad_id) if data.tokens else _text(data.train)
    if data.sample:
        rows = md.take(data.sample)(rows)
    count = len(next(iter(rows.values()), ()))
    if data.held_out >= count:
        raise ValueError(
            f"data.held_out={data.held_out} of {count} rows leaves none to train on; lower it"
        )
    if data.evaluation:
        whole = _tokens(data.evaluation[0], pad_id) if data.tokens else _text(data.evaluation)
        return rows, whole
    cut = count - data.held_out
    return md.take(cut)(rows), md.skip(cut)(rows)


def _text(paths: tuple[str, ...]) -> md.Columns:
    return md.concat(list(md.read(list(paths))))


def _tokens(path: str, pad_id: int) -> md.Columns:
    """Single samples, also of rows that were packed; without labels every token is trained."""
    samples = md.samples(md.concat(list(md.read_tokens(path))), pad_id)
    return {"labels": samples["input_ids"], **samples}


def pieces_of(data: Data, template: Any, *, prompt_only: bool = False) -> Any:
    """Return what turns rows into text, trained or not; see `data.chat` and `data.sft`."""
    if data.map_function:
        return md.sft(data.map_function, **data.map_settings)
    if data.style == "text":
        return md.conversations(style="text", fields=_fields(data), invalid=data.invalid)
    return md.chat(
        style=data.style, template=template, fields=_fields(data), system=data.system or None,
        invalid=data.invalid, prompt_only=prompt_only,
        append_eos=data.append_eos and not prompt_only,
    )  # fmt: skip


def _counted(read: Any, rows: md.Columns, name: str, report: Report) -> md.Columns:
    """Run a transform, and report what became of the rows."""
    samples, counts = md.counted(read, rows)
    lengths, labels = samples["input_ids"].lengths, samples["labels"].values
    total = max(int(lengths.sum()), 1)
    line = f"{name}: {len(lengths):,} samples, {lengths.sum():,} tokens"
    told = [f"{int((labels != -100).sum()) / total:.0%} trained"]
    for what in ("dropped", "cut", "split"):
        count = sum(n for key, n in counts.items() if key.endswith(f".{what}"))
        told += [f"{count:,} {what}"] * bool(count)
    if len(lengths):
        report(", ".join([line, *told]))
    return {column: samples[column] for column in ("input_ids", "labels")}


def _fields(data: Data) -> dict[str, str] | None:
    return dict(data.fields) or None


def template_of(data: Data, tokenizer: Any) -> Any:
    """Return the template: a name, or the tokenizer's own."""
    return md.hf_template(tokenizer) if data.template == "hf" else data.template


def layout_of(data: Data, pad_id: int) -> tuple[Any, Any]:
    """Return what makes rows of all samples (or nothing), and what makes one batch of some.

    Example:
      >>> layout_of(Data(layout="dynamic", divisor=8), 0)
      (None, pad_to_divisor(divisor=8))
    """
    length = data.seq_length
    blocks = md.with_attention_blocks() if md.pays_by_blocks(length) else None
    if data.layout == "packed":
        return md.pack(length, strategy=data.strategy, pad_id=pad_id), blocks
    if data.layout == "static":
        pad = md.pad_to_divisor(length, max_length=length, pad_id=pad_id)
        return None, md.compose(blocks, pad) if blocks else pad
    return None, md.pad_to_divisor(data.divisor, remainder=data.remainder, pad_id=pad_id)


def in_order(samples: md.Columns, data: Data, pad_id: int, size: int) -> Iterator[md.Columns]:
    """Yield all samples once, in batches; the last one may be smaller."""
    prepare, collate = layout_of(data, pad_id)
    rows = prepare(samples) if prepare else samples
    return (collate(batch) if collate else batch for batch in md.batch(size)(rows))
