from __future__ import annotations

import pytest

from mfunc.data.check import choice, flag, integer, nearest


@pytest.mark.parametrize("value", [True, 2.0, "2", None, [2], {"a": 1}])
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(TypeError, match=r"batch: size must be an integer >= 1, got "):
        integer("batch", "size", value, least=1)


def test_integer_range_is_said():
    with pytest.raises(ValueError, match=r"pad: remainder must be an integer in 0\.\.3, got 4"):
        integer("pad", "remainder", 4, least=0, most=3)
    assert integer("pad", "remainder", 3, least=0, most=3) == 3


def test_choice_suggests_the_nearest():
    with pytest.raises(
        ValueError, match=r"one of 'drop', 'split', got 'splt'; did you mean 'split'"
    ):
        choice("pack", "overlong", "splt", ["drop", "split"])
    with pytest.raises(ValueError, match="got None"):
        choice("pack", "overlong", None, ["drop"])


def test_flag_is_a_bool_only():
    assert flag("batch", "drop_remainder", False) is False
    with pytest.raises(TypeError, match="drop_remainder must be True or False, got 1"):
        flag("batch", "drop_remainder", 1)


def test_nothing_near_says_nothing():
    assert nearest("zzz", ["seq_length"]) == ""
