"""PEFT's files, both ways. `tests/golden/make_lora.py --read` shows PEFT what is written here."""

from __future__ import annotations

import json

import attrs
import mindspore as ms
import numpy as np
import pytest
from tests.tiny_llama import GOLDEN, tiny_llama

from mfunc import checkpoint, random, tree
from mfunc.adapt import lora, peft
from mfunc.nn import llama
from mfunc.nn.names import llama as llama_names

CONFIG, PARAMS, BASE = tiny_llama()
NAMES = llama_names.names(CONFIG)
with np.load(GOLDEN / "lora.npz") as file:
    PEFT = {key: file[key] for key in file.files}
WANTED = {
    "": {"targets": ("layers/*/q", "layers/*/v")},
    "rslora/": {"targets": ("layers/*/down", "layers/*/k"), "use_rslora": True},
    "dora/": {"targets": ("layers/*/o", "layers/*/v"), "use_dora": True},
}


def written(folder, prefix="", settings=(), drop=(), **changed):
    """A folder as PEFT writes it, with some settings and tensors changed or left out."""
    start = f"{prefix}adapter/"
    arrays = {k.removeprefix(start): a for k, a in PEFT.items() if k.startswith(start)}
    arrays = {k: a for k, a in (arrays | changed).items() if k not in drop}
    checkpoint.write_arrays(folder / "adapter_model.safetensors", arrays, {"format": "pt"})
    config = json.loads(str(PEFT[f"{prefix}adapter_config"])) | dict(settings)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def bits(node):
    return [leaf.asnumpy().tobytes() for leaf in tree.leaves(node)]


@pytest.mark.parametrize("prefix", WANTED)
def test_what_peft_wrote_computes_what_it_computed(prefix, tmp_path):
    adapter, config = peft.load(written(tmp_path, prefix), PARAMS, NAMES)
    assert config == lora.Config(rank=4, alpha=8, **WANTED[prefix])
    laid = lora.apply(PARAMS, adapter, config)
    logits = llama.apply(laid, CONFIG, ms.Tensor(BASE["plain/input_ids"])).asnumpy()
    np.testing.assert_allclose(logits, PEFT[f"{prefix}logits"], rtol=0, atol=5e-6)


@pytest.mark.parametrize("prefix", WANTED)
def test_what_is_written_is_what_peft_writes(prefix, tmp_path):
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    adapter, config = peft.load(written(theirs, prefix), PARAMS, NAMES)
    peft.save(ours, adapter, config, NAMES, base_model="tiny")
    same = [checkpoint.read_arrays(d / "adapter_model.safetensors") for d in (theirs, ours)]
    assert same[0].keys() == same[1].keys()
    assert all(array.tobytes() == same[1][name].tobytes() for name, array in same[0].items())
    known = json.loads(str(PEFT[f"{prefix}adapter_config"]))
    settings = json.loads((ours / "adapter_config.json").read_text())
    assert settings == {key: known[key] for key in settings} | {"base_model_name_or_path": "tiny"}
    again, read = peft.load(ours, llama.specs(CONFIG), NAMES)
    assert (read, bits(again)) == (config, bits(adapter))


def test_targets_that_are_not_in_every_layer_are_named_one_by_one(tmp_path):
    targets = ("layers/0/q", "layers/*/up", "head")
    config = lora.Config(rank=2, alpha=3.5, targets=targets, dropout=0.25)
    adapter = lora.init(random.key(0), PARAMS, config)
    peft.save(tmp_path, adapter, config, NAMES)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    modules = ["lm_head", "model.layers.0.self_attn.q_proj", "up_proj"]
    assert (settings["target_modules"], settings["lora_dropout"]) == (modules, 0.25)
    again, read = peft.load(tmp_path, PARAMS, NAMES)
    assert read == attrs.evolve(config, targets=tuple(sorted(targets)))
    assert bits(again) == bits(adapter)


def test_target_modules_as_a_regular_expression_and_with_names_of_other_models(tmp_path):
    whole, _ = peft.load(written(tmp_path), PARAMS, NAMES)
    for targets in (r".*self_attn\.(q|v)_proj", ["q_proj", "v_proj", "c_attn"]):
        adapter, config = peft.load(
            written(tmp_path, settings={"target_modules": targets}), PARAMS, NAMES
        )
        assert (config.targets, bits(adapter)) == (("layers/*/q", "layers/*/v"), bits(whole))


