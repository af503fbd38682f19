from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mfunc import loss
from mfunc.gradient import value_and_grad
from mfunc.transform import jit

B, S, V = 3, 7, 11
RNG = np.random.default_rng(5)
LABELS = np.where(RNG.random((B, S)) < 0.3, -100, RNG.integers(0, V, (B, S))).astype(np.int32)
SEGMENTS = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 1, 2, 3, 3, 3, 0], [1, 1, 1, 2, 2, 0, 0]], np.int32)


def logits(scale: float = 3.0, seed: int = 0) -> np.ndarray:
    numbers = np.random.default_rng(seed).standard_normal((B, S, V))
    return (scale * numbers).astype(np.float32)


def reference(scores, labels, segments=None):
    """Losses and who is trained, in float64, a token at a time; and the gradient of the mean."""
    scores = scores.astype(np.float64)
    losses, trained = np.zeros(labels.shape), np.zeros(labels.shape)
    gradient = np.zeros(scores.shape)
    for row, column in np.ndindex(labels.shape[0], labels.shape[1] - 1):
        target = labels[row, column + 1]
        ends = segments is not None and segments[row, column] != segments[row, column + 1]
        if target == -100 or ends:
            continue
        below = scores[row, column] - scores[row, column].max()
        total = np.log(np.exp(below).sum())
        losses[row, column], trained[row, column] = total - below[target], 1
        gradient[row, column] = np.exp(below - total)
        gradient[row, column, target] -= 1
    count = max(trained.sum(), 1)
    return losses, trained, losses.sum() / count, gradient / count


def mean_loss(scores, labels, segments=None):
    return loss.next_token_loss(scores, labels, segments)


@pytest.fixture(scope="module")
def compiled():
    return jit(value_and_grad(mean_loss, has_aux=True))


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["one", "packed"])
@pytest.mark.parametrize("scale", [0.0, 3.0, 1000.0])
def test_agrees_with_float64(compiled, scale, segments):
    scores, labels = logits(scale), Tensor(LABELS)
    given = None if segments is None else Tensor(segments)
    losses, trained, mean, gradient = reference(scores, LABELS, segments)
    seen = loss.token_losses(Tensor(scores), labels, given)
    np.testing.assert_allclose(seen[0].asnumpy(), losses, rtol=2e-6, atol=1e-6)
    np.testing.assert_array_equal(seen[1].asnumpy(), trained)
    for fn in (compiled, value_and_grad(mean_loss, has_aux=True)):
        (value, count), by_logits = fn(Tensor(scores), labels, given)
        assert (value.shape, value.dtype, float(count)) == ((), ms.float32, trained.sum())
        np.testing.assert_allclose(float(value), mean, rtol=2e-6)
        np.testing.assert_allclose(by_logits.asnumpy(), gradient, rtol=1e-4, atol=2e-8)


def test_labels_are_shifted_once():
    """Scores at t are for label t + 1: certain of it, they cost nothing; of label t, much."""
    labels = np.arange(S)[None].astype(np.int32)
    following = 50.0 * np.eye(V, dtype=np.float32)[np.roll(labels, -1, 1)]
    same = 50.0 * np.eye(V, dtype=np.float32)[labels]
    assert float(mean_loss(Tensor(following), Tensor(labels))[0]) < 1e-6
    assert abs(float(mean_loss(Tensor(same), Tensor(labels))[0]) - 50.0) < 1e-4


def test_targets_by_hand():
    labels = Tensor([[4, 5, 6, 7, 8, -100]], ms.int32)
    segments = Tensor([[1, 1, 2, 2, 2, 0]], ms.int32)
    assert loss.next_targets(labels).asnumpy().tolist() == [[5, 6, 7, 8, -100, -100]]
    ends = [[5, -100, 7, 8, -100, -100]]
    assert loss.next_targets(labels, segments).asnumpy().tolist() == ends
    padded = Tensor([[1, 1, 1, 0, 0, 0]], ms.int32)  # padding predicts nothing, if it is unlabelled
    labels = Tensor([[4, 5, 6, -100, -100, -100]], ms.int32)
    assert loss.next_targets(labels, padded).asnumpy().tolist() == [[5, 6, *[-100] * 4]]


