from __future__ import annotations

import json
import math

import mindspore as ms
import numpy as np
import pytest
from tests.tiny_llama import GOLDEN, tiny_llama

from mfunc import checkpoint, random, spec, tree
from mfunc.adapt import lora
from mfunc.gradient import value_and_grad
from mfunc.loss import next_token_loss
from mfunc.nn import llama
from mfunc.nn.layers import linear
from mfunc.nn.names import llama as names
from mfunc.optim import sgd
from mfunc.train import init_state, train_step
from mfunc.transform import jit

CONFIG, PARAMS, BASE = tiny_llama()
with np.load(GOLDEN / "lora.npz") as file:
    PEFT = {key: file[key] for key in file.files}
SETTINGS = json.loads(str(PEFT["config"]))
LORA = lora.Config(
    rank=SETTINGS["r"], alpha=SETTINGS["lora_alpha"], targets=("layers/*/q", "layers/*/v")
)
IDS, LABELS = BASE["plain/input_ids"], BASE["plain/labels"]


def peft_name(path):
    """layers/0/q/a -> PEFT's name in an adapter file."""
    _, layer, weight, side = path.split("/")
    theirs = f"layers.{layer}.self_attn.{weight}_proj.lora_{side.upper()}.weight"
    return f"base_model.model.model.{theirs}"


def from_peft(kind):
    """The adapter, or its gradient, in our tree: PEFT's A and B are [out, in]."""
    wanted = lora.specs(PARAMS, LORA)
    leaves = [np.ascontiguousarray(PEFT[f"{kind}/{peft_name(p)}"].T) for p in tree.paths(wanted)]
    return tree.refill(wanted, [ms.Tensor(leaf) for leaf in leaves])


def loss(adapter, params, batch):
    logits = llama.apply(lora.apply(params, adapter, LORA), CONFIG, batch["input_ids"])
    return next_token_loss(logits, batch["labels"])


def logits_of(params):
    return llama.apply(params, CONFIG, ms.Tensor(IDS)).asnumpy()


def bits(node):
    return [leaf.asnumpy().tobytes() for leaf in tree.leaves(node)]


# --- against PEFT ---


def test_logits_beside_the_weights_are_those_of_peft():
    seen = logits_of(lora.apply(PARAMS, from_peft("adapter"), LORA))
    np.testing.assert_allclose(seen, PEFT["logits"], rtol=0, atol=5e-6)
    assert np.abs(seen - BASE["plain/logits"]).max() > 1e-3, "the adapter does something"


def test_merged_weights_are_those_of_peft_and_all_others_are_left_alone():
    merged = checkpoint.to_names(
        lora.merge(PARAMS, from_peft("adapter"), LORA), names.names(CONFIG)
    )
    changed = {key.removeprefix("merged/") for key in PEFT if key.startswith("merged/")}
    assert len(changed) == 4
    for name, weight in merged.items():
        if name in changed:
            np.testing.assert_allclose(weight, PEFT[f"merged/{name}"], rtol=0, atol=1e-6)
        else:
            np.testing.assert_array_equal(weight, BASE[f"weights/{name}"])


def test_merged_computes_what_beside_computes():
    adapter = from_peft("adapter")
    merged, beside = lora.merge(PARAMS, adapter, LORA), lora.apply(PARAMS, adapter, LORA)
    np.testing.assert_allclose(logits_of(merged), logits_of(beside), rtol=0, atol=5e-6)


def test_loss_and_gradients_are_those_of_peft_and_frozen_leaves_have_none():
    batch = {"input_ids": IDS, "labels": LABELS}
    fast = jit(value_and_grad(loss, has_aux=True))
    (value, count), grads = fast(from_peft("adapter"), PARAMS, batch)
    assert float(value) == pytest.approx(float(PEFT["loss"]), abs=1e-6)
    assert float(count) == (LABELS[:, 1:] != -100).sum()
    wanted = from_peft("grad")
    assert tree.flatten(grads)[1] == tree.flatten(wanted)[1]
    assert len(tree.leaves(grads)) == 8
    for path, seen, leaf in zip(
        tree.paths(wanted), tree.leaves(grads), tree.leaves(wanted), strict=True
    ):
        np.testing.assert_allclose(seen.asnumpy(), leaf.asnumpy(), rtol=0, atol=5e-6, err_msg=path)


# --- laws ---


def test_at_init_the_output_is_unchanged_to_the_bit():
    adapter = lora.init(random.key(3), PARAMS, LORA)
    laid = lora.apply(PARAMS, adapter, LORA)
    assert logits_of(laid).tobytes() == logits_of(PARAMS).tobytes()
    assert all(leaf.asnumpy().any() for leaf in tree.leaves(adapter)[::2]), "A is not zero"
    assert bits(lora.merge(PARAMS, adapter, LORA)) == bits(PARAMS)


def test_unmerge_undoes_merge_up_to_rounding():
    adapter = from_peft("adapter")
    merged = lora.merge(PARAMS, adapter, LORA)
    assert bits(merged) != bits(PARAMS)
    back = lora.unmerge(merged, adapter, LORA)
    for seen, wanted in zip(tree.leaves(back), tree.leaves(PARAMS), strict=True):
        np.testing.assert_allclose(seen.asnumpy(), wanted.asnumpy(), rtol=0, atol=1e-7)


