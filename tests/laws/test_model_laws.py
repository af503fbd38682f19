"""The laws of models: what they compute depends on what it should, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mindspore import Tensor
from tests import models
from tests.models import TINY
from tests.trees import arrays, assert_close

import mfunc.data as md
from mfunc import tree

LENGTH = 10


@st.composite
def layouts(draw) -> np.ndarray:
    """Segment ids of one row: documents of any length, one after the other, then padding."""
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    ids = np.repeat(np.arange(1, len(lengths) + 1), lengths)[:LENGTH]
    return np.pad(ids, (0, LENGTH - len(ids)))[None]


def logits(batch: dict, params: dict) -> np.ndarray:
    return models.fast_logits(params, TINY, batch).asnumpy()


@pytest.fixture(scope="module")
def params():
    return models.params(7)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_compiled_gradients_equal_eager_ones(seed):
    """Three parameter trees through one compiled function: loss, count, every gradient leaf."""
    params, batch = models.params(seed), models.batch_of(ROWS, seed)
    seen = models.gradients(params, TINY, batch)
    assert_close(seen, models.eager_gradients(params, TINY, batch), rtol=1e-5, atol=2e-6)
    assert all(leaf.any() for leaf in tree.leaves(arrays(seen[1])))
    before = models.gradients.compiles()
    models.gradients(models.params(seed + 10), TINY, batch)
    assert models.gradients.compiles() == before


ROWS = np.array([[1, 1, 1, 1, 1, 2, 2, 2, 3, 3], [1, 1, 2, 2, 2, 2, 2, 0, 0, 0]])


@given(layouts(), st.integers(0, LENGTH - 1), st.integers(0, 99))
def test_a_token_changes_no_logit_before_it(params, segment_ids, t, seed):
    """Exactly: not in the last bit. And it does change its own."""
    batch = models.batch_of(segment_ids, seed)
    ids = batch["input_ids"].asnumpy().copy()
    ids[0, t] = (ids[0, t] + 7) % TINY.vocab_size
    one, other = logits(batch, params), logits(batch | {"input_ids": Tensor(ids)}, params)
    np.testing.assert_array_equal(one[0, :t], other[0, :t])
    assert np.any(one[0, t] != other[0, t])


@given(layouts(), st.integers(0, 4), st.integers(0, 99))
def test_a_segment_does_not_see_its_neighbours(params, segment_ids, which, seed):
    """Exactly: any tokens in the other segments and in the padding give the same bits in this."""
    batch, own = models.batch_of(segment_ids, seed), segment_ids == which % segment_ids.max() + 1
    others = models.batch_of(segment_ids, seed + 100)["input_ids"].asnumpy()
    ids = np.where(own, batch["input_ids"].asnumpy(), others)
    one, other = logits(batch, params), logits(batch | {"input_ids": Tensor(ids)}, params)
    np.testing.assert_array_equal(one[own], other[own])


@given(layouts(), st.integers(0, 99))
def test_a_segment_is_what_it_is_alone(params, segment_ids, seed):
    """Moved to the start of a row of its own, with padding behind it."""
    batch = models.batch_of(segment_ids, seed)
    together = logits(batch, params)
    for segment in range(1, segment_ids.max() + 1):
        own = segment_ids == segment
        alone = np.zeros((1, LENGTH), np.int32)
        alone[0, : own.sum()] = batch["input_ids"].asnumpy()[own]
        single = models.batch_of((np.arange(LENGTH) < own.sum())[None].astype(int))
        seen = logits(single | {"input_ids": Tensor(alone)}, params)
        np.testing.assert_allclose(seen[0, : own.sum()], together[own], rtol=0, atol=1e-5)


def samples() -> dict[str, md.Ragged]:
    """Five samples of other lengths; some labels of each are not trained."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, TINY.vocab_size, n) for n in (5, 3, 7, 2, 6)]
    labels = [np.where(np.arange(len(row)) < 2, -100, row) for row in rows]
    labels[3][1] = rows[3][1]
    ragged = {"input_ids": rows, "labels": labels}
    return {name: md.Ragged.from_rows(column) for name, column in ragged.items()}


def batches() -> dict[str, dict[str, np.ndarray]]:
    """The same samples as rows of full length, of the shortest length that fits, and packed."""
    padded = {
        "padded to max": md.pad_to_divisor(16)(samples()),
        "padded to divisor": md.pad_to_divisor(4)(samples()),
    }
    return padded | {"packed": md.pack(12)(samples())}


COLUMNS = ("input_ids", "labels", "segment_ids", "position_ids")


@pytest.fixture(scope="module")
def losses(params):
    """Loss, count and gradients of each."""
    return {
        name: models.gradients(params, TINY, {key: Tensor(batch[key]) for key in COLUMNS})
        for name, batch in batches().items()
    }


def test_the_batches_are_of_three_shapes():
    assert [batch["input_ids"].shape for batch in batches().values()] == [(5, 16), (5, 8), (2, 12)]


@pytest.mark.parametrize("name", ["padded to divisor", "packed"])
def test_padding_and_packing_change_no_loss_and_no_gradient(losses, name):
    (wanted, count), by_params = losses["padded to max"]
    (seen, its_count), gradients = losses[name]
    assert float(count) == float(its_count) == 14.0
    np.testing.assert_allclose(float(seen), float(wanted), rtol=0, atol=1e-6)
    assert_close(gradients, by_params, atol=1e-6)
    assert all(leaf.any() for leaf in tree.leaves(arrays(gradients)))
