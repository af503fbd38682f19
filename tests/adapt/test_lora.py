from __future__ import annotations

import json
import math

import attrs
import mindspore as ms
import numpy as np
import pytest
from tests import models
from tests.tiny_llama import GOLDEN, tiny_llama
from tests.trees import assert_close, tensor

from mfunc import checkpoint, random, spec, tree
from mfunc.adapt import lora
from mfunc.gradient import value_and_grad
from mfunc.loss import next_token_loss
from mfunc.nn import layers, llama
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


# What a key of the golden file begins with -> how that adapter was made.
KINDS = {
    "": LORA,
    "rslora/": lora.Config(rank=4, alpha=8, targets=("*/k", "*/down"), use_rslora=True),
    "dora/": lora.Config(rank=4, alpha=8, targets=("*/v", "*/o"), use_dora=True),
}
PARTS = {"a": "lora_A.weight", "b": "lora_B.weight", "magnitude": "lora_magnitude_vector"}


def peft_name(path):
    """layers/0/q/a -> PEFT's name in an adapter file."""
    _, layer, weight, side = path.split("/")
    block = "mlp" if weight == "down" else "self_attn"
    return f"base_model.model.model.layers.{layer}.{block}.{weight}_proj.{PARTS[side]}"


def from_peft(kind, prefix=""):
    """The adapter, or its gradient, in our tree: PEFT's A and B are [out, in]."""
    wanted = lora.specs(PARAMS, KINDS[prefix])
    arrays = [PEFT[f"{prefix}{kind}/{peft_name(path)}"].T for path in tree.paths(wanted)]
    return tree.refill(wanted, [ms.Tensor(np.ascontiguousarray(array)) for array in arrays])


def loss(adapter, params, batch, config):
    logits = llama.apply(lora.apply(params, adapter, config), CONFIG, batch["input_ids"])
    return next_token_loss(logits, batch["labels"])


def logits_of(params):
    return llama.apply(params, CONFIG, ms.Tensor(IDS)).asnumpy()


def bits(node):
    return [leaf.asnumpy().tobytes() for leaf in tree.leaves(node)]


# --- against PEFT ---


@pytest.mark.parametrize("prefix", KINDS)
def test_logits_beside_the_weights_are_those_of_peft(prefix):
    seen = logits_of(lora.apply(PARAMS, from_peft("adapter", prefix), KINDS[prefix]))
    np.testing.assert_allclose(seen, PEFT[f"{prefix}logits"], rtol=0, atol=5e-6)
    assert np.abs(seen - BASE["plain/logits"]).max() > 1e-3, "the adapter does something"


@pytest.mark.parametrize("prefix", KINDS)
def test_merged_weights_are_those_of_peft_and_all_others_are_left_alone(prefix):
    merged = lora.merge(PARAMS, from_peft("adapter", prefix), KINDS[prefix])
    merged = checkpoint.to_names(merged, names.names(CONFIG))
    start = f"{prefix}merged/"
    changed = {key.removeprefix(start) for key in PEFT if key.startswith(start)}
    assert len(changed) == 4
    for name, weight in merged.items():
        if name in changed:
            np.testing.assert_allclose(weight, PEFT[f"{start}{name}"], rtol=0, atol=1e-6)
        else:
            np.testing.assert_array_equal(weight, BASE[f"weights/{name}"])


@pytest.mark.parametrize("prefix", KINDS)
def test_merged_computes_what_beside_computes(prefix):
    adapter, config = from_peft("adapter", prefix), KINDS[prefix]
    merged, beside = lora.merge(PARAMS, adapter, config), lora.apply(PARAMS, adapter, config)
    np.testing.assert_allclose(logits_of(merged), logits_of(beside), rtol=0, atol=5e-6)


fast = jit(value_and_grad(loss, has_aux=True), static_argnums=3)


@pytest.mark.parametrize("prefix", KINDS)
def test_loss_and_gradients_are_those_of_peft_and_frozen_leaves_have_none(prefix):
    batch = {"input_ids": IDS, "labels": LABELS}
    (value, count), grads = fast(from_peft("adapter", prefix), PARAMS, batch, KINDS[prefix])
    assert float(value) == pytest.approx(float(PEFT[f"{prefix}loss"]), abs=1e-6)
    assert float(count) == (LABELS[:, 1:] != -100).sum()
    wanted = from_peft("grad", prefix)
    assert tree.flatten(grads)[1] == tree.flatten(wanted)[1]
    assert len(tree.leaves(grads)) == (12 if prefix == "dora/" else 8)
    for path, seen, leaf in zip(
        tree.paths(wanted), tree.leaves(grads), tree.leaves(wanted), strict=True
    ):
        np.testing.assert_allclose(seen.asnumpy(), leaf.asnumpy(), rtol=0, atol=5e-6, err_msg=path)


