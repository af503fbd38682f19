from __future__ import annotations

import json
from pathlib import Path

import attrs
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from tests import models
from tests.models import TINY
from tests.trees import assert_close

from mfunc import random, spec, tree
from mfunc.gradient import value_and_grad
from mfunc.nn import llama
from mfunc.nn.names import llama as names
from mfunc.transform import jit

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def config(**changes) -> llama.Config:
    return attrs.evolve(TINY, **changes)


# --- the config and the parameters ---


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_key_value_heads": 3}, "num_attention_heads=4 is not a multiple of num_key_value_h"),
        ({"vocab_size": 0}, "'vocab_size' must be > 0: 0"),
        ({"hidden_size": -16}, "'hidden_size' must be > 0"),
        ({"num_hidden_layers": 0}, "'num_hidden_layers' must be > 0"),
        ({"num_attention_heads": 0}, "'num_attention_heads' must be > 0"),
        ({"num_key_value_heads": 0}, "'num_key_value_heads' must be > 0|ultiple|modulo"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, said):
    with pytest.raises((ValueError, ZeroDivisionError), match=said):
        config(**changes)


def test_defaults_follow_from_the_sizes():
    plain = llama.Config(
        vocab_size=8,
        hidden_size=12,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=3,
    )
    assert (plain.num_key_value_heads, plain.head_dim) == (3, 4)
    assert hash(plain) == hash(attrs.evolve(plain))


def test_specs_name_every_axis():
    for path, leaf in zip(*named(llama.specs(TINY)), strict=True):
        assert all(axis in llama.AXES for axis in leaf.axes), path


def named(node) -> tuple[list[str], list]:
    return tree.paths(node), tree.leaves(node)


def test_parameters_are_what_the_specs_say():
    params = models.params()
    spec.check(params, llama.specs(TINY))
    assert params["layers"][0]["k"].shape == (16, 2 * 4)
    assert len(params["layers"]) == 2
    assert spec.size(params) == 2 * 40 * 16 + 16 + 2 * (16 * 48 + 3 * 16 * 24 + 2 * 16)
    tied = llama.specs(config(tie_word_embeddings=True))
    assert set(llama.specs(TINY)) - set(tied) == {"head"}


def test_init_draws_each_layer_anew():
    params = models.params()
    first, second = params["layers"]
    assert abs(first["q"].asnumpy().std() - 0.3) < 0.05
    assert not np.any(first["q"].asnumpy() == second["q"].asnumpy())
    assert params["norm"].asnumpy().tolist() == [1.0] * 16
    more = llama.init(random.key(0), config(num_hidden_layers=8))["layers"][1]
    assert_close(more["q"], second["q"])
    assert_close(more["down"], second["down"] * 0.5, rtol=1e-6)  # what joins the stream: by depth


# --- against transformers ---


def converted(arrays, prefix: str, config: llama.Config) -> tree.Tree:
    """Arrays of a golden file, by Hugging Face names, as a tree of ours."""
    leaves = []
    for path in tree.paths(llama.specs(config)):
        name, turned = names.names(config)[path]
        leaves.append(arrays[f"{prefix}/{name}"].T if turned else arrays[f"{prefix}/{name}"])
    return tree.refill(llama.specs(config), [Tensor(np.ascontiguousarray(x)) for x in leaves])


def golden_batch(arrays, name: str) -> dict[str, Tensor]:
    ids = arrays[f"{name}/input_ids"]
    default = {
        "segment_ids": np.ones_like(ids),
        "position_ids": np.tile(np.arange(ids.shape[1], dtype=np.int32), (len(ids), 1)),
    }
    columns = ("input_ids", "labels", "segment_ids", "position_ids")
    found = {key: arrays.get(f"{name}/{key}", default.get(key)) for key in columns}
    return {key: Tensor(column) for key, column in found.items()}


