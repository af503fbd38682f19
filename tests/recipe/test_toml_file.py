from __future__ import annotations

import attrs
import pytest

from mfunc.recipe.choices import CHOICES
from mfunc.recipe.settings import Chosen, Recipe
from mfunc.recipe.toml_file import arguments, build, read, show, tomllib


@pytest.mark.parametrize("section", CHOICES)
def test_what_is_shown_reads_as_the_same_recipe(section):
    for name in CHOICES[section]:
        needed = {"decay_steps": 5} if name == "wsd" else {}
        given = build({section: {"name": name, **needed}})
        assert build(tomllib.loads(show(given))) == given
        chosen = getattr(given, section)
        takes = {**arguments(section, name), **needed}
        assert chosen.name == name
        assert chosen.settings == {key: takes[key] for key in chosen.settings}
        assert show(given).count(f'name = "{name}"') == 1


def test_every_field_is_shown_with_its_default_and_what_it_is_for():
    lines = show(Recipe()).splitlines()
    for field in attrs.fields(Recipe):
        value = getattr(Recipe(), field.name)
        if isinstance(value, Chosen):
            continue
        inside = attrs.fields(type(value)) if attrs.has(type(value)) else [field]
        for one in inside:
            found = [line for line in lines if line.startswith(f"{one.name} = ")]
            assert any(line.endswith(f"# {one.metadata['about']}") for line in found), one.name


def test_what_is_written_with_quotes_and_newlines_comes_back():
    text = 'say "no" \\ \t\n\x7f 你好 😀'
    given = build({"data": {"system": text, "fields": {"in put": text}}})
    assert build(tomllib.loads(show(given))) == given


def test_changes_stand_above_the_file(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('name = "a"\n[train]\nsteps = 3\n[optimizer]\nname = "sgd"\n')
    recipe = read(
        file,
        ["train.steps=10", "name=b", "optimizer.learning_rate=1e-3", 'data.train=["x y.json"]'],
    )
    assert (recipe.name, recipe.train.steps, recipe.data.train) == ("b", 10, ("x y.json",))
    assert recipe.optimizer.name == "sgd"
    assert recipe.optimizer.settings["learning_rate"] == 1e-3


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"trian": {}}, r"recipe: unknown key trian; did you mean train\?"),
        ({"train": {"batchsize": 3}}, r"train: unknown key batchsize; did you mean batch_size\?"),
        ({"train": {"qqq": 3}}, r"train: unknown key qqq; known are epochs, steps, batch_size"),
        ({"train": {"batch_size": 0}}, r"recipe: train.batch_size=0; it must be at least 1"),
        ({"train": {"batch_size": "4"}}, r"train.batch_size='4'; it must be an integer"),
        ({"train": {"batch_size": True}}, r"train.batch_size=True; it must be an integer"),
        ({"train": {"loss_scale": 1}}, r"train.loss_scale=1; it must be true or false"),
        ({"data": {"train": "a.json"}}, r"data.train='a.json'; it must be a list"),
        ({"data": {"layout": "pack"}}, r"layout='pack'; known are packed, dynamic, static"),
        ({"train": 3}, r"recipe: train=3; it is a section, \[train\]"),
        ({"name": 3}, r"recipe: name=3; it must be text"),
        ({"optimizer": {"name": "adam_w"}}, r"optimizer.name='adam_w'; did you mean adamw\?"),
        ({"optimizer": {"name": "??"}}, r"optimizer.name='\?\?'; known are adamw"),
        ({"optimizer": {"beta1": 0.9}}, r"optimizer, adamw: unknown key beta1; did you mean b1\?"),
        ({"optimizer": {"mask": "x"}}, r"optimizer, adamw: unknown key mask"),
        ({"adapter": {"name": "lora", "rank": "8"}}, r"adapter.rank='8'; it must be an integer"),
        (
            {"schedule": {"name": "wsd"}},
            r"schedule, wsd: decay_steps is missing; it has no default",
        ),
        ({"schedule": {"peak": 1.0}}, r"schedule, cosine: unknown key peak"),
    ],
)
def test_what_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        build(table)


@pytest.mark.parametrize("change", ["train.steps", "=3", "a.b.c.d=3", "train.=3"])
def test_a_change_that_changes_nothing(change):
    with pytest.raises(ValueError, match=r"changes nothing; write section\.key=value"):
        build({}, [change])


def test_a_change_through_a_value():
    with pytest.raises(ValueError, match=r"'name.x=3': name is not a section"):
        build({"name": "a"}, ["name.x=3"])


def test_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no.toml: no such file"):
        read(tmp_path / "no.toml")
    (tmp_path / "bad.toml").write_text("a = = 3")
    with pytest.raises(ValueError, match=r"bad.toml: not TOML \("):
        read(tmp_path / "bad.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(ValueError, match=r"latin.toml: not TOML \("):
        read(tmp_path / "latin.toml")


def test_the_given_table_is_not_changed():
    table = {"train": {"steps": 1}}
    build(table, ["train.steps=2"])
    assert table == {"train": {"steps": 1}}
