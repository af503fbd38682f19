"""What padding costs: the same model and rows in seven layouts, measured.

    python examples/padding.py --data alpaca.json --tokenizer tokenizer.model --seq-length 2048

    static      every sample padded to the longest length there may be
    dynamic     every batch padded to its longest sample, one graph for all lengths
    rounded     lengths rounded up coarsely, a graph for each
    both        one graph for all lengths, and graphs of their own for those that come often
    buckets     dynamic, and samples of like length share batches
    plain_pack  rows filled with samples that see each other
    neat_pack   rows filled with samples that do not: attention by blocks

Each is trained for some steps in a process of its own. An epoch is what those steps took a real
token, times the tokens of all rows, and the compilations that its plan needs. OUTPUT gets
padding.md, padding.png and padding.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

import mfunc as mf
import mfunc.data as md
from mfunc.nn import llama

LAYOUTS = ("static", "dynamic", "rounded", "both", "buckets", "plain_pack", "neat_pack")
COLUMNS = ("input_ids", "labels", "segment_ids", "position_ids")
DIVISOR, REMAINDER, COARSE = 16, 1, 128
# Guesses of what a graph for one length saves of a step, and of what it costs, to choose by.
FASTER, COMPILE_SECONDS = 0.15, 5.0


@attrs.frozen(kw_only=True)
class Layout:
    """How rows become batches.

    Attributes:
      batches: a new iterator over all of them at each call.
      slots: tokens and padding of an epoch.
      graphs: how many a whole epoch compiles.
      length: the size that changes, or `None`.
    """

    batches: Any
    slots: int
    graphs: int
    length: mf.Dim | None = None


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure the layouts that are asked for, print the table and draw it."""
    options = parse(arguments)
    if options.one:
        return measure(options.one, options)
    options.output.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in options.layouts:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found[name] = in_own_process(name, options)
    (options.output / "padding.json").write_text(json.dumps(found, indent=2) + "\n")
    text = table(found, options)
    (options.output / "padding.md").write_text(text + "\n")
    print(text)
    draw(options.output / "padding.png", found)
    return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="alpaca rows")
    add("--tokenizer", type=Path, required=True, help="SentencePiece model")
    add("--seq-length", type=int, default=2048)
    add("--batch-size", type=int, default=8, help="samples of a padded batch")
    add("--static-rows", type=int, help="rows of a static step, if fewer fit into memory")
    add("--pack-rows", type=int, default=1, help="rows of a packed batch")
    add("--tokens", type=int, default=16_000, help="real tokens to measure each layout on")
    add("--static-tokens", type=int, default=3_000, help="the same for the static one, the slowest")
    add("--layouts", nargs="+", choices=LAYOUTS, default=LAYOUTS)
    add("--hidden-size", type=int, default=256)
    add("--layers", type=int, default=4)
    add("--heads", type=int, default=4)
    add("--output", type=Path, default=Path("runs/padding"))
    add("--one", choices=LAYOUTS, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def in_own_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a layout where its memory is its own."""
    words = [sys.executable, __file__, "--one", name]
    for key, value in vars(options).items():
        if key not in ("one", "layouts") and value is not None:
            words += [f"--{key.replace('_', '-')}", str(value)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# --- layouts ---


def tokens_of(options: argparse.Namespace) -> tuple[md.Columns, int]:
    """Return the samples and the size of the vocabulary; longer samples are refused."""
    tokenizer = md.sentencepiece(options.tokenizer)
    prepare = md.compose(md.tokenize(tokenizer), md.chat(style="alpaca", template="alpaca"))
    samples = prepare(md.concat(list(md.read(options.data))))
    return samples, tokenizer.vocab_size


def layout_of(name: str, samples: md.Columns, options: argparse.Namespace) -> Layout:
    """Put samples into batches."""
    if name.endswith("pack"):
        return packed(samples, options, isolate=name == "neat_pack")
    longest = options.seq_length
    if name == "static":
        size = options.static_rows or options.batch_size
        pad = md.pad_to_divisor(longest, max_length=longest)
        batches = Batches(samples=samples, size=size, window=1, pad=pad)
        return Layout(batches=batches, slots=longest * len(samples["input_ids"]), graphs=1)
    coarse = name == "rounded"
    divisor = COARSE if coarse else DIVISOR
    length = mf.Dim(divisor=divisor, remainder=REMAINDER, max=round_up(longest, divisor))
    window = 50 if name == "buckets" else 1
    sizes = samples["input_ids"].lengths
    plan = md.length_batches(sizes, options.batch_size, key_or_seed=0, window=window)
    counts = Counter(length.at_least(int(sizes[rows].max())) for rows in plan)
    static: tuple[int, ...] = tuple(sorted(counts)) if coarse else ()
    if name == "both":
        seconds = options.batch_size * seconds_a_position(options)
        static = mf.dynamic.static_sizes(
            counts, seconds=seconds, faster=FASTER, compile_seconds=COMPILE_SECONDS
        )
        print(f"lengths with graphs of their own: {static}", file=sys.stderr)
    length = attrs.evolve(length, static=static)
    pad = md.pad_to_divisor(length)
    batches = Batches(samples=samples, size=options.batch_size, window=window, pad=pad)
    slots = plan.slots(sizes, divisor=divisor, remainder=REMAINDER)
    return Layout(
        batches=batches, slots=slots, graphs=len(set(static) & set(counts)) + (not coarse),
        length=length,
    )  # fmt: skip


def round_up(size: int, divisor: int) -> int:
    """Return the next length of the form that batches have."""
    return mf.Dim(divisor=divisor, remainder=REMAINDER).at_least(size)


def seconds_a_position(options: argparse.Namespace) -> float:
    """Guess what a position takes in a step, from the products in it, at 100 GFLOP/s."""
    products = 12 * options.layers * options.hidden_size**2 + options.hidden_size * 32_000
    return 6 * products / 100e9


@attrs.frozen(kw_only=True)
class Batches:
    """All padded batches of an epoch, from the start at each call."""

    samples: md.Columns
    size: int
    window: int
    pad: md.Transform

    def __call__(self) -> Iterator[md.Columns]:
        """Yield them."""
        cut = md.batch_by_length(self.size, key_or_seed=0, window=self.window)
        return map(self.pad, cut(self.samples))


def packed(samples: md.Columns, options: argparse.Namespace, *, isolate: bool) -> Layout:
    """Pack rows; with isolated samples every batch tells the blocks of its attention."""
    rows = md.pack(options.seq_length, isolate=isolate, seed=0)(samples)
    size, slots = options.pack_rows, rows["input_ids"].size

    def batches() -> Iterator[md.Columns]:
        each = md.batch(size, drop_remainder=True)(rows)
        return map(md.with_attention_blocks(), each) if isolate else each

    graphs = 1
    if isolate:
        graphs = len({len(batch["attention_blocks"]["pairs"]) for batch in batches()})
    return Layout(batches=batches, slots=slots, graphs=graphs)


# --- one layout ---


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train for some steps, and print what they took as JSON."""
    samples, vocab_size = tokens_of(options)
    layout = layout_of(name, samples, options)
    config = llama.Config(
        vocab_size=vocab_size, hidden_size=options.hidden_size, num_hidden_layers=options.layers,
        intermediate_size=options.hidden_size * 8 // 3 // 16 * 16,
        num_attention_heads=options.heads,
    )  # fmt: skip
    tokens = options.static_tokens if name == "static" else options.tokens
    chosen = list(enough(layout.batches(), tokens))
    step, state = prepared(config, layout)
    losses, first = [], []
    for batch in chosen:  # compiles, and gives the curve
        state, metrics, seconds = timed(step, state, batch)
        losses.append(float(metrics["loss"]))
        first.append(seconds)
    again = []
    for batch in chosen:
        state, _, seconds = timed(step, state, batch)
        again.append(seconds)
    counts = [int((batch["segment_ids"] > 0).sum()) for batch in chosen]
    total, made = int(samples["input_ids"].lengths.sum()), step.compiles()
    compiling = (sum(first) - sum(again)) / made
    seconds = total * sum(again) / sum(counts) + compiling * layout.graphs
    found = {
        "steps": len(chosen), "tokens": counts, "losses": losses,
        "padding": 1 - total / layout.slots, "tokens_per_second": sum(counts) / sum(again),
        "graphs": layout.graphs, "compile_seconds": compiling * layout.graphs,
        "megabytes": peak(), "epoch_seconds": seconds, "rate": total / seconds,
        "compilations": step.compilations(),
    }  # fmt: skip
    print(json.dumps(found))
    return found


def enough(batches: Iterator[md.Columns], tokens: int) -> Iterator[md.Columns]:
    """Yield batches until they hold so many real tokens, and at least two."""
    seen = 0
    for count, batch in enumerate(batches):
        if count >= 2 and seen >= tokens:
            return
        seen += int((batch["segment_ids"] > 0).sum())
        yield batch


def prepared(config: llama.Config, layout: Layout) -> tuple[Any, Any]:
    """Return a compiled step, and the state before it: the same for every layout."""

    def loss(params, batch):  # type: ignore[no-untyped-def]
        logits = llama.factored(
            params, config, batch["input_ids"], segment_ids=batch["segment_ids"],
            position_ids=batch["position_ids"], blocks=batch["attention_blocks"],
        )  # fmt: skip
        return mf.loss.next_token_loss(logits, batch["labels"], batch["segment_ids"])

    optimizer = mf.optim.adamw(1e-3)
    flexible = layout.length is not None
    dynamic = {f"1/{name}": (None, layout.length) for name in COLUMNS} if flexible else None
    step = mf.train_step(loss, optimizer, donate=True, dynamic=dynamic)
    return step, mf.train.init_state(llama.init(mf.random.key(0), config), optimizer)


def timed(step: Any, state: Any, batch: md.Columns) -> tuple[Any, Any, float]:
    """Take a step and wait for it."""
    given = {name: batch[name] for name in COLUMNS}
    given["attention_blocks"] = batch.get("attention_blocks")
    began = time.perf_counter()
    state, metrics = step(state, given)
    metrics["loss"].asnumpy()
    return state, metrics, time.perf_counter() - began


def peak() -> float:
    """The most memory that the process has held, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


# --- what came out ---


def table(found: dict[str, Any], options: argparse.Namespace) -> str:
    """Return the results in Markdown."""
    base = found.get("static", next(iter(found.values())))["rate"]
    lines = [
        f"S = {options.seq_length}, {options.batch_size} samples a padded batch, "
        f"{options.pack_rows} row(s) a packed one, {options.layers} layers of "
        f"{options.hidden_size}; measured on {options.tokens:,} real tokens or more",
        "",
        "| layout | real tokens/s | x static | padding | graphs | compile s | peak MB | epoch |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {name} | {row['rate']:,.0f} | {row['rate'] / base:.2f} | {row['padding']:.1%} | "
        f"{row['graphs']} | {row['compile_seconds']:.0f} | {row['megabytes']:,.0f} | "
        f"{row['epoch_seconds'] / 60:,.0f} min |"
        for name, row in found.items()
    ]
    return "\n".join(lines)


def draw(path: Path, found: dict[str, Any]) -> None:
    """Draw the rates as bars, and the losses over the real tokens seen."""
    figure, (bars, curves) = mf.draw.pyplot().subplots(1, 2, figsize=(11, 4), layout="constrained")
    bars.barh(list(found), [row["rate"] for row in found.values()], color="#4878a8")
    bars.invert_yaxis()
    bars.set_xlabel("real tokens a second, compilation counted in")
    for name, row in found.items():
        curves.plot(np.cumsum(row["tokens"]), row["losses"], marker=".", label=name)
    curves.set_xlabel("real tokens")
    curves.set_ylabel("loss, nats a token")
    curves.legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
