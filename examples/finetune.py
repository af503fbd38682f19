"""Fine-tune a language model: rows -> `pack . tokenize` -> train -> LoRA -> generate, in one go.

    python examples/finetune.py
        the demo: nothing to download, some minutes on a laptop
    python examples/finetune.py --data my.json --tokenizer tokenizer.model --model folder
        your own files

Without `--data` it writes school maths in two languages, trains a tokenizer and a small LLaMA on
them from scratch, and then LoRA-tunes it on a family of problems that it has never seen. With
`--model` (a Hugging Face folder) it skips what is there already and LoRA-tunes that model on
`--data`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import numpy as np
import sentencepiece

import mfunc as mf
import mfunc.data as md
import school_maths
from finetune_settings import Preset, parse
from mfunc.adapt import lora
from mfunc.nn import llama

ANSWER_TOKENS = 96  # how long an answer may get when it is evaluated
TEMPLATE = md.Template(
    prefix="<s>",
    user="Question: {content}\nAnswer: ",
    assistant="{content}</s>",
    special=("<s>", "</s>"),
)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the job and return what `result.json` holds."""
    options, preset = parse(arguments, __doc__)
    began, key = time.perf_counter(), mf.random.key(options.seed)
    task = read_task(options)
    model, config, params, tokenizer = start(options, preset, task, key)
    dataset = Dataset(
        tokenizer=tokenizer, template=task.template, preset=preset, seed=options.seed,
        overlong=options.overlong,
    )  # fmt: skip
    result: dict[str, Any] = {}
    curves: dict[str, list[float]] = {}
    drawn = None
    if task.base:
        drawn = packed = dataset.packed(task.base, "training rows")
        optimizer = adamw(preset.learning_rate, preset.steps, preset.warmup_steps, weight_decay=0.1)
        state = mf.train.init_state(params, optimizer)
        step = mf.train_step(loss_of(model, config), optimizer, donate=True)
        batches = dataset.batches(packed)
        params, curves["from scratch"], result = train(step, state, batches, preset.steps)
        result |= pack_numbers(packed)
    if task.adapt:
        before = solve("before", model, params, config, dataset, task.held_out)
        packed = dataset.packed(task.adapt, "rows to adapt to")
        adapter, settings, curves["LoRA"], speed = adapt(
            model, config, params, dataset, packed, key
        )
        merged = lora.merge(params, adapter, settings)
        after = solve("after", model, merged, config, dataset, task.held_out)
        result = {**speed, **pack_numbers(packed), **result}
        result |= {"exact_match_before": before, "exact_match_after": after}
        mf.save(options.output / "adapter.safetensors", adapter, metadata=attrs.asdict(settings))
    pretrained = mf.Pretrained(model, config, params, tokenizer)
    mf.save_pretrained(options.output / "checkpoint", pretrained)
    mf.draw.losses(options.output / "loss.png", curves)
    draw_pack(options.output / "pack.png", drawn or packed)
    result["seconds"] = round(time.perf_counter() - began, 1)
    (options.output / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2), f"in {options.output}/", sep="\n")
    return result


# --- data ---


@attrs.frozen(kw_only=True)
class Task:
    """What is learnt: rows for a fresh model, rows to adapt it to, rows that no training sees."""

    base: md.Columns
    adapt: md.Columns
    held_out: md.Columns
    template: Any


def read_task(options: argparse.Namespace) -> Task:
    """Return the rows of the demo, or those of a file with its last ones held out."""
    if options.data is None:
        return school_task(options)
    fields = dict(pair.split("=", 1) for pair in options.field)
    rows = md.concat(list(md.read(options.data, fields=fields or None)))
    count = len(rows["instruction"])
    if count <= options.held_out:
        raise SystemExit(
            f"{options.data}: {count} rows; --held-out {options.held_out} leaves none to train on"
        )
    cut = count - options.held_out
    kept, held_out = md.take(cut)(rows), md.skip(cut)(rows)
    base, adapt = ({}, kept) if options.model else (rows, {})
    return Task(base=base, adapt=adapt, held_out=held_out, template=options.template or "alpaca")


def school_task(options: argparse.Namespace) -> Task:
    """Write the school maths as alpaca rows and read them back."""
    seed, new, family = options.seed, options.rows // 5, [school_maths.NEW]
    parts = {
        "mix": school_maths.rows(seed, options.rows - new, school_maths.MIX),
        "new": school_maths.rows(seed + 1, new, family),
        "held_out": school_maths.rows(seed + 2, options.held_out, family, held_out=True),
    }
    columns = {}
    for name, rows in parts.items():
        path = options.output / f"school_maths_{name}.json"
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=0), encoding="utf-8")
        columns[name] = md.concat(list(md.read(path)))
    sizes = ", ".join(f"{len(rows):,} rows {name}" for name, rows in parts.items())
    print(f"school maths: {sizes}")
    return Task(
        base=columns["mix"], adapt=columns["new"], held_out=columns["held_out"], template=TEMPLATE
    )


