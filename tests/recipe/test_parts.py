from __future__ import annotations

from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from tests.recipe.tiny_run import tiny_recipe

from mfunc import from_pretrained, save_pretrained, tree
from mfunc.recipe.parts import optimizer_of, pad_id, parts_of
from mfunc.recipe.settings import Chosen, Recipe, Train

CONSTANT = Chosen("constant")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("parts")


@pytest.mark.parametrize("name", ["lora", "prefix", "ptuning", "adapter", "bitfit", "none"])
def test_what_is_trained_stands_beside_the_model(folder, name):
    more = {"targets": ["*norm"]} if name == "bitfit" else {}
    more = {"rank": 2, "alpha": 2} if name == "lora" else more
    parts = parts_of(tiny_recipe(folder, {"adapter": {"name": name, **more}}), str)
    model = set(tree.paths(parts.pretrained.params))
    trained = set(tree.paths(parts.trained))
    if name in ("none", "bitfit"):
        assert trained <= model
        assert (trained == model) == (name == "none")
    assert [id(each) for each in parts.frozen] == [id(parts.pretrained.params)] * (name != "none")
    assert parts.keyed == (name in ("prefix", "ptuning"))


def test_nothing_named_is_refused(folder):
    with pytest.raises(ValueError, match=r"model.path is empty; name a folder in Hugging Face's"):
        parts_of(tiny_recipe(folder, {"model": {"path": ""}}), str)


def test_a_model_without_a_tokenizer(folder):
    tiny_recipe(folder)
    found = from_pretrained(folder / "model")
    save_pretrained(folder / "bare", found._replace(tokenizer=None))
    with pytest.raises(ValueError, match=r"bare has no tokenizer; put its files beside the weig"):
        parts_of(tiny_recipe(folder, {"model": {"path": str(folder / "bare")}}), str)


def test_the_optimizer_is_put_together():
    params = {"w": ms.Tensor([3.0, 4.0])}

    def made(**train):
        sgd = Chosen("sgd", {"learning_rate": 0.1})
        return optimizer_of(Recipe(optimizer=sgd, schedule=CONSTANT, train=Train(**train)), 10)

    def updated(optimizer):
        return optimizer.update(params, optimizer.init(params), params)[0]["w"].asnumpy()

    assert made(loss_scale=True).scale is not None
    assert made().scale is None
    np.testing.assert_allclose(updated(made()), [-0.06, -0.08], rtol=1e-6)
    np.testing.assert_allclose(updated(made(clip_norm=0)), [-0.3, -0.4], rtol=1e-6)
    assert made(accumulate=2).weighted
    assert "skipped" in tree.paths(made(on_nonfinite="skip").init(params))


def test_norms_and_biases_do_not_decay():
    params = {"norm": ms.Tensor([1.0]), "w": ms.Tensor([1.0])}
    adamw = Chosen("adamw", {"learning_rate": 0.1, "weight_decay": 0.5})
    optimizer = optimizer_of(Recipe(optimizer=adamw, schedule=CONSTANT), 10)
    nothing = {"norm": ms.Tensor([0.0]), "w": ms.Tensor([0.0])}
    updates, _ = optimizer.update(nothing, optimizer.init(params), params)
    assert float(updates["norm"]) == 0
    assert float(updates["w"]) == pytest.approx(-0.05)


@pytest.mark.parametrize(("given", "wanted"), [(None, 0), (-1, 0), (7, 7)])
def test_the_token_that_fills_rows(given, wanted):
    assert pad_id(SimpleNamespace(pad_id=given)) == wanted