@pytest.mark.parametrize("length", [1, S])
def test_nothing_trained_costs_nothing(compiled, length):
    labels = np.full((B, length), -100, np.int32)
    (value, count), by_logits = compiled(Tensor(logits()[:, :length]), Tensor(labels), None)
    assert (float(value), float(count)) == (0.0, 0.0)
    assert not by_logits.asnumpy().any()


def test_what_is_ignored_does_not_matter(compiled):
    """Neither the scores where nothing is trained nor any number there, however large."""
    scores, other = logits(), logits(seed=1) * 1e4
    trained = reference(scores, LABELS, SEGMENTS)[1] > 0
    mixed = np.where(trained[..., None], scores, other)
    (one, _), gradient = compiled(Tensor(scores), Tensor(LABELS), Tensor(SEGMENTS))
    (two, _), changed = compiled(Tensor(mixed), Tensor(LABELS), Tensor(SEGMENTS))
    assert float(one) == float(two)
    np.testing.assert_array_equal(gradient.asnumpy(), changed.asnumpy())
    assert not gradient.asnumpy()[~trained].any()


def test_batches_join_by_their_counts():
    scores, labels, segments = logits(), LABELS, SEGMENTS
    whole, count = mean_loss(Tensor(scores), Tensor(labels), Tensor(segments))
    rows = [
        mean_loss(*(Tensor(x[i : i + 1]) for x in (scores, labels, segments))) for i in range(B)
    ]
    assert float(count) == sum(float(n) for _, n in rows)
    joined = sum(float(mean) * float(n) for mean, n in rows) / float(count)
    np.testing.assert_allclose(float(whole), joined, rtol=1e-6)


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16])
def test_halves_are_summed_in_float32(dtype):
    scores = Tensor(logits()).astype(dtype)
    mean = reference(scores.astype(ms.float32).asnumpy(), LABELS)[2]
    value, count = mean_loss(scores, Tensor(LABELS))
    assert (value.dtype, count.dtype) == (ms.float32, ms.float32)
    np.testing.assert_allclose(float(value), mean, rtol=2e-6)


# --- R-Drop ---


def rdrop_reference(scores, labels, segments, alpha):
    """In float64, a token of a pair of rows at a time."""
    _, trained, mean, _ = reference(scores, labels, segments)
    apart = []
    for row, column in np.argwhere(trained[::2]):
        p, q = np.exp(scores[2 * row : 2 * row + 2, column].astype(np.float64))
        p, q = p / p.sum(), q / q.sum()
        apart.append((p * np.log(p / q)).sum() + (q * np.log(q / p)).sum())
    return mean + alpha / 4 * np.mean(apart)


def twice(x):
    return np.repeat(x, 2, axis=0)


def rdrop(scores, labels, segments):
    return loss.rdrop_loss(scores, labels, segments, alpha=3.0)


def test_rdrop_agrees_with_float64_and_its_gradient_with_differences():
    scores, labels, segments = (
        np.concatenate([logits(), logits(seed=1)]),
        twice(LABELS),
        twice(SEGMENTS),
    )
    given = Tensor(labels), Tensor(segments)
    (value, count), gradient = jit(value_and_grad(rdrop, has_aux=True))(Tensor(scores), *given)
    wanted = rdrop_reference(scores, labels, segments, 3.0)
    np.testing.assert_allclose(float(value), wanted, rtol=5e-6)
    assert float(rdrop(Tensor(scores), *given)[0]) == pytest.approx(float(value), rel=1e-6)
    trained = reference(scores, labels, segments)[1]
    assert float(count) == trained.sum()
    assert not gradient.asnumpy()[trained == 0].any()
    for place in [(*at, v) for at in np.argwhere(trained)[::3] for v in (0, 7)]:
        step = np.zeros(scores.shape)
        step[tuple(place)] = 1e-5
        up, down = (rdrop_reference(scores + x, labels, segments, 3.0) for x in (step, -step))
        assert gradient.asnumpy()[tuple(place)] == pytest.approx((up - down) / 2e-5, abs=2e-6)