@pytest.mark.parametrize("name", ["plain", "packed"])
@pytest.mark.parametrize("file", ["llama_tiny_untied", "llama_tiny_tied"])
def test_logits_loss_and_gradients_agree_with_transformers(file, name):
    """Grouped heads, ignored labels, packed rows; the goldens were computed in float64.

    The loss is allowed 2e-6 of 4.4: MindSpore's float32 exponential is 1.4e-6 too small on average.
    """
    with np.load(GOLDEN / f"{file}.npz") as golden:
        arrays = dict(golden)
    settings = names.from_hf(json.loads(str(arrays["config"])))
    params, batch = converted(arrays, "weights", settings), golden_batch(arrays, name)
    (loss, _), gradients = models.gradients(params, settings, batch)
    np.testing.assert_allclose(float(loss), arrays[f"{name}/loss"], rtol=0, atol=2e-6)
    assert_close(gradients, converted(arrays, f"{name}/grad", settings), atol=5e-6)
    seen = models.fast_logits(params, settings, batch).asnumpy()
    real = batch["segment_ids"].asnumpy() > 0
    np.testing.assert_allclose(seen[real], arrays[f"{name}/logits"][real], rtol=0, atol=5e-6)


def test_scaled_rotary_positions_agree_with_transformers():
    """Positions far apart, with Llama 3.1's scaling: wrong position ids would show."""
    with (
        np.load(GOLDEN / "llama_tiny_untied.npz") as weights,
        np.load(GOLDEN / "llama_rope.npz") as golden,
    ):
        settings = names.from_hf(json.loads(str(golden["config"])))
        batch = {key: Tensor(golden[key]) for key in ("input_ids", "position_ids")}
        params, wanted = converted(weights, "weights", settings), golden["logits"]
    batch["segment_ids"] = Tensor(np.ones(batch["input_ids"].shape, np.int32))
    seen = models.fast_logits(params, settings, batch)
    np.testing.assert_allclose(seen.asnumpy(), wanted, rtol=0, atol=5e-6)


# --- forms of one model ---

ROWS = np.array([[1, 1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1, 1, 1]])


def test_one_segment_and_running_positions_are_the_defaults():
    batch = models.batch_of(np.ones((2, 8), int))
    seen = jit(llama.apply, static_argnums=1)(models.params(), TINY, batch["input_ids"])
    assert_close(seen, models.fast_logits(models.params(), TINY, batch), atol=1e-6)


def repeated(weight: Tensor, times: int) -> Tensor:
    """Each key head as often as it has query heads."""
    columns = weight.asnumpy().reshape(weight.shape[0], -1, TINY.head_dim)
    return Tensor(np.repeat(columns, times, axis=1).reshape(weight.shape[0], -1))