# --- laws ---


@pytest.mark.parametrize("prefix", KINDS)
def test_at_init_the_output_is_unchanged_to_the_bit(prefix):
    config = attrs.evolve(KINDS[prefix], targets=("layers/*/[qvo]", "*/down", "head"))
    adapter = lora.init(random.key(3), PARAMS, config)
    laid = lora.apply(PARAMS, adapter, config)
    assert logits_of(laid).tobytes() == logits_of(PARAMS).tobytes()
    leaves = zip(tree.paths(adapter), tree.leaves(adapter), strict=True)
    a = [leaf for path, leaf in leaves if path.endswith("/a")]
    assert len(a) == 9
    assert all(leaf.asnumpy().any() for leaf in a), "A is not zero"
    assert bits(lora.merge(PARAMS, adapter, config)) == bits(PARAMS)


@pytest.mark.parametrize("prefix", KINDS)
def test_unmerge_undoes_merge_up_to_rounding(prefix):
    adapter, config = from_peft("adapter", prefix), KINDS[prefix]
    norms = lora.norms(PARAMS, adapter, config)
    merged = lora.merge(PARAMS, adapter, config)
    assert bits(merged) != bits(PARAMS)
    back = lora.unmerge(merged, adapter, config, norms if config.use_dora else None)
    for seen, wanted in zip(tree.leaves(back), tree.leaves(PARAMS), strict=True):
        np.testing.assert_allclose(seen.asnumpy(), wanted.asnumpy(), rtol=0, atol=2e-7)


# --- dropout ---

DROPPED = lora.Config(rank=2, alpha=4, targets=("*/q", "*/down"), dropout=0.3, use_dora=True)
BATCH = models.batch_of(np.array([[1] * 5 + [2] * 4, [1] * 7 + [0] * 2]))


def dropped_loss(adapter, params, batch, key, recompute):
    logits = llama.apply(
        lora.apply(params, adapter, DROPPED, key), models.TINY, batch["input_ids"],
        segment_ids=batch["segment_ids"], recompute=recompute,
    )  # fmt: skip
    return next_token_loss(logits, batch["labels"], batch["segment_ids"])


eager_dropped = value_and_grad(dropped_loss, has_aux=True)
jit_dropped = jit(eager_dropped, static_argnums=4)


def some_adapter(seed, config=DROPPED):
    fresh = lora.init(random.key(seed), models.params(seed), config)
    return tree.map(lambda leaf: leaf + 0.1, fresh)


def test_with_dropout_compiled_equals_eager_for_three_trees_and_keys():
    """Recomputed layers draw their masks again: other masks would give other gradients."""
    losses = []
    for seed in range(3):
        args = some_adapter(seed), models.params(seed), BATCH, random.key(seed + 10)
        (value, _), wanted = eager_dropped(*args, False)
        for recompute in (False, True):
            (seen, _), grads = jit_dropped(*args, recompute)
            assert float(seen) == pytest.approx(float(value), abs=1e-6)
            assert_close(grads, wanted, atol=2e-6)
        losses.append(float(seen))
    assert len(set(losses)) == 3


def test_a_key_stands_for_its_masks_and_without_one_nothing_is_dropped():
    adapter, params = some_adapter(0), models.params()
    first, second, again = [
        float(jit_dropped(adapter, params, BATCH, random.key(k), False)[0][0]) for k in (1, 2, 1)
    ]
    assert first == again
    assert abs(first - second) > 1e-4
    calm = attrs.evolve(DROPPED, dropout=0.0)
    beside = [
        lora.apply(params, adapter, DROPPED),
        lora.apply(params, adapter, calm, key=random.key(1)),
    ]
    assert ["key" in laid["layers"][0]["q"] for laid in beside] == [False, False]


def test_each_weight_has_a_key_of_its_own_path():
    laid = lora.apply(models.params(), some_adapter(0), DROPPED, random.key(5))
    keys = {}
    for i, layer in enumerate(laid["layers"]):
        for name in ("q", "down"):
            path = f"layers/{i}/{name}/a"
            keys[path] = tuple(layer[name]["key"].asnumpy())
            assert keys[path] == tuple(random.fold_in(random.key(5), path))
    assert len(set(keys.values())) == 4


