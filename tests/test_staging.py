from __future__ import annotations

import inspect
import random
import textwrap
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.trees import assert_close, tensor, trees

from mfunc import staging, tree
from mfunc.staging import SLOT
from mfunc.transform import jit

CONSTANTS = st.one_of(st.integers(-3, 3), st.booleans(), st.floats(-3, 3), st.just("tanh"))
PATTERNS = trees(st.one_of(st.just(SLOT), CONSTANTS), namedtuples=False)


def filled(pattern: Any) -> tuple[Any, list[str]]:
    """The pattern with a word in each slot, and the words."""
    leaves, structure = tree.flatten(pattern)
    words = iter(f"value {i}" for i in range(len(leaves)))
    put = [next(words) if leaf is SLOT else leaf for leaf in leaves]
    return tree.unflatten(structure, put), [
        leaf for leaf, was in zip(put, leaves, strict=True) if was is SLOT
    ]


def taken_out(found, which, **value):
    """What the expressions give behind their lines."""
    exec(textwrap.dedent(found.lines), value)
    return [eval(text, value) for text in getattr(found, which)]


@given(st.lists(PATTERNS, max_size=3))
def test_what_is_taken_apart_is_rebuilt(patterns):
    """`opened` takes the traced values out of trees; a function written by `rebuild` undoes it."""
    trees_, values = zip(*map(filled, patterns), strict=True) if patterns else ((), ())
    taken = taken_out(staging.opened(tuple(patterns), "trees"), "slots", trees=trees_)
    assert taken == [value for some in values for value in some]
    names, texts, constants = staging.rebuild(patterns)
    text = f"def again({', '.join(names)}):\n    return [{', '.join(texts)}]"
    again = staging.write("again", text, **constants)(*taken)
    assert [tree.flatten(t) for t in again] == [tree.flatten(t) for t in trees_]


@given(PATTERNS)
def test_opened_gives_every_leaf(pattern):
    node = filled(pattern)[0]
    assert taken_out(staging.opened(pattern, "node"), "every", node=node) == [*tree.leaves(node)]


@given(PATTERNS, st.randoms())
@example({"a": {"a": SLOT, "b": SLOT, "c": SLOT}, "b": (SLOT, SLOT)}, random.Random(1))
def test_spread_is_the_slots(pattern, chance):
    """Also when dicts were written in another order, and where these are tuples."""

    def written(node, kind):
        if isinstance(node, dict):
            keys = random_keys(node)
            parts = [written(node[key], kind) for key in keys]
            return dict(zip(keys, parts, strict=True)) if kind is dict else tuple(parts)
        if isinstance(node, (tuple, list)):
            return type(node)([written(child, kind) for child in node])
        return node

    orders: dict[tuple, list[str]] = {}

    def random_keys(node):
        keys = tuple(sorted(node))
        return orders.setdefault(keys, chance.sample(keys, len(keys)))

    pattern = written(pattern, dict)
    node, slots = filled(pattern)
    for as_tuples, value in ((False, node), (True, written(node, tuple))):
        found = staging.opened(pattern, "node", as_tuples=as_tuples)
        scope = {"node": value}
        exec(textwrap.dedent(found.lines), scope)
        assert eval(f"[{', '.join(found.spread)}]", scope) == slots


def test_no_two_containers_share_a_name():
    node = {"a": {"b": {"c": SLOT}}, "a_b": {"c": SLOT}, "a/b": {"c": SLOT}}
    value = {"a": {"b": {"c": 1}}, "a_b": {"c": 2}, "a/b": {"c": 3}}
    assert taken_out(staging.opened(node, "v"), "slots", v=value) == [1, 3, 2]


def test_opened_stops_where_it_is_told():
    base, patch = {"a": (SLOT, SLOT), "b": SLOT}, {"a": ({"x": SLOT}, None), "b": SLOT}
    found = staging.opened(patch, "patch", down_to=base)
    assert taken_out(found, "every", patch={"a": ({"x": 1}, None), "b": 2}) == [{"x": 1}, 2]


@given(st.text(), st.text())
def test_any_key_survives(one, other):
    pattern = {one: SLOT, other: (SLOT,)}
    names, [text], _ = staging.rebuild([pattern])
    built = staging.write("again", f"def again({', '.join(names)}):\n    return {text}")
    node = filled(pattern)[0]
    values = taken_out(staging.opened(pattern, "p"), "slots", p=node)
    assert built(*values) == node


