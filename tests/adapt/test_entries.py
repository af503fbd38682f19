from __future__ import annotations

import pytest
from tests.trees import assert_close, tensor

from mfunc.adapt import entries
from mfunc.transform import jit

X, Y = tensor(2, seed=1), tensor(2, seed=2)
BASE = {"layers": ({"w": (X, 2.0), "a": Y}, {"w": X, "a": None}), "head": [X, {}]}
MORE = {"layers": ({"b": (Y, X)}, None), "tail": X, "head": [None, {"c": {"d": Y}}]}
WANTED = {
    "layers": ({"w": (X, 2.0), "a": Y, "b": (Y, X)}, {"w": X, "a": None}),
    "head": [X, {"c": {"d": Y}}],
    "tail": X,
}


def doubled(params, more):
    laid = entries.insert(params, more)
    return laid["layers"][0]["b"][0] * 2, laid["head"], laid["layers"][1]["w"], laid["tail"]


def test_entries_are_added_and_nothing_is_changed():
    assert_close(entries.insert(BASE, MORE), WANTED)
    assert entries.insert(BASE, None) is BASE
    assert sorted(BASE) == ["head", "layers"]
    assert_close(jit(doubled)(BASE, MORE), doubled(BASE, MORE))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"layers": ({"w": X}, None)}, "something else at layers/0/w: another container, or an ad"),
        ({"layers": [None, None]}, "something else at layers"),
        ({"head": X}, "something else at head"),
        ({"layers": (None,)}, "the adapter has 1 parts at layers, the model has 2"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_graph_too(more, said):
    for insert in (entries.insert, jit(entries.insert)):
        with pytest.raises(ValueError, match=f"^adapt: .*{said}"):
            insert(BASE, more)