@pytest.mark.parametrize("kinds", [1, 2])
def test_grouped_heads_are_a_model_with_repeated_heads(kinds):
    grouped = config(num_key_value_heads=kinds)
    params, batch = models.params(3, grouped), models.batch_of(ROWS)
    layers = tuple(
        layer | {key: repeated(layer[key], 4 // kinds) for key in "kv"}
        for layer in params["layers"]
    )
    full = models.logits(params | {"layers": layers}, config(num_key_value_heads=4), batch)
    assert_close(models.logits(params, grouped, batch), full, atol=1e-5)


def test_a_tied_head_is_the_embedding():
    params, batch = models.params(), models.batch_of(ROWS)
    tied = {key: value for key, value in params.items() if key != "head"}
    untied = params | {"head": Tensor(params["embed"].asnumpy().T.copy())}
    seen = models.logits(tied, config(tie_word_embeddings=True), batch)
    assert_close(seen, models.logits(untied, TINY, batch), atol=1e-5)


def test_heads_may_be_wider_than_their_share():
    wide = config(head_dim=6)
    params = llama.init(random.key(1), wide)
    assert params["layers"][0]["q"].shape == (16, 24)
    assert models.logits(params, wide, models.batch_of(ROWS)).shape == (2, 8, 40)


def test_constrain_is_asked_for_every_activation():
    asked = []

    def note(x, axes):
        asked.append((x.shape, axes))
        return x * 1.0

    batch = models.batch_of(ROWS)
    seen = llama.apply(models.params(), TINY, batch["input_ids"], constrain=note)
    assert asked == [((16, 16), ("tokens", "embed"))] * 3
    assert_close(seen, llama.apply(models.params(), TINY, batch["input_ids"]))


# --- decoding ---

fast_decode = jit(llama.decode, static_argnums=1)
PROMPTS = models.batch_of(np.ones((3, 9), int), seed=4)["input_ids"].asnumpy()
LENGTHS = np.array([5, 2, 4], np.int32)


def test_decoding_equals_the_whole_rows():
    """Prompts at once, then a token a call; a cache longer than the rows."""
    params = models.params()
    whole = llama.apply(params, TINY, Tensor(PROMPTS)).asnumpy()
    cache = llama.init_cache(TINY, 3, 12)
    logits, cache = fast_decode(params, TINY, cache, Tensor(PROMPTS[:, :5]))
    np.testing.assert_allclose(logits.asnumpy(), whole[:, :5], rtol=0, atol=1e-5)
    before = fast_decode.compiles()
    for t in range(5, 9):
        logits, cache = fast_decode(params, TINY, cache, Tensor(PROMPTS[:, t : t + 1]))
        np.testing.assert_allclose(logits.asnumpy()[:, 0], whole[:, t], rtol=0, atol=1e-5)
    assert fast_decode.compiles() == before + 1
    assert cache["length"].asnumpy().tolist() == [9, 9, 9]


def test_decoding_prompts_of_several_lengths():
    """Padded prompts: each row goes on where it ends, over what its padding left in the cache."""
    params = models.params()
    padded = np.where(np.arange(5) < LENGTHS[:, None], PROMPTS[:, :5], 39)
    cache = llama.init_cache(TINY, 3, 9)
    logits, cache = fast_decode(params, TINY, cache, Tensor(padded), Tensor(LENGTHS))
    assert cache["length"].asnumpy().tolist() == LENGTHS.tolist()
    whole = llama.apply(params, TINY, Tensor(PROMPTS)).asnumpy()
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(
            logits.asnumpy()[row, :length], whole[row, :length], rtol=0, atol=1e-5
        )
    for step in range(4):
        new = PROMPTS[np.arange(3), LENGTHS + step][:, None]
        logits, cache = fast_decode(params, TINY, cache, Tensor(new))
        wanted = whole[np.arange(3), LENGTHS + step]
        np.testing.assert_allclose(logits.asnumpy()[:, 0], wanted, rtol=0, atol=1e-5)


def test_decoding_leaves_the_old_cache_as_it_was():
    params, cache = models.params(), llama.init_cache(TINY, 3, 9)
    _, after = fast_decode(params, TINY, cache, Tensor(PROMPTS[:, :5]))
    assert not any(x.asnumpy().any() for x in tree.leaves(cache))
    assert all(x.asnumpy().any() for x in tree.leaves(after))


def test_what_was_in_the_cache_behind_the_rows_does_not_matter():
    """A cache that is used again, with another row's keys behind the new one's end."""
    params = models.params()
    used = llama.init_cache(TINY, 3, 9)
    _, used = fast_decode(params, TINY, used, Tensor(PROMPTS[::-1, :5].copy()))
    reset = used | {"length": ms.ops.zeros_like(used["length"])}
    fresh = llama.init_cache(TINY, 3, 9)
    for t in range(2):
        new = Tensor(PROMPTS[:, t : t + 1])
        (one, reset), (other, fresh) = (fast_decode(params, TINY, c, new) for c in (reset, fresh))
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), rtol=0, atol=1e-5)


# --- the gradient, compiled ---


def test_the_gradient_outside_the_graph_is_the_same():
    """value_and_grad(jit(f)) and jit(value_and_grad(f)), with a static config."""
    batch, params = models.batch_of(ROWS), models.params(1)
    other = value_and_grad(jit(models.loss, static_argnums=1), has_aux=True)
    assert_close(other(params, TINY, batch), models.gradients(params, TINY, batch), atol=1e-6)
