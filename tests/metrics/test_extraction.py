from __future__ import annotations

import numpy as np
import pytest

from mfunc.metrics import Span, spans, squad

NAN = float("nan")


def test_the_answer_is_found_in_its_text():
    """The whole way of the qa task: scores, span, text, score."""
    text = "The lighthouse of Grey Bay was built in 1870."
    words = text.split()
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    offsets = [(end - len(word), end) for word, end in zip(words, ends, strict=True)]
    start, end = np.zeros((1, len(words))), np.zeros((1, len(words)))
    start[0, 3], end[0, 4] = 4.0, 5.0
    best = spans(start, end)[0]
    assert best == Span(9.0, 0, 3, 4)
    answer = text[offsets[best.start][0] : offsets[best.end][1]]
    assert squad([answer], ["Grey Bay"]) == {"exact_match": 100.0, "f1": 100.0}


def test_reversed_too_long_and_masked_spans_are_no_answers():
    start, end = [[0.0, 0.0, 9.0, 0.0]], [[0.0, 9.0, 0.0, 5.0]]
    assert spans(start, end)[0] == Span(14.0, 0, 2, 3)
    assert spans(start, end, max_answer_length=1)[:2] == [Span(9.0, 0, 2, 2), Span(9.0, 0, 1, 1)]
    assert spans(start, end, [[True, True, False, True]])[0] == Span(9.0, 0, 0, 1)
    assert spans(start, end, [[True, True, True, False]])[0] == Span(9.0, 0, 2, 2)
    assert spans(start, end, np.zeros((1, 4), bool)) == []


def test_only_the_best_starts_and_ends_are_joined():
    start, end = [[1.0, 2.0, 9.0]], [[9.0, 2.0, 1.0]]
    assert spans(start, end, n_best=1) == []
    assert spans(start, end, n_best=2) == [Span(4.0, 0, 1, 1)]
    assert spans(start, end, n_best=3)[:2] == [Span(10.0, 0, 2, 2), Span(10.0, 0, 0, 0)]
    rng = np.random.default_rng(0)
    assert len(spans(rng.normal(size=(1, 90)), rng.normal(size=(1, 90)))) == 20


def test_the_best_window_wins():
    start, end = np.zeros((3, 4)), np.zeros((3, 4))
    start[1, 2] = end[1, 3] = 7.0
    assert spans(start, end)[0] == Span(14.0, 1, 2, 3)


def test_hostile_input():
    one = [[0.0, 1.0]]
    with pytest.raises(ValueError, match=r"spans: start_logits of window 1 is NaN at token 0"):
        spans([[0.0], [NAN]], [[0.0], [1.0]])
    with pytest.raises(ValueError, match=r"spans: end_logits of window 0 is NaN at token 1"):
        spans(one, [[0.0, NAN]])
    with pytest.raises(ValueError, match=r"all three alike; got \(1, 2\), \(1, 1\) and \(1, 2\)"):
        spans(one, [[0.0]])
    with pytest.raises(
        ValueError, match=r"must be \[windows, tokens\], all three alike; got \(2,\)"
    ):
        spans(one[0], one[0])
    with pytest.raises(ValueError, match=r"all three alike"):
        spans(one, one, [[True]])
    with pytest.raises(TypeError, match=r"spans: mask must be bool, got int64"):
        spans(one, one, [[0, 1]])
    with pytest.raises(ValueError, match=r"spans: no tokens \(shape \(1, 0\)\); nothing can be"):
        spans(np.zeros((1, 0)), np.zeros((1, 0)))
    with pytest.raises(ValueError, match=r"spans: n_best must be an integer >= 1, got 0"):
        spans(one, one, n_best=0)
    with pytest.raises(ValueError, match=r"spans: max_answer_length must be an integer >= 1"):
        spans(one, one, max_answer_length=0)


def test_of_many_equal_logits_the_first_win():
    flat = np.zeros((1, 400))
    flat[0, ::2] = 1.0
    found = spans(flat, flat, n_best=3, max_answer_length=1)
    assert found == [Span(2.0, 0, t, t) for t in (0, 2, 4)]
