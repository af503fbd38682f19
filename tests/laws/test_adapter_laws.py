"""The laws of adapters: what each of them promises, in training and in generation."""

from __future__ import annotations

import numpy as np
import pytest
from mindspore import Tensor
from tests import adapters, models
from tests.adapters import METHODS
from tests.models import TINY
from tests.trees import arrays, assert_close

from mfunc import random, tree
from mfunc.adapt import adapter, lora, prefix, storage
from mfunc.gradient import value_and_grad
from mfunc.nn import llama
from mfunc.optim import sgd
from mfunc.train import init_state, train_step
from mfunc.transform import jit

ROWS = np.array([[1, 1, 1, 1, 1, 2, 2, 2, 3, 3], [1, 1, 2, 2, 2, 2, 2, 0, 0, 0]])


@pytest.mark.parametrize("name", METHODS)
def test_compiled_gradients_equal_eager_ones(name):
    """Three trees of the adapter and of the model through one compiled function, with dropout.

    Eager layers are never computed again, compiled ones are for some.
    """
    loss = value_and_grad(adapters.loss_of(name), has_aux=True)
    recompute = name in ("prefix", "low_rank")
    fast = jit(value_and_grad(adapters.loss_of(name, recompute), has_aux=True))
    for seed in (1, 2, 3):
        given = (adapters.made(name, seed), models.params(seed), models.batch_of(ROWS, seed))
        seen = fast(*given, random.key(seed))
        assert_close(seen, loss(*given, random.key(seed)), rtol=1e-5, atol=2e-6)
        assert tree.flatten(seen[1])[1] == tree.flatten(given[0])[1], "only what is trained"
        assert all(leaf.any() for leaf in tree.leaves(arrays(seen[1])))
    assert fast.compiles() == 1


@pytest.mark.parametrize("name", ["adapter", "low_rank", "bitfit"])
def test_at_init_the_output_is_unchanged_to_the_bit(name):
    params, batch, method = models.params(), models.batch_of(ROWS), METHODS[name]
    fresh = method.module.init(random.key(3), params, method.config)
    assert any(leaf.asnumpy().any() for leaf in tree.leaves(fresh))
    seen = models.logits(adapters.laid(name, params, fresh), TINY, batch)
    assert seen.asnumpy().tobytes() == models.logits(params, TINY, batch).asnumpy().tobytes()


@pytest.mark.parametrize("name", METHODS)
def test_an_adapter_does_something_and_leaves_the_model_alone(name):
    params, batch = models.params(), models.batch_of(ROWS)
    before = [leaf.asnumpy().tobytes() for leaf in tree.leaves(params)]
    seen = models.logits(adapters.laid(name, params, adapters.made(name)), TINY, batch)
    assert np.abs(seen.asnumpy() - models.logits(params, TINY, batch).asnumpy()).max() > 1e-2
    assert [leaf.asnumpy().tobytes() for leaf in tree.leaves(params)] == before
    assert tree.paths(params) == tree.paths(llama.specs(TINY))


def test_a_step_trains_the_adapter():
    """A whole step, its state given away: the trees in it are not too deep for a graph."""
    loss, optimizer = adapters.loss_of("low_rank"), sgd(0.5)

    def without_key(its, batch, params):
        return loss(its, params, batch, None)

    step = train_step(without_key, optimizer, donate=True)
    params, batch = models.params(), models.batch_of(ROWS)
    fresh = adapter.init(random.key(0), params, METHODS["low_rank"].config)
    state, losses = init_state(fresh, optimizer), []
    for _ in range(20):
        state, metrics = step(state, batch, params)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("name", METHODS)
def test_what_is_saved_is_loaded(name, tmp_path):
    file, method, its = tmp_path / "adapter.safetensors", METHODS[name], adapters.made(name)
    storage.save(file, its, method.config)
    wanted = method.module.specs(llama.specs(TINY), method.config)
    assert_close(storage.load(file, wanted, method.config), its)


LORA = lora.Config(rank=2, alpha=4, targets=("layers/*/k", "layers/*/v"))


def everything(params: tree.Tree) -> tree.Tree:
    """LoRA on keys and values, behind a prefix, with bottlenecks."""
    weights = lora.apply(params, lora.init(random.key(5), params, LORA), LORA)
    prefixed = adapters.laid("prefix", weights, adapters.made("prefix"))
    return adapters.laid("adapter", prefixed, adapters.made("adapter"))


def test_adapters_lie_beside_each_other_and_a_segment_is_what_it_is_alone():
    laid, batch = everything(models.params()), models.batch_of(ROWS)
    together = models.fast_logits(laid, TINY, batch).asnumpy()
    for row, ids in enumerate(ROWS):
        for segment in range(1, ids.max() + 1):
            own = ids == segment
            alone = np.full((2, ROWS.shape[1]), 9, np.int32)
            alone[0, : own.sum()] = batch["input_ids"].asnumpy()[row, own]
            # Plain rows: no segments, and positions that run along.
            seen = llama.apply(laid, TINY, Tensor(alone)).asnumpy()[0, : own.sum()]
            np.testing.assert_allclose(seen, together[row, own], rtol=0, atol=1e-5)


def test_decoding_equals_the_whole_rows():
    """Prompts of several lengths, padded, then a token a call."""
    laid = everything(models.params())
    rows = models.batch_of(np.ones((3, 9), int), seed=4)["input_ids"].asnumpy()
    lengths = np.array([5, 2, 4], np.int32)
    whole = llama.apply(laid, TINY, Tensor(rows)).asnumpy()
    fast = jit(llama.decode, static_argnums=1)
    padded = np.where(np.arange(5) < lengths[:, None], rows[:, :5], 39)
    cache = llama.init_cache(TINY, 3, 9)
    logits, cache = fast(laid, TINY, cache, Tensor(padded), Tensor(lengths))
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(
            logits.asnumpy()[row, :length], whole[row, :length], rtol=0, atol=1e-5
        )
    for step in range(4):
        new = Tensor(rows[np.arange(3), lengths + step][:, None])
        logits, cache = fast(laid, TINY, cache, new)
        wanted = whole[np.arange(3), lengths + step]
        np.testing.assert_allclose(logits.asnumpy()[:, 0], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["prefix", "adapter"])
def test_of_another_model_or_laid_twice_is_refused(name):
    its, two = adapters.made(name), models.params()
    five = two | {"layers": two["layers"] * 2 + two["layers"][:1]}
    said = r"the adapter has (2 parts at layers, the model has 5|32 numbers a virtual .* of 5 lay)"
    with pytest.raises(ValueError, match=said):
        adapters.laid(name, five, its)
    with pytest.raises(ValueError, match=r"adapt: the model has something else at layers/0/.*laid"):
        adapters.laid(name, adapters.laid(name, two, its), its)


@pytest.mark.parametrize("module", [prefix, adapter])
def test_a_tree_that_is_no_model_is_refused(module):
    config = METHODS[module.__name__.rpartition(".")[2]].config
    for params in ({"q": Tensor([[1.0]])}, {"layers": ()}, {"layers": ({"q": 1},)}, [1]):
        with pytest.raises(ValueError, match=r"the model has no layers with a weight '[ko]'"):
            module.specs(params, config)
