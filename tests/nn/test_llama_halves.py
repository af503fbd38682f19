"""Parameters of half precision, and logits as two factors, through a whole model."""

from __future__ import annotations

import attrs
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from tests import models
from tests.models import TINY

from mfunc import cross_entropy, random, tree
from mfunc.adapt import lora
from mfunc.gradient import value_and_grad
from mfunc.loss import next_token_loss
from mfunc.nn import llama
from mfunc.transform import jit

SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1, 2, 2], [1, 2, 3, 3, 3, 0, 0, 0]])
TIED = attrs.evolve(TINY, tie_word_embeddings=True)


def cast(node, dtype):
    return tree.map(lambda leaf: Tensor(leaf.asnumpy()).astype(dtype), node)


def wide(node):
    return tree.map(lambda leaf: leaf.astype(ms.float32), node)


def largest_apart(seen, wanted):
    """By leaf, beside the largest number of the leaf."""
    pairs = zip(tree.leaves(wide(seen)), tree.leaves(wide(wanted)), strict=True)
    return max(
        np.abs(a.asnumpy() - b.asnumpy()).max() / np.abs(b.asnumpy()).max() for a, b in pairs
    )


def test_float16_trains_in_float16():
    """Against float32 of the same numbers; every gradient is of its parameter's dtype."""
    batch = models.batch_of(SEGMENTS)
    half = cast(models.params(), ms.float16)
    (value, _), seen = models.gradients(half, TINY, batch)
    (wanted, _), its = models.gradients(wide(half), TINY, batch)
    assert {leaf.dtype for leaf in tree.leaves(seen)} == {ms.float16}
    assert models.fast_logits(half, TINY, batch).dtype == ms.float16
    assert float(value) != float(wanted)
    assert float(value) == pytest.approx(float(wanted), rel=1e-3)
    assert largest_apart(seen, its) < 0.02


def test_bfloat16_on_cpu_is_computed_in_float32():
    """Exactly: there the device has no products of bfloat16."""
    batch = models.batch_of(SEGMENTS)
    half = cast(models.params(), ms.bfloat16)
    (value, _), seen = models.gradients(half, TINY, batch)
    (wanted, _), its = models.gradients(wide(half), TINY, batch)
    assert {leaf.dtype for leaf in tree.leaves(seen)} == {ms.bfloat16}
    assert float(value) == float(wanted)
    rounded = cast(its, ms.bfloat16)
    assert largest_apart(seen, rounded) == 0


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16])
def test_an_adapter_in_float32_beside_halves(dtype):
    """As usual: the adapter and its gradients stay float32, the model is what it is."""
    params = cast(models.params(), dtype)
    settings = lora.Config(rank=2, alpha=4, targets=("layers/*/q", "layers/*/down"))
    adapter = lora.init(random.key(1), params, settings)
    batch = models.batch_of(SEGMENTS)

    def loss(adapter, params, batch):
        return models.loss(lora.apply(params, adapter, settings), TINY, batch)[0]

    value, gradient = jit(value_and_grad(loss))(adapter, params, batch)
    wanted, its = jit(value_and_grad(loss))(adapter, wide(params), batch)
    assert {leaf.dtype for leaf in tree.leaves(gradient)} == {ms.float32}
    assert float(value) == pytest.approx(float(wanted), rel=2e-3)
    moved = [leaf for leaf in tree.leaves(its) if leaf.asnumpy().any()]
    assert len(moved) == 4  # of each pair, the second matrix; the first comes behind zeros
    assert max(
        np.abs(a.asnumpy() - b.asnumpy()).max() / max(np.abs(b.asnumpy()).max(), 1e-6)
        for a, b in zip(tree.leaves(gradient), tree.leaves(its), strict=True)
    ) < 0.02  # fmt: skip


@pytest.mark.parametrize("cached", [ms.float16, ms.float32])
def test_decoding_in_float16(cached):
    params = cast(models.params(), ms.float16)
    ids = models.batch_of(np.ones((2, 6), int), seed=4)["input_ids"]
    whole = llama.apply(params, TINY, ids).asnumpy()
    decode = jit(llama.decode, static_argnums=1)
    cache = llama.init_cache(TINY, 2, 8, cached)
    first, cache = decode(params, TINY, cache, ids[:, :4])
    second, cache = decode(params, TINY, cache, ids[:, 4:])
    assert cache["k"][0].dtype == cached
    seen = np.concatenate([first.asnumpy(), second.asnumpy()], 1)
    assert np.abs(seen - whole).max() < 0.01 * np.abs(whole).max()


# --- logits as two factors ---


def factored_loss(params, config, batch, frozen_head=False):
    factors = llama.factored(
        params, config, batch["input_ids"], segment_ids=batch["segment_ids"],
        position_ids=batch["position_ids"], frozen_head=frozen_head,
    )  # fmt: skip
    return next_token_loss(factors, batch["labels"], batch["segment_ids"])


@pytest.mark.parametrize("config", [TINY, TIED], ids=["untied", "tied"])
@pytest.mark.parametrize("piece", [2**23, 100], ids=["whole", "pieces"])
def test_factors_give_the_same_loss_and_gradients(monkeypatch, config, piece):
    """Three trees of parameters through one compiled function, in one piece and in ten."""
    monkeypatch.setattr(cross_entropy, "PIECE", piece)
    batch, compiled = models.batch_of(SEGMENTS), jit(
        value_and_grad(factored_loss, has_aux=True), static_argnums=1
    )  # fmt: skip
    for seed in range(3):
        params = models.params(seed, config)
        (value, count), seen = compiled(params, config, batch)
        (wanted, its_count), its = models.gradients(params, config, batch)
        assert float(value) == pytest.approx(float(wanted), rel=1e-6)
        assert float(count) == float(its_count)
        assert largest_apart(seen, its) < 2e-6
    assert compiled.compiles() == 1


def test_a_frozen_head_gets_no_gradient(monkeypatch):
    """Of a tied table, what is left is the gradient of looking tokens up."""
    monkeypatch.setattr(cross_entropy, "PIECE", 100)
    batch, params = models.batch_of(SEGMENTS), models.params(0, TIED)
    seen = jit(value_and_grad(factored_loss, has_aux=True), static_argnums=(1, 3))
    _, gradient = seen(params, TIED, batch, True)
    (_, _), whole = models.gradients(params, TIED, batch)
    absent = np.setdiff1d(np.arange(TIED.vocab_size), batch["input_ids"].asnumpy())
    assert not gradient["embed"].asnumpy()[absent].any()
    assert whole["embed"].asnumpy()[absent].any()
    assert largest_apart(gradient["layers"], whole["layers"]) < 2e-6