def test_rebuild_numbers_through_all_trees():
    names, texts, constants = staging.rebuild([(SLOT, 1), {"k": SLOT, "j": "x"}], "v")
    assert names == ["v0", "v1"]
    assert texts == ["(v0, v_0)", "{'j': v_1, 'k': v1}"]
    assert constants == {"v_0": 1, "v_1": "x"}


@pytest.mark.parametrize(
    ("value", "shape", "wanted"),
    [
        (None, [2, 2], SLOT),
        (None, [], SLOT),
        (None, None, None),
        (3, [], 3),
        (
            {"b": None, "a": (None, None, 2.5)},
            [[1], ([3], None, [])],
            {"a": (SLOT, None, 2.5), "b": SLOT},
        ),
        ([None], [[4]], [SLOT]),
        ((), (), ()),
    ],
)
def test_pattern_tells_traced_values_from_constants(value, shape, wanted):
    assert staging.pattern(value, shape) == wanted


@given(PATTERNS, PATTERNS)
def test_frozen_is_equal_for_what_one_text_fits(a, b):
    """Not `==`: True, 1 and 1.0 are equal, but are three constants."""

    def exact(pattern: Any) -> str:
        return repr(staging.build(pattern, lambda leaf: f"{type(leaf).__name__} {leaf!r}"))

    one, other = staging.frozen(a), staging.frozen(b)
    zero = any(leaf == 0 for leaf in [*tree.leaves(a), *tree.leaves(b)] if leaf is not SLOT)
    assert (one == other) == (exact(a) == exact(b)) or zero  # but 0.0 and -0.0 are one constant
    assert one != other or hash(one) == hash(other)


@pytest.mark.parametrize("values", [(1, 1.0), (1, True), (0.0, False), ("a", "b"), (SLOT, "*")])
def test_frozen_keeps_constants_apart(values):
    one, other = (staging.frozen([{"k": value}]) for value in values)
    assert one != other


def test_written_functions_have_source_and_constants():
    add = staging.write("add", "def add(x):\n    # by the constant\n    return x + by", by=2)
    more = staging.write("add", "def add(x):\n    return x + by", by=30)
    assert (add(1), more(1)) == (3, 31)
    assert (
        inspect.getsource(add)
        == "    def add(x):\n        # by the constant\n        return x + by\n"
    )
    assert inspect.getsourcefile(add) != inspect.getsourcefile(more)


def test_long_brackets_are_split_into_lines():
    """One line of all leaves would take the compiler quadratic time."""
    text = staging.build([SLOT] * 100, lambda _: "a_name")
    assert max(map(len, text.splitlines())) < 100
    assert eval(text, {"a_name": 1}) == [1] * 100
    assert "\n" not in staging.build([SLOT] * 5, lambda _: "a_name")


def add(a, b):
    return a + b


def test_stages_of_one_writer_do_not_mix():
    """The compiler knows a primitive by its name, so each stage has its own."""

    def stage(by: float) -> staging.Stage:
        def write_scale(seen):
            return staging.write("scale", "def scale(x):\n    return x * by", by=by)

        return staging.Stage(write_scale)

    two, three = stage(2.0), stage(3.0)

    def both(x):
        return two(x)(x), three(x)(x)

    x = tensor(3)
    assert two.name != three.name
    assert_close(jit(both)(x), (x * 2.0, x * 3.0))


def test_a_stage_sees_containers_shapes_and_constants():
    said = []

    def write_note(seen):
        said.extend(seen)
        return unchanged

    note = staging.Stage(write_note)

    def noting(node, n):
        return note(node, n, "word", None)(node["w"])

    jit(noting)({"w": tensor(2, 3), "k": [None, tensor(4)]}, 5)
    node, number, word, nothing = said
    assert node.pattern == {"k": [None, SLOT], "w": SLOT}
    assert node.shape[1] == [2, 3]
    assert (number.pattern, word.pattern, nothing.pattern) == (SLOT, "word", None)


def unchanged(x):
    return x


def test_dicts_that_became_tuples():
    node = {"z": 1, "a": ({"k": 2, "b": 3}, None)}
    found = staging.opened(node, "out", as_tuples=True)
    assert taken_out(found, "every", out=(1, ((2, 3), None))) == [3, 2, 1]
