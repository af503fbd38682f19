"""Rows -> batches, in each layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import attrs

import mfunc.data as md
from mfunc.comparison.settings import Settings
from mfunc.dynamic import Dim, static_sizes

DIVISOR, REMAINDER, COARSE = 16, 1, 128
WINDOW = 50  # batches whose samples are sorted by length, in buckets


@attrs.frozen(kw_only=True)
class Costs:
    """What graphs cost, measured: `dynamic.static_sizes` goes by it.

    Attributes:
      seconds: of a step of size 1 in the graph for all sizes.
      faster: share of a step that a graph for one size saves.
      compile_seconds: of one graph.
    """

    seconds: float
    faster: float
    compile_seconds: float


@attrs.frozen(kw_only=True)
class Layout:
    """How rows become batches.

    Attributes:
      batches: a new iterator over all of them at each call.
      slots: tokens and padding of an epoch.
      graphs: how many a whole epoch compiles.
      length: the size that changes, or `None`.
    """

    batches: Callable[[], Iterator[md.Columns]]
    slots: int
    graphs: int
    length: Dim | None = None


def samples_of(settings: Settings) -> tuple[md.Columns, int]:
    """Return the samples and the size of the vocabulary."""
    tokenizer = md.sentencepiece(settings.tokenizer)
    prepare = md.compose(md.tokenize(tokenizer), md.chat(style="alpaca", template="alpaca"))
    return prepare(md.concat(list(md.read(settings.data)))), tokenizer.vocab_size


def length_of(settings: Settings, *, coarse: bool = False, static: tuple[int, ...] = ()) -> Dim:
    """Return the lengths that padded batches may have.

    Example:
      >>> print(length_of(Settings(data="x", tokenizer="y", seq_length=64)))
      length = 16 k + 1, from 1 to 65
    """
    divisor = COARSE if coarse else DIVISOR
    most = Dim(divisor=divisor, remainder=REMAINDER).at_least(settings.seq_length)
    return Dim("length", divisor=divisor, remainder=REMAINDER, max=most, static=static)


def counts_of(samples: md.Columns, settings: Settings, length: Dim) -> Mapping[int, int]:
    """Return how many batches of an epoch have each length."""
    sizes = samples["input_ids"].lengths
    plan = md.length_batches(sizes, settings.batch_size, key_or_seed=0, window=1)
    return Counter(length.at_least(int(sizes[plan[i]].max())) for i in range(len(plan)))


def layout_of(
    name: str, samples: md.Columns, settings: Settings, costs: Costs | None = None
) -> Layout:
    """Put samples into batches.

    Args:
      name: of `LAYOUTS`.
      samples: `input_ids` and `labels`.
      settings: of the comparison.
      costs: for `"both"`, by which lengths get graphs of their own.

    Raises:
      ValueError: a sample is longer than `seq_length`; `"both"` without costs.
    """
    if name.endswith("pack"):
        return _packed(samples, settings, isolate=name == "neat_pack")
    longest = settings.seq_length
    if name == "static":
        pad = md.pad_to_divisor(longest, max_length=longest)
        size = settings.static_rows or settings.batch_size
        batches = _padded(samples, size, 1, pad)
        return Layout(batches=batches, slots=longest * len(samples["input_ids"]), graphs=1)
    length = length_of(settings, coarse=name == "rounded")
    counts = counts_of(samples, settings, length)
    static: tuple[int, ...] = tuple(sorted(counts)) if name == "rounded" else ()
    if name == "both":
        if costs is None:
            raise ValueError("layout_of: both needs costs, to choose lengths by")
        static = static_sizes(counts, **attrs.asdict(costs))
    length = attrs.evolve(length, static=static)
    window = WINDOW if name == "buckets" else 1
    sizes = samples["input_ids"].lengths
    plan = md.length_batches(sizes, settings.batch_size, key_or_seed=0, window=window)
    return Layout(
        batches=_padded(samples, settings.batch_size, window, md.pad_to_divisor(length)),
        slots=plan.slots(sizes, divisor=length.divisor, remainder=length.remainder),
        graphs=len(static) + (name != "rounded"),
        length=length,
    )


def _padded(
    samples: md.Columns, size: int, window: int, pad: md.Transform
) -> Callable[[], Iterator[md.Columns]]:
    def batches() -> Iterator[md.Columns]:
        return map(pad, md.batch_by_length(size, key_or_seed=0, window=window)(samples))

    return batches


def _packed(samples: md.Columns, settings: Settings, *, isolate: bool) -> Layout:
    """Pack rows; with isolated samples every batch tells the blocks of its attention."""
    rows = md.pack(settings.seq_length, isolate=isolate, seed=0)(samples)
    size = settings.pack_rows
    blocks = isolate and md.pays_by_blocks(settings.seq_length)

    def batches() -> Iterator[md.Columns]:
        each = md.batch(size)(rows)
        return map(md.with_attention_blocks(), each) if blocks else each

    shapes = {
        (len(batch["input_ids"]), len(batch["attention_blocks"]["pairs"]) if blocks else 0)
        for batch in batches()
    }
    return Layout(batches=batches, slots=rows["input_ids"].size, graphs=len(shapes))
