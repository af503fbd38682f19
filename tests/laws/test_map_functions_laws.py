"""Laws of the map functions, of the wiki cleaning, and of batches of like length."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.laws.test_data_laws import Characters, conversations

import mfunc.data as md
from mfunc.data.dialogue.map_functions import MAP_FUNCTIONS
from mfunc.data.sources.corpora import clean_wikitext

LENGTHS = st.lists(st.integers(0, 40), max_size=40)
PLANS = st.fixed_dictionaries(
    {"key_or_seed": st.integers(0, 2**64 - 1), "window": st.none() | st.integers(1, 5)}
)
ROUNDING = st.integers(1, 9).flatmap(
    lambda divisor: st.fixed_dictionaries(
        {"divisor": st.just(divisor), "remainder": st.integers(0, divisor - 1)}
    )
)
TEXT_SETTINGS = sorted(
    {"user_prompt", "user_prompt_role", "assistant_prompt", "assistant_prompt_role", "sep_token"}
)


@given(LENGTHS, st.integers(1, 9), PLANS, st.booleans())
def test_every_sample_is_in_one_batch(lengths, size, settings, drop):
    plan = md.length_batches(lengths, size, drop_remainder=drop, **settings)
    sizes = [len(batch) for batch in plan]
    rest = len(lengths) % size
    assert sizes == [size] * (len(lengths) // size) + [rest] * (rest > 0 and not drop)
    samples = sorted(itertools.chain.from_iterable(batch.tolist() for batch in plan))
    assert len(set(samples)) == len(samples)
    if not drop:
        assert samples == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 9), PLANS, st.booleans(), ROUNDING)
def test_no_more_padding_than_by_chance(lengths, size, settings, drop, rounding):
    """Chance is `batch(size)` of `shuffle(key_or_seed)`, computed by these."""
    plan = md.length_batches(lengths, size, drop_remainder=drop, **settings)
    samples = {"input_ids": md.Ragged.from_rows([[1] * n for n in lengths], np.int32)}
    shuffled = md.shuffle(settings["key_or_seed"])(samples)
    by_chance = 0
    for batch in md.batch(size, drop_remainder=drop)(shuffled):
        by_chance += md.pad_to_divisor(**rounding)(batch)["input_ids"].size
    assert plan.slots(lengths, **rounding) <= by_chance


@given(
    st.lists(st.integers(0, 12), min_size=6, max_size=6), st.sampled_from([1, 2, 3, 6]), ROUNDING
)
def test_without_a_window_no_batches_have_less_padding(lengths, size, rounding):
    """Brute force: every order of six samples."""
    best = md.length_batches(lengths, size, key_or_seed=0).slots(lengths, **rounding)
    starts = np.arange(0, 7, size)
    for order in set(itertools.permutations(lengths)):
        other = md.BatchPlan(np.arange(6), starts).slots(order, **rounding)
        assert best <= other


@given(LENGTHS, st.integers(1, 9), PLANS, st.data())
def test_going_on_gives_the_batches_that_were_left(lengths, size, settings, data):
    samples = {
        "input_ids": md.Ragged.from_rows([[1] * n for n in lengths], np.int32),
        "n": list(range(len(lengths))),
    }
    whole = [batch["n"] for batch in md.batch_by_length(size, **settings)(samples)]
    start = data.draw(st.integers(0, len(whole)))
    rest = md.batch_by_length(size, start=start, **settings)(samples)
    assert [batch["n"] for batch in rest] == whole[start:]


@given(LENGTHS, st.integers(1, 9), PLANS)
def test_slots_are_those_of_the_batches(lengths, size, settings):
    plan = md.length_batches(lengths, size, **settings)
    brute = sum(max(lengths[i] for i in batch) * len(batch) for batch in plan)
    assert plan.slots(lengths) == brute


@pytest.mark.parametrize("name", sorted(n for n in MAP_FUNCTIONS if "chat" in n or n == "vicuna"))
@given(data=st.data())
def test_a_row_is_in_its_pieces_and_only_answers_are_trained(name, data):
    """Settings are marked, so what is left of the text without them is what was said."""
    rows = data.draw(conversations())
    takes = [key for key in TEXT_SETTINGS if key in MAP_FUNCTIONS[name].settings]
    marks = {key: f"\ue000{i}" for i, key in enumerate(takes)}
    marked = re.compile("|".join(marks.values()))
    pieces = md.sft(name, **marks)(rows)["pieces"]
    for row, talk in zip(pieces, rows["conversations"], strict=True):
        text = [piece for piece in row if not piece.special]
        said = "".join(marked.sub("", piece.text) for piece in text)
        answered = "".join(marked.sub("", piece.text) for piece in text if piece.trained)
        if name == "multi-round-chat-dyn-alpaca":  # its formats hold newlines of their own
            said, answered = (t.replace("\n", "") for t in (said, answered))
            talk = [{**m, "value": m["value"].replace("\n", "")} for m in talk]
        assert said == "".join(message["value"] for message in talk)
        assert answered == "".join(m["value"] for m in talk if m["from"] != "human")
        assert row[-1] == md.Piece("eos", trained=True, special=True)


@given(conversations())
def test_trained_tokens_are_the_answers_and_their_ends(rows):
    out = md.pipe(rows, md.sft("vicuna"), md.tokenize(Characters()))
    for ids, labels, talk in zip(
        out["input_ids"], out["labels"], rows["conversations"], strict=True
    ):
        answers = [[*map(ord, m["value"]), Characters.eos_id] for m in talk if m["from"] != "human"]
        assert labels[labels != -100].tolist() == [i for answer in answers for i in answer]
        assert (ids == Characters.bos_id).sum() == 1


WIKI = st.lists(
    st.sampled_from(
        [*" aN=()[]{}°\n:;.!?,'", '"', "", "@-@", "@.@", "'s"],
    )
)


@given(WIKI)
def test_wikitext_rules_are_those_of_their_regular_expressions(words):
    """Oracle: upstream's rules, which search to the text's end for every opening bracket."""
    text = " ".join(words)
    expected = text.replace("s '", "s'")
    for mark in "-,.":
        expected = expected.replace(f" @{mark}@ ", mark)
    for mark in ":;.!?,":
        expected = expected.replace(f" {mark} ", f"{mark} ")
    for a, b in ("()", "[]", "{}", '""', "''"):
        pattern = rf"{re.escape(a)}\s*([^{re.escape(b)}]*?)\s*{re.escape(b)}"
        expected = re.sub(pattern, lambda match, a=a, b=b: a + match[1] + b, expected)
    for old, new in {"= = = =": "====", "= = =": "===", "= =": "==", " ° ": "°"}.items():
        expected = expected.replace(old, new)
    expected = expected.replace(" \n", "\n").replace("\n ", "\n").replace(" N ", " 1 ")
    assert clean_wikitext(text) == expected.replace(" 's", "'s")