def test_rdrop_of_equal_rows_is_the_plain_loss():
    scores, labels = Tensor(twice(logits(100.0))), Tensor(twice(LABELS))
    one, other = loss.rdrop_loss(scores, labels), mean_loss(scores, labels)
    assert [float(x) for x in one] == [float(x) for x in other]
    nothing = Tensor(np.full_like(twice(LABELS), -100))
    assert [float(x) for x in loss.rdrop_loss(scores, nothing)] == [0.0, 0.0]


def test_rdrop_refuses_what_cannot_be():
    scores, labels = Tensor(logits()), Tensor(LABELS)
    for fn in (loss.rdrop_loss, jit(loss.rdrop_loss)):
        with pytest.raises(ValueError, match=r"^rdrop_loss: 3 rows; rows 2 i and 2 i \+ 1 are one"):
            fn(scores, labels)
    with pytest.raises(ValueError, match=r"rdrop_loss: alpha=-1; it must be at least 0"):
        loss.rdrop_loss(scores, labels, alpha=-1)


# --- samples ---


def by_sample(scores, labels, segments=None):
    return loss.sample_mean_loss(scores, labels, segments)


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["one", "packed"])
def test_every_sample_has_the_same_weight(segments):
    """Against float64, a sample at a time; one whose labels are not trained is none."""
    scores, labels = logits(), LABELS.copy()
    labels[2, 3:5] = -100  # segment 2 of row 2
    given = np.ones_like(labels) if segments is None else segments
    losses, trained, _, _ = reference(scores, labels, segments)
    wanted = np.zeros((B, S + 1))
    for row, segment in np.ndindex(B, S + 1):
        own = (given[row] == segment) & (trained[row] > 0)
        wanted[row, segment] = losses[row, own].mean() if own.any() else 0
    seen, counts = loss.sample_losses(
        Tensor(scores), Tensor(labels), None if segments is None else Tensor(segments)
    )
    np.testing.assert_allclose(seen.asnumpy(), wanted, rtol=2e-6, atol=1e-6)
    assert counts.asnumpy().sum() == trained.sum()
    samples = (wanted > 0).sum()
    for fn in (by_sample, jit(by_sample)):
        value, count = fn(
            Tensor(scores), Tensor(labels), None if segments is None else Tensor(segments)
        )
        assert float(count) == samples
        np.testing.assert_allclose(float(value), wanted.sum() / samples, rtol=2e-6)


def test_no_sample_costs_nothing():
    value, count = by_sample(Tensor(logits()), Tensor(np.full((B, S), -100, np.int32)))
    assert (float(value), float(count)) == (0.0, 0.0)


def test_measures_are_the_loss_and_the_share_that_is_right():
    scores, labels, segments = Tensor(logits()), Tensor(LABELS), Tensor(SEGMENTS)
    told, count = loss.next_token_measures(scores, labels, segments)
    wanted, its_count = mean_loss(scores, labels, segments)
    targets = loss.next_targets(labels, segments).asnumpy()
    guessed = logits().argmax(-1)[targets >= 0] == targets[targets >= 0]
    assert float(told["loss"]) == pytest.approx(float(wanted), rel=1e-6)
    assert float(count) == float(its_count) == guessed.size
    assert float(told["accuracy"]) == pytest.approx(guessed.mean(), rel=1e-6)
    nothing = Tensor(np.full_like(LABELS, -100))
    told, count = loss.next_token_measures(scores, nothing)
    assert (float(told["loss"]), float(told["accuracy"]), float(count)) == (0, 0, 0)
