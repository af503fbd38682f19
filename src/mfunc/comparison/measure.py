"""Some steps of training in one layout: what they took, and what they learned."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import mfunc.data as md
from mfunc import random
from mfunc.comparison.layouts import Costs, Layout, counts_of, layout_of, length_of, samples_of
from mfunc.comparison.settings import Settings
from mfunc.data.building.report import peak_memory
from mfunc.loss import next_token_loss
from mfunc.nn import llama
from mfunc.optim import adamw
from mfunc.train import init_state, train_step

COLUMNS = ("input_ids", "labels", "segment_ids", "position_ids")
TIMES = 5  # steps by which a graph's speed is judged


def measure(name: str, settings: Settings) -> dict[str, Any]:
    """Train for some steps in one layout.

    All batches are stepped through twice: the first time compiles and gives the curve, the second
    is timed. An epoch is what these steps took a real token, times the tokens of all rows, and
    what the graphs of its plan take to compile.

    Args:
      name: of `LAYOUTS`.
      settings: of the comparison.

    Returns:
      `steps`, `tokens` and `losses` by step, `padding` (share of an epoch), `tokens_per_second`,
      `graphs` and `compile_seconds` of an epoch, `megabytes` (the peak of this process,
      0 where the system does not tell),
      `epoch_seconds`, `rate` (real tokens a second of an epoch), `compilations`. For `"both"` also
      `own_graphs`, the lengths chosen, and `dynamic_over_static`: how many times as long a step
      takes in the graph for all lengths.
    """
    samples, vocabulary = samples_of(settings)
    config = config_of(settings, vocabulary)
    costs = costs_of(samples, config, settings) if name == "both" else None
    layout = layout_of(name, samples, settings, costs)
    tokens = settings.static_tokens if name == "static" else settings.tokens
    chosen = list(enough(layout.batches(), tokens))
    step, state = prepared(config, layout, settings.recompute)
    losses, first, again = [], [], []
    for batch in chosen:
        state, metrics, seconds = timed(step, state, batch)
        losses.append(float(metrics["loss"]))
        first.append(seconds)
    for batch in chosen:
        state, _, seconds = timed(step, state, batch)
        again.append(seconds)
    counts = [int((batch["segment_ids"] > 0).sum()) for batch in chosen]
    total = int(samples["input_ids"].lengths.sum())
    compiling = max(sum(first) - sum(again), 0.0) / step.compiles() * layout.graphs
    compiling += 2 * costs.compile_seconds if costs else 0.0
    seconds = total * sum(again) / sum(counts) + compiling
    found = {
        "steps": len(chosen), "tokens": counts, "losses": losses,
        "padding": 1 - total / layout.slots, "tokens_per_second": sum(counts) / sum(again),
        "graphs": layout.graphs, "compile_seconds": compiling,
        "megabytes": (peak_memory() or 0) / 2**20,
        "epoch_seconds": seconds, "rate": total / seconds, "compilations": step.compilations(),
    }  # fmt: skip
    if costs is None or layout.length is None:
        return found
    more = {"own_graphs": layout.length.static, "dynamic_over_static": 1 / (1 - costs.faster)}
    return found | more


def config_of(settings: Settings, vocabulary: int) -> llama.Config:
    """Return the model that all layouts train."""
    return llama.Config(
        vocab_size=vocabulary, hidden_size=settings.hidden_size,
        intermediate_size=max(settings.hidden_size * 8 // 3 // 16, 1) * 16,
        num_hidden_layers=settings.layers, num_attention_heads=settings.heads,
    )  # fmt: skip


def enough(batches: Iterator[md.Columns], tokens: int) -> Iterator[md.Columns]:
    """Yield batches until they hold so many real tokens, and at least two."""
    seen = 0
    for count, batch in enumerate(batches):
        if count >= 2 and seen >= tokens:
            return
        seen += int((batch["segment_ids"] > 0).sum())
        yield batch


def prepared(config: llama.Config, layout: Layout, recompute: bool = False) -> tuple[Any, Any]:
    """Return a compiled step, and the state before it: the same for every layout."""

    def loss(params, batch):  # type: ignore[no-untyped-def]
        logits = llama.factored(
            params, config, batch["input_ids"], segment_ids=batch["segment_ids"],
            position_ids=batch["position_ids"], blocks=batch["attention_blocks"],
            recompute=recompute,
        )  # fmt: skip
        return next_token_loss(logits, batch["labels"], batch["segment_ids"])

    optimizer = adamw(1e-3)
    flexible = layout.length is not None
    dynamic = {f"1/{name}": (None, layout.length) for name in COLUMNS} if flexible else None
    step = train_step(loss, optimizer, donate=True, dynamic=dynamic)
    return step, init_state(llama.init(random.key(0), config), optimizer)


def timed(step: Any, state: Any, batch: md.Columns) -> tuple[Any, Any, float]:
    """Take a step and wait for it."""
    given = {name: batch[name] for name in COLUMNS}
    given["attention_blocks"] = batch.get("attention_blocks")
    began = time.perf_counter()
    state, metrics = step(state, given)
    metrics["loss"].asnumpy()
    return state, metrics, time.perf_counter() - began


def costs_of(samples: md.Columns, config: llama.Config, settings: Settings) -> Costs:
    """Measure what a graph of its own saves the length that comes most often, and what it costs.

    The length gets a graph, and the next length goes through the graph for all: a step of each, in
    turn.
    """
    counts = counts_of(samples, settings, length_of(settings))
    often = max(counts, key=lambda n: (counts[n], n))
    length = length_of(settings, static=(often,))
    other = (
        often - length.divisor if length.fits(often - length.divisor) else often + length.divisor
    )
    layout = Layout(batches=lambda: iter(()), slots=0, graphs=2, length=length)
    step, state = prepared(config, layout, settings.recompute)
    times: dict[int, list[float]] = {often: [], other: []}
    for _ in range(TIMES + 1):
        for size, mine in times.items():
            state, _, seconds = timed(step, state, full_batch(settings.batch_size, size))
            mine.append(seconds)
    own, shared = (statistics.median(mine[1:]) for mine in times.values())
    shared /= other
    compiling = sum(mine[0] - statistics.median(mine[1:]) for mine in times.values()) / 2
    faster = min(max(1 - own / often / shared, 0.0), 1.0)
    return Costs(seconds=shared, faster=faster, compile_seconds=max(compiling, 0.0))


def full_batch(rows: int, length: int) -> md.Columns:
    """A batch of one document a row, for timing."""
    ones = np.ones((rows, length), np.int32)
    places = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    return {"input_ids": ones, "labels": ones, "segment_ids": ones, "position_ids": places}
