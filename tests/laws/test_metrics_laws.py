"""The laws of metrics: what is right is the most, order and batches do not matter, all in range."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from mfunc.metrics import (
    accuracy,
    bleu,
    cmrc,
    entities,
    perplexity,
    prompt_accuracy,
    rouge,
    sentence_bleu,
    spans,
    squad,
)  # fmt: skip

LATIN = st.text("abcde .,TheX-", max_size=24)
MIXED = st.text("北京上海的 。，《》abX1.…\n", max_size=24)
CUTS = {
    "squad": (squad, LATIN),
    "squad, Chinese": (squad, MIXED),
    "cmrc": (cmrc, MIXED),
    "rouge": (rouge, LATIN),
    "rouge, characters": (partial(rouge, tokenize="char"), MIXED),
    "bleu": (bleu, LATIN),
    "bleu, characters": (partial(bleu, tokenize="char"), MIXED),
    "bleu, zh": (partial(bleu, tokenize="zh"), MIXED),
    "sentence_bleu": (sentence_bleu, MIXED),
    "sentence_bleu, words": (partial(sentence_bleu, tokenize="13a"), LATIN),
}
each = pytest.mark.parametrize("name", CUTS)
each_bleu = pytest.mark.parametrize("name", [name for name in CUTS if name.startswith("bleu")])
each_other = pytest.mark.parametrize("name", [name for name in CUTS if "bleu" not in name])


def has_words(text: str) -> bool:
    return any(c.isalnum() for c in text)


@st.composite
def answers(draw, name: str, size: int = 5) -> tuple[list[str], list[list[str]]]:
    """Any predictions, and references that the metric takes."""
    text = CUTS[name][1]
    right = text if name.startswith(("squad", "cmrc")) else text.filter(has_words)
    references = draw(st.lists(st.lists(right, min_size=1, max_size=3), min_size=1, max_size=size))
    return [draw(text | st.sampled_from(golds)) for golds in references], references


@each
@given(data=st.data())
def test_any_answers_are_in_range_and_order_does_not_matter(name, data):
    metric = CUTS[name][0]
    predictions, references = data.draw(answers(name))
    found = metric(predictions, references)
    assert all(type(v) is float and 0 <= v <= 100 + 1e-9 for v in found.values()), found
    order = data.draw(st.permutations(range(len(predictions))))
    again = metric(
        [predictions[i] for i in order],
        [data.draw(st.permutations(references[i])) for i in order],
    )
    assert again == pytest.approx(found, rel=1e-12, abs=1e-12)


@each
@given(data=st.data())
def test_what_is_right_is_the_most(name, data):
    metric = CUTS[name][0]
    _, references = data.draw(answers(name))
    predictions = [data.draw(st.sampled_from(golds)) for golds in references]
    for key, value in metric(predictions, references).items():
        # ROUGE-2 of one token and BLEU of no four tokens are 0 by definition.
        assert value == pytest.approx(100) or key in ("rouge2", "bleu"), key


@each_bleu
@given(data=st.data())
def test_what_is_right_is_the_most_for_a_corpus_of_four_tokens(name, data):
    metric = CUTS[name][0]
    _, references = data.draw(answers(name))
    references.append(["one two three four five"])
    predictions = [data.draw(st.sampled_from(golds)) for golds in references]
    assert metric(predictions, references) == {"bleu": pytest.approx(100)}


@each_other
@given(data=st.data())
def test_another_reference_never_harms(name, data):
    """But for BLEU, which takes the nearest length, and the best n-grams of all together."""
    metric = CUTS[name][0]
    predictions, references = data.draw(answers(name))
    _, more = data.draw(answers(name, size=1))
    before, after = (
        metric(predictions, golds)
        for golds in (references, [[*golds, *more[0]] for golds in references])
    )
    assert all(after[key] >= before[key] - 1e-9 for key in before)


@given(st.lists(st.tuples(MIXED, MIXED), min_size=1, max_size=4))
def test_exact_match_is_at_most_f1(rows):
    for metric in (squad, cmrc):
        found = metric(*zip(*rows, strict=True))
        assert found["exact_match"] <= found["f1"] + 1e-9


@given(answers("rouge, characters"))
def test_rouge_l_is_that_of_the_library(rows):
    """Which fills the whole table of the longest common subsequence."""

    class Characters:
        tokenize = staticmethod(lambda text: [c for c in text if not c.isspace()])

    scorer = RougeScorer(["rougeL"], tokenizer=Characters())
    scores = [
        scorer.score_multi(golds, p)["rougeL"].fmeasure for p, golds in zip(*rows, strict=True)
    ]
    assert rouge(*rows, tokenize="char")["rougeL"] == pytest.approx(100 * np.mean(scores))


def longest_run(a: str, b: str) -> int:
    runs = {a[i:j] for i in range(len(a)) for j in range(i + 1, len(a) + 1)}
    return max((len(run) for run in runs if run in b), default=0)


@given(st.text("北京上海", min_size=1), st.text("北京上海", min_size=1))
def test_cmrc_takes_the_longest_substring(a, b):
    wanted = 200 * longest_run(a, b) / (len(a) + len(b))
    assert cmrc([a], [b])["f1"] == pytest.approx(wanted)


# --- entities ---

KINDS = ("PER", "LOC")
TAG = st.sampled_from(["O", "O", *(f"{p}-{k}" for p in "BIS" for k in KINDS)])
ROWS = st.lists(st.integers(0, 7), min_size=1, max_size=5).flatmap(
    lambda sizes: st.tuples(*(st.lists(TAG, min_size=n, max_size=n) for n in sizes)).flatmap(
        lambda said: st.tuples(
            st.just(list(said)),
            st.tuples(*(st.lists(TAG, min_size=n, max_size=n) for n in sizes)).map(list),
        )
    )
)


def chunks(rows: list[list[str]]) -> set[tuple[int, int, int, str]]:
    """Row, first token, last token and type, a token at a time."""
    found = set()
    for number, row in enumerate(rows):
        open_at = None
        for i, tag in enumerate([*row, "O"]):
            goes_on = (
                open_at is not None and tag == f"I-{row[open_at][2:]}" and row[i - 1][0] != "S"
            )
            if open_at is not None and not goes_on:
                found.add((number, open_at, i - 1, row[open_at][2:]))
                open_at = None
            if tag != "O" and not goes_on:
                open_at = i
    return found


@given(ROWS)
def test_entities_are_those_read_a_token_at_a_time(rows):
    said, wanted = map(chunks, rows)
    assume(wanted)
    found = entities(*rows)
    for kind in ("", *KINDS):
        a, b = ({c for c in side if kind in ("", c[3])} for side in (said, wanted))
        end = f"/{kind}" if kind else ""
        assert (f"f1{end}" in found) == bool(a | b)
        if a | b:
            shares = (len(a & b) / max(len(a), 1), len(a & b) / max(len(b), 1))
            assert (found[f"precision{end}"], found[f"recall{end}"]) == pytest.approx(
                (100 * shares[0], 100 * shares[1])
            )
            assert found[f"f1{end}"] == pytest.approx(200 * len(a & b) / (len(a) + len(b)))


@given(ROWS, st.data())
def test_entities_do_not_depend_on_the_order_of_rows(rows, data):
    assume(chunks(rows[1]))
    order = data.draw(st.permutations(range(len(rows[0]))))
    again = entities(*([side[i] for i in order] for side in rows))
    assert again == entities(*rows)
    assert set(entities(rows[1], rows[1]).values()) == {100.0}


# --- numbers ---

NATS = st.lists(st.floats(0, 30), min_size=1, max_size=30)


@given(NATS, st.data())
def test_perplexity_does_not_depend_on_batches(nats, data):
    whole = perplexity(nats, [1] * len(nats))
    assert whole >= 1
    cuts = sorted(data.draw(st.lists(st.integers(0, len(nats)), max_size=5)))
    parts = [nats[a:b] for a, b in zip([0, *cuts], [*cuts, len(nats)], strict=True)]
    losses, counts = [np.mean(p) if p else 0.0 for p in parts], [len(p) for p in parts]
    assert perplexity(losses, counts) == pytest.approx(whole, rel=1e-9)
    assert perplexity([whole_mean := math.fsum(nats) / len(nats)], [3]) == pytest.approx(whole)
    assert whole == pytest.approx(math.exp(whole_mean))


@given(st.integers(1, 6), st.integers(1, 5), st.data())
def test_accuracies(rows, classes, data):
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
    shift = data.draw(st.integers(0, classes - 1))
    right = np.eye(classes)[labels]
    wanted = 100.0 if shift == 0 else 0.0
    moved = np.roll(right, shift, axis=1)
    assert accuracy(moved, labels) == accuracy(moved.argmax(1), labels) == wanted
    assert prompt_accuracy(-moved, labels) == wanted
    assert accuracy([*labels, 0], [*labels, -100]) == 100


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 6), st.integers(1, 4), st.data())
def test_spans_are_those_of_a_plain_loop(windows, tokens, n_best, longest, data):
    # Few numbers, so that many are equal: then the first one wins.
    numbers = st.lists(st.integers(-2, 2), min_size=windows * tokens, max_size=windows * tokens)
    start, end = (np.float32(data.draw(numbers)).reshape(windows, tokens) for _ in range(2))
    mask = np.array(data.draw(numbers)).reshape(windows, tokens) > -2
    wanted = []
    for w in range(windows):
        ranked = [sorted(range(tokens), key=lambda t: -s[w, t])[:n_best] for s in (start, end)]
        wanted += [
            (float(start[w, i] + end[w, j]), w, i, j)
            for i in ranked[0]
            for j in ranked[1]
            if i <= j < i + longest and mask[w, i] and mask[w, j]
        ]
    wanted.sort(key=lambda span: -span[0])
    assert spans(start, end, mask, n_best=n_best, max_answer_length=longest) == wanted[:n_best]