@pytest.mark.parametrize("dora", [False, True])
def test_the_mean_over_keys_is_no_dropout(dora):
    config = attrs.evolve(DROPPED, targets=("q",), use_dora=dora)
    params = {"q": tensor(40, 6, seed=1)}
    adapter = tree.map(lambda leaf: leaf + 0.1, lora.init(random.key(0), params, config))
    x = tensor(3, 40, seed=2)
    draws = np.stack([
        linear(x, lora.apply(params, adapter, config, key)["q"]).asnumpy()
        for key in random.split(random.key(1), 100)
    ])  # fmt: skip
    wanted = linear(x, lora.apply(params, adapter, config)["q"]).asnumpy()
    error = draws.std(0) / 10
    assert (np.abs(draws.mean(0) - wanted) < 4.5 * error).all()
    assert (error > 1e-3).all()


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_dropout_goes_where_peft_has_it(kind, monkeypatch):
    """The reference was given a mask; here it stands in the place of the one that is drawn."""
    given = {key.removeprefix("dropout/"): PEFT[key] for key in PEFT if key.startswith("dropout/")}
    monkeypatch.setattr(layers, "dropout", lambda x, key, rate: x * ms.Tensor(given["mask"]))
    config = lora.Config(rank=2, alpha=3, targets=("w",), dropout=0.5, use_dora=kind == "dora")
    params = {"w": ms.Tensor(np.ascontiguousarray(given["weight"].T))}
    adapter = {"w": {
        part: ms.Tensor(np.ascontiguousarray(given[f"{kind}/{name}"].T))
        for part, name in PARTS.items() if f"{kind}/{name}" in given
    }}  # fmt: skip
    laid = lora.apply(params, adapter, config, random.key(0))
    seen = linear(ms.Tensor(given["x"]), laid["w"]).asnumpy()
    np.testing.assert_allclose(seen, given[f"{kind}/y"], rtol=0, atol=2e-5)


# --- what is trained ---


def test_the_presets_are_those_of_mindformers_by_our_paths():
    adapter = lora.specs(llama.specs(CONFIG), lora.PRESETS["llama"])
    assert sorted({path.split("/")[2] for path in tree.paths(adapter)}) == ["k", "o", "q", "v"]
    fused = {"layers": ({"qkv": spec.Spec((4, 12), axes=("embed", "heads"))},)}
    for family in ("glm", "glm2"):
        assert len(tree.leaves(lora.specs(fused, lora.PRESETS[family]))) == 2
    seen = {name: (c.rank, c.alpha, c.dropout, c.scale) for name, c in lora.PRESETS.items()}
    assert seen == {
        "llama": (16, 16, 0.05, 1.0), "gpt2": (64, 128, 0.1, 2.0),
        "glm": (8, 32, 0.1, 4.0), "glm2": (8, 32, 0.1, 4.0),
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"'layers/\*/qkv' matches no parameter; the nearest path"):
        lora.specs(PARAMS, lora.PRESETS["glm"])


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
        ({"dropout": 1.0}, r"'dropout' must be < 1: 1.0"),
        ({"dropout": -0.1}, r"'dropout' must be >= 0: -0.1"),
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


def test_settings_of_the_wrong_kind():
    with pytest.raises(TypeError, match="targets is the string 'q'; give a tuple of patterns"):
        lora.Config(rank=1, alpha=1, targets="q")
    with pytest.raises(TypeError, match="'rank' must be <class 'int'>"):
        lora.Config(rank=1.5, alpha=1, targets=("q",))


def test_dora_wants_weights_with_columns_and_norms_to_unmerge():
    config = lora.Config(rank=1, alpha=1, targets=("w",), use_dora=True)
    with pytest.raises(TypeError, match="DoRA starts at the norms of the weights; give weights"):
        lora.init(random.key(0), {"w": spec.Spec((2, 3), axes=(None, None))}, config)
    params = {"w": ms.Tensor(np.float32([[1, 0, 2], [3, 0, 0]]))}
    with pytest.raises(ValueError, match="1 columns of w are zero; DoRA divides by their norms"):
        lora.init(random.key(0), params, config)
    with pytest.raises(ValueError, match=r"take norms = lora.norms.* before the merge"):
        lora.unmerge(params, {"w": None}, config)


def test_the_table_of_tokens_is_not_adapted():
    table = lora.Config(rank=1, alpha=1, targets=("embed",))
    laid = lora.apply(PARAMS, lora.init(random.key(0), PARAMS, table), table)
    with pytest.raises(
        TypeError, match=r"LoRA is laid over the table of tokens.* take 'embed' out"
    ):
        llama.apply(laid, CONFIG, ms.Tensor(IDS))