def test_a_step_trains_the_adapter_and_nothing_else():
    """Two leaves for a model: what is frozen has no gradient, no state, and keeps its bits."""
    params = {"q": ms.Tensor([[2.0], [1.0]]), "k": ms.Tensor([[3.0]])}
    config = lora.Config(rank=1, alpha=2, targets=("q",))
    adapter = {"q": {"a": ms.Tensor([[1.0], [0.0]]), "b": ms.Tensor([[0.5]])}, "k": None}

    def product(adapter, batch, frozen):
        return linear(batch["x"], lora.apply(frozen, adapter, config)["q"]).sum(), batch["x"].sum()

    before, state = bits(params), init_state(adapter, sgd(0.1))
    after, metrics = train_step(product, sgd(0.1))(state, {"x": np.float32([[1.0, 0.0]])}, params)
    assert float(metrics["loss"]) == pytest.approx(3.0)
    assert tree.paths(after["params"]) == ["q/a", "q/b"]
    np.testing.assert_allclose(after["params"]["q"]["a"].asnumpy(), [[0.9], [0.0]])
    np.testing.assert_allclose(after["params"]["q"]["b"].asnumpy(), [[0.3]])
    assert bits(params) == before


def test_each_target_draws_from_its_own_path():
    few = lora.init(random.key(0), PARAMS, LORA)
    wider = lora.Config(rank=4, alpha=8, targets=(*LORA.targets, "head"))
    more = lora.init(random.key(0), PARAMS, wider)
    np.testing.assert_array_equal(more["layers"][1]["v"]["a"], few["layers"][1]["v"]["a"])
    other = lora.init(random.key(1), PARAMS, LORA)
    assert bits(other["layers"][0]["q"]["a"]) != bits(few["layers"][0]["q"]["a"])
    layers = [few["layers"][i]["q"]["a"] for i in (0, 1)]
    assert bits(layers[0]) != bits(layers[1])


def test_a_starts_with_the_deviation_of_peft():
    """Kaiming uniform with a = sqrt(5) is uniform within 1 / sqrt(in): deviation 1 / sqrt(3 in)."""
    big = {"w": spec.Spec((300, 400), axes=("embed", "mlp"))}
    made = lora.init(random.key(0), big, lora.Config(rank=100, alpha=1, targets=("w",)))
    assert made["w"]["a"].asnumpy().std() == pytest.approx(1 / math.sqrt(900), rel=0.02)
    assert not made["w"]["b"].asnumpy().any()


def test_specs_are_the_same_from_specs_and_from_weights():
    from_specs, from_weights = (lora.specs(n, LORA) for n in (llama.specs(CONFIG), PARAMS))
    assert tree.paths(from_specs) == tree.paths(from_weights)
    assert tree.paths(from_specs)[:2] == ["layers/0/q/a", "layers/0/q/b"]
    pairs = list(zip(tree.leaves(from_specs), tree.leaves(from_weights), strict=True))
    assert all((a.shape, a.scale, a.init) == (b.shape, b.scale, b.init) for a, b in pairs)
    pair = from_specs["layers"][0]["q"]
    assert (pair["a"].axes, pair["b"].axes) == (("embed", None), (None, "heads"))
    assert spec.size(from_specs) == 2 * 4 * ((32 + 32) + (32 + 16))


def test_the_adapter_is_saved_alone(tmp_path):
    adapter, path = from_peft("adapter"), tmp_path / "adapter.safetensors"
    checkpoint.save(path, adapter, metadata={"rank": LORA.rank})
    assert sorted(checkpoint.read_arrays(path)) == sorted(tree.paths(adapter))
    loaded = checkpoint.load(path, lora.specs(llama.specs(CONFIG), LORA))
    assert tree.flatten(loaded)[1] == tree.flatten(adapter)[1]
    assert bits(loaded) == bits(adapter)
    other = lora.Config(rank=2, alpha=4, targets=LORA.targets)
    with pytest.raises(ValueError, match=r"layers/0/q/a has shape \(32, 4\), the model needs \(32"):
        checkpoint.load(path, lora.specs(PARAMS, other))


# --- bad input ---


def test_a_target_that_matches_nothing_is_refused_with_paths_that_exist():
    message = r"lora: target 'model.q_proj' matches no parameter; the nearest path is layers/\*/"
    with pytest.raises(ValueError, match=message):
        lora.init(random.key(0), PARAMS, lora.Config(rank=1, alpha=1, targets=("model.q_proj",)))
    half_right = lora.Config(rank=1, alpha=1, targets=("layers/*/q", "layers/*/gat"))
    message = r"target 'layers/\*/gat' matches no parameter; the nearest path is layers/\*/gate$"
    with pytest.raises(ValueError, match=message):
        lora.specs(PARAMS, half_right)


def test_only_matrices_are_adapted():
    norms = lora.Config(rank=1, alpha=1, targets=("layers/*_norm",))
    message = r"lora: layers/0/attention_norm has shape \(32,\); only matrices can be adapted"
    with pytest.raises(ValueError, match=message):
        lora.specs(PARAMS, norms)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, r"'rank' must be > 0: 0"),
        ({"alpha": -1}, r"'alpha' must be > 0: -1"),
        ({"targets": ()}, r"'targets' must be >= 1: 0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        lora.Config(**{"rank": 1, "alpha": 1, "targets": ("q",), **settings})


def test_an_adapter_of_another_model_is_refused():
    adapter = from_peft("adapter")
    two = {**PARAMS, "layers": PARAMS["layers"] * 2}
    with pytest.raises(
        ValueError, match=r"tree.overlay: the patch has another container .* layers"
    ):
        lora.merge(two, adapter, LORA)
