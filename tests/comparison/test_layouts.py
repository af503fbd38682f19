from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import mfunc.data as md
from mfunc.comparison import LAYOUTS, Settings
from mfunc.comparison.layouts import Costs, counts_of, layout_of, length_of

RNG = np.random.default_rng(0)
ROWS = [RNG.integers(1, 9, n).tolist() for n in RNG.integers(3, 60, 50)] + [[3] * 500]
SAMPLES = {"input_ids": md.Ragged.from_rows(ROWS), "labels": md.Ragged.from_rows(ROWS)}
SETTINGS = Settings(data="x", tokenizer="y", seq_length=512, batch_size=4)
FREE = Costs(seconds=1.0, faster=0.5, compile_seconds=0.0)


def real(batches):
    return sum(int((batch["segment_ids"] > 0).sum()) for batch in batches)


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_epoch_has_every_token_and_the_slots_that_are_told(name):
    layout = layout_of(name, SAMPLES, SETTINGS, FREE)
    batches = list(layout.batches())
    assert real(batches) == SAMPLES["input_ids"].lengths.sum()
    assert sum(batch["input_ids"].size for batch in batches) == layout.slots
    assert real(layout.batches()) == real(batches), "each call begins anew"


def test_the_graphs_of_an_epoch_are_counted():
    dynamic, both = (layout_of(name, SAMPLES, SETTINGS, FREE) for name in ("dynamic", "both"))
    counts = counts_of(SAMPLES, SETTINGS, length_of(SETTINGS))
    seen = Counter(batch["input_ids"].shape[1] for batch in dynamic.batches())
    assert counts == seen
    assert (dynamic.graphs, dynamic.length.static) == (1, ())
    assert (both.graphs, both.length.static) == (1 + len(seen), tuple(sorted(seen)))
    rounded = layout_of("rounded", SAMPLES, SETTINGS)
    assert rounded.graphs == len({b["input_ids"].shape[1] for b in rounded.batches()})
    neat = layout_of("neat_pack", SAMPLES, SETTINGS)
    assert neat.graphs == len({len(b["attention_blocks"]["pairs"]) for b in neat.batches()})


def test_a_graph_that_costs_more_than_it_saves_is_not_made():
    dear = Costs(seconds=1e-3, faster=0.3, compile_seconds=1e3)
    assert layout_of("both", SAMPLES, SETTINGS, dear).length.static == ()


def test_buckets_have_less_padding_and_packs_least():
    slots = [layout_of(name, SAMPLES, SETTINGS).slots for name in ("dynamic", "buckets")]
    packed = layout_of("neat_pack", SAMPLES, SETTINGS).slots
    assert packed < slots[1] < slots[0] < layout_of("static", SAMPLES, SETTINGS).slots


def test_a_longer_sample_is_refused():
    short = Settings(data="x", tokenizer="y", seq_length=256, batch_size=4)
    for name in ("static", "dynamic", "neat_pack"):
        with pytest.raises(ValueError, match="500"):
            list(layout_of(name, SAMPLES, short).batches())
    with pytest.raises(ValueError, match="both needs costs"):
        layout_of("both", SAMPLES, SETTINGS)
