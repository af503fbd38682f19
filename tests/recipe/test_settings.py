from __future__ import annotations

import attrs
import pytest

from mfunc.recipe.settings import Data, Recipe, Train, check_kind


def test_a_section_made_in_python_is_checked_too():
    with pytest.raises(ValueError, match=r"batch_size=0; it must be at least 1"):
        Train(batch_size=0)
    with pytest.raises(ValueError, match=r"layout='zigzag'; known are packed, dynamic, static"):
        Data(layout="zigzag")


def test_sections_are_frozen_and_their_defaults_are_not_shared():
    one, other = Data(), Data()
    assert one == other
    assert one.fields is not other.fields
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.layout = "static"


def test_lists_become_tuples_and_integers_numbers():
    assert Data(train=["a"]).train == ("a",)
    assert type(Train(clip_norm=1).clip_norm) is float


def test_a_recipe_of_defaults_is_whole():
    assert attrs.asdict(Recipe())["optimizer"]["name"] == "adamw"


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        (True, int, "it must be an integer"), (1, bool, "it must be true or false"),
        (1.5, int, "it must be an integer"), ("a", float, "it must be a number"),
        (True, float, "it must be a number"), (2, float, ""), ([], tuple, ""), ({}, dict, ""),
        ([], dict, "it must be a table"), (1, str, "it must be text"),
    ],
)  # fmt: skip
def test_kinds(value, kind, said):
    assert check_kind(value, kind) == said