def train_tokenizer(rows: md.Columns, path: Path) -> None:
    """Train a SentencePiece model on rows; digits stay single."""
    texts = [text for name in ("instruction", "input", "output") for text in rows[name]]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(path.with_suffix("")), vocab_size=800,
        model_type="bpe", split_digits=True, byte_fallback=True, character_coverage=1.0,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, hard_vocab_limit=False, minloglevel=2,
        num_threads=2,
    )  # fmt: skip


@attrs.frozen(kw_only=True)
class Dataset:
    """How rows become batches."""

    tokenizer: Any
    template: Any
    preset: Preset
    seed: int
    overlong: str = "error"

    def packed(self, rows: md.Columns, name: str) -> md.Columns:
        """Tokenize and pack rows, and say what that saved."""
        began = time.perf_counter()
        read = md.compose(
            md.pack(self.preset.seq_length, overlong=self.overlong),
            md.tokenize(self.tokenizer),
            md.chat(style="alpaca", template=self.template),
        )
        packed, counts = md.counted(read, rows)
        number = {what.removeprefix("pack."): n for what, n in counts.items()}
        padded = number["samples"] * self.preset.seq_length
        print(
            f"{name}: {number['samples']:,} samples, {number['tokens']:,} tokens -> "
            f"{number['rows']:,} rows of {self.preset.seq_length}, "
            f"{number['tokens'] / number['slots']:.2%} filled, "
            f"{padded - number['slots']:,} padding tokens avoided "
            f"({1 - number['slots'] / padded:.1%}), {time.perf_counter() - began:.1f} s"
        )
        for what in ("cut", "dropped", "split"):
            if number.get(what):
                print(f"  {number[what]:,} {what}: longer than {self.preset.seq_length} tokens")
        return packed

    def batches(self, packed: md.Columns) -> Iterator[md.Columns]:
        """Yield batches without end; every epoch has another order.

        Too few rows for one batch are a smaller one.
        """
        size = min(self.preset.batch_size, len(packed["input_ids"]))
        if not size:
            raise SystemExit("no row is left to train on: see what was dropped")
        pays = md.pays_by_blocks(self.preset.seq_length)
        blocks = md.with_attention_blocks() if pays else None
        return md.epochs(packed, seed=self.seed, size=size, collate=blocks)


def pack_numbers(packed: md.Columns) -> dict[str, Any]:
    """Return the part of the result that tells of the pack."""
    segment_ids = packed["segment_ids"]
    return {"pack_rows": len(segment_ids), "pack_fill": round(float((segment_ids > 0).mean()), 4)}


def draw_pack(path: Path, packed: md.Columns) -> None:
    """Draw the rows that hold the most documents."""
    fullest = np.argsort(-packed["segment_ids"].max(1), kind="stable")[:12]
    mf.draw.pack(path, packed["segment_ids"][fullest], packed["labels"][fullest])


# --- model and training ---


def start(
    options: argparse.Namespace, preset: Preset, task: Task, key: np.ndarray
) -> mf.Pretrained:
    """Load a model, or make one from scratch with the tokenizer that it needs."""
    if options.model is not None:
        found = mf.from_pretrained(options.model)
        tokenizer = md.sentencepiece(options.tokenizer) if options.tokenizer else found.tokenizer
        mf.auto.check_vocabulary(tokenizer, found.config, str(options.tokenizer))
        return found._replace(tokenizer=tokenizer)
    path = options.tokenizer or options.output / "tokenizer.model"
    if options.tokenizer is None:
        train_tokenizer(task.base, path)
    tokenizer = md.sentencepiece(path)
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    config = llama.Config(
        vocab_size=tokenizer.vocab_size, tie_word_embeddings=True, initializer_range=0.06,
        max_position_embeddings=preset.seq_length,
        **{name: getattr(preset, name) for name in sizes},
    )  # fmt: skip
    params = llama.init(key, config)
    size = mf.spec.size(params)
    print(f"LLaMA from scratch: {size:,} parameters, vocabulary {config.vocab_size:,}")
    return mf.Pretrained(llama, config, params, tokenizer)