# --- bad input ---

Q0 = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank_pattern": {"q_proj": 2}}, r"rank_pattern=\{'q_proj': 2\} is not computed here"),
        ({"alpha_pattern": {"q_proj": 2}}, r"alpha_pattern=.* is not computed here; only its neut"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save=\['lm_head'\] is not computed"),
        ({"layers_to_transform": [0]}, r"layers_to_transform=\[0\] is not computed"),
        ({"a_later_idea": 3}, r"adapter_config.json: a_later_idea=3 is not computed here"),
        ({"bias": "all"}, r"bias='all'; only 'none' is computed here"),
        ({"fan_in_fan_out": True}, r"fan_in_fan_out=True; only False"),
        ({"peft_type": "IA3"}, r"peft_type='IA3'; only 'LORA'"),
        ({"init_lora_weights": "pissa"}, r"init_lora_weights='pissa' changes the weights of the"),
        ({"r": None}, r"adapter_config.json: r is missing"),
        ({"r": 0}, r"adapter_config.json: 'rank' must be > 0: 0"),
        ({"lora_alpha": "8"}, r"adapter_config.json: '>' not supported"),
        ({"target_modules": ["c_attn"]}, r"\['c_attn'\] names nothing in this model; .* down_proj"),
        ({"target_modules": ["q_proj"]}, r"safetensors: unexpected .*layers.0.self_attn.v_proj"),
        ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, r"missing .*o_proj.lora_A.weight"),
        ({"r": 2}, r"q_proj.lora_A.weight has shape \(4, 32\), the config asks for \(2, 32\)"),
        ({"use_dora": True}, r"missing .*lora_magnitude_vector"),
    ],
)
def test_settings_that_are_not_computed_here_are_refused_by_name(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        peft.load(written(tmp_path, settings=settings), PARAMS, NAMES)


def test_unknown_settings_with_their_neutral_value_are_accepted(tmp_path):
    settings = {"a_later_idea": None, "another": False, "third": [], "rank_pattern": None}
    adapter, _ = peft.load(written(tmp_path, settings=settings), PARAMS, NAMES)
    assert len(tree.leaves(adapter)) == 8


def test_tensors_missing_unexpected_or_of_another_place(tmp_path):
    with pytest.raises(ValueError, match=f"adapter_model.safetensors: missing {Q0}"):
        peft.load(written(tmp_path, drop=(Q0,)), PARAMS, NAMES)
    head = "base_model.model.lm_head.weight"
    with pytest.raises(ValueError, match=f"unexpected {head}"):
        peft.load(written(tmp_path, **{head: np.zeros(2, np.float32)}), PARAMS, NAMES)


def test_files_that_are_missing_or_broken(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"adapter_config.json: no such file"):
        peft.load(tmp_path, PARAMS, NAMES)
    written(tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(FileNotFoundError, match=r"adapter_model.bin is a pickle"):
        peft.load(tmp_path, PARAMS, NAMES)
    for text, said in (("{", "not JSON"), ("[]", "holds a list, not an object")):
        (tmp_path / "adapter_config.json").write_text(text)
        with pytest.raises(ValueError, match=said):
            peft.load(tmp_path, PARAMS, NAMES)


def test_what_has_no_name_or_does_not_fit_is_not_written(tmp_path):
    table = lora.Config(rank=1, alpha=1, targets=("embed",))
    with pytest.raises(ValueError, match=r"embed is no linear layer in .* head, layers/\*/down"):
        peft.save(tmp_path, lora.init(random.key(0), PARAMS, table), table, NAMES)
    plain = lora.Config(rank=1, alpha=1, targets=("head",))
    adapter = lora.init(random.key(0), PARAMS, plain)
    with pytest.raises(ValueError, match="use_dora=True, but head/magnitude is missing in the ad"):
        peft.save(tmp_path, adapter, attrs.evolve(plain, use_dora=True), NAMES)
    with pytest.raises(ValueError, match="rank=2, but head/a has rank 1"):
        peft.save(tmp_path, adapter, attrs.evolve(plain, rank=2), NAMES)
    assert not list(tmp_path.iterdir())


def test_names_of_another_model_are_refused(tmp_path):
    one = {**PARAMS, "layers": PARAMS["layers"][:1]}
    with pytest.raises(ValueError, match="two models; only one has layers/1/q/a"):
        peft.load(written(tmp_path), one, NAMES)