def adamw(rate: float, steps: int, warmup: int, weight_decay: float) -> mf.Optimizer:
    """Return clipped AdamW under a cosine."""
    schedule = mf.schedule.cosine(
        rate, total_steps=steps, warmup_steps=min(warmup, steps), end=0.03 * rate
    )
    return mf.optim.chain(
        mf.optim.clip_by_global_norm(1.0),
        mf.optim.adamw(schedule, b2=0.95, weight_decay=weight_decay),
    )


def loss_of(model: ModuleType, config: Any, frozen_head: bool = False) -> Any:
    """Return the loss of a packed batch as a function of the parameters."""

    def loss(params, batch):
        segments, places = batch["segment_ids"], batch["position_ids"]
        blocks = batch.get("attention_blocks")
        logits = model.factored(
            params, config, batch["input_ids"], segment_ids=segments, position_ids=places,
            blocks=blocks, frozen_head=frozen_head,
        )  # fmt: skip
        return mf.loss.next_token_loss(logits, batch["labels"], segments)

    return loss


def train(
    step: Any, state: Any, batches: Iterator[md.Columns], steps: int, *frozen: Any
) -> tuple[Any, list[float], dict[str, Any]]:
    """Run the steps; return the parameters, the loss curve and the speed."""
    curve, speed = [], 0.0
    for now, metrics in mf.fit(step, state, batches, *frozen, total=steps):
        state, speed = now, metrics["tokens_per_second"]
        curve.append(metrics["loss"])
    first, last = np.mean(curve[:10]), np.mean(curve[-10:])
    numbers = {"tokens_per_second": round(speed), "loss_first": round(float(first), 4)}
    return state["params"], curve, numbers | {"loss_last": round(float(last), 4)}


def adapt(
    model: ModuleType,
    config: Any,
    params: Any,
    dataset: Dataset,
    packed: md.Columns,
    key: np.ndarray,
) -> tuple[Any, lora.Config, list[float], dict[str, Any]]:
    """Train a LoRA adapter beside frozen parameters."""
    preset = dataset.preset
    targets = [f"layers/*/{name}" for name in ("q", "k", "v", "o", "gate", "up", "down")]
    settings = lora.Config(rank=preset.lora_rank, alpha=2 * preset.lora_rank, targets=targets)
    adapter = lora.init(mf.random.fold_in(key, "adapter"), params, settings)
    size = mf.spec.size(adapter)
    share = size / mf.spec.size(params)
    print(f"LoRA: {size:,} trained parameters beside the frozen ones ({share:.1%})")
    whole = loss_of(model, config, frozen_head=True)

    def loss(adapter, batch, frozen):
        return whole(lora.apply(frozen, adapter, settings), batch)

    steps, warmup = preset.lora_steps, preset.warmup_steps // 5
    optimizer = adamw(preset.lora_learning_rate, steps, warmup, weight_decay=0.0)
    state = mf.train.init_state(adapter, optimizer)
    step, batches = mf.train_step(loss, optimizer, donate=True), dataset.batches(packed)
    trained, curve, speed = train(step, state, batches, steps, params)
    return trained, settings, curve, speed


# --- evaluation ---


def solve(
    name: str,
    model: ModuleType,
    params: Any,
    config: Any,
    dataset: Dataset,
    rows: Mapping[str, Any],
) -> float:
    """Answer held-out questions greedily, show three, and return the share of right answers."""
    prompt = md.compose(
        md.tokenize(dataset.tokenizer),
        md.chat(style="alpaca", template=dataset.template, prompt_only=True),
    )
    ids = [row.tolist() for row in prompt(rows)["input_ids"]]
    answers = mf.generate(
        model, params, config, ids, max_new_tokens=ANSWER_TOKENS, eos_id=dataset.tokenizer.eos_id,
        batch_size=100, progress=True,
    )  # fmt: skip
    texts = [dataset.tokenizer.decode(answer) for answer in answers]
    right = [same_answer(text, wanted) for text, wanted in zip(texts, rows["output"], strict=True)]
    for i in range(min(3, len(texts))):
        verdict = "right" if right[i] else "wrong"
        question = f"{rows['instruction'][i]} {rows['input'][i]}"
        print(f"\n  Q  {question}\n  A  {texts[i]}\n  -> {verdict}")
    print(f"\nexact match {name}: {sum(right)} of {len(right)}\n")
    return round(sum(right) / len(right), 4)


def same_answer(text: str, wanted: str) -> bool:
    """Compare the final answers (`#### 42`), or the whole texts where there is none."""
    number = school_maths.final_answer(wanted)
    if number is None:
        return text.strip() == wanted.strip()
    return school_maths.final_answer(text) == number


if __name__ == "__main__":
    main()
