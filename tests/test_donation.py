"""Donation: the same numbers in one memory; a donated tree is dead, every other one a value."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops
from tests.tiny_llama import tiny_llama
from tests.trees import arrays, assert_close, tensor

from mfunc import cross_entropy, optim, train, tree
from mfunc.donation import Donated, Resident, copied
from mfunc.dynamic import Dim
from mfunc.loss import next_token_loss
from mfunc.nn import llama
from mfunc.schedule import cosine
from mfunc.transform import jit


def fresh() -> dict:
    """A view of every kind among the leaves."""
    base = tensor(4, 3, seed=5)
    return {
        "w": tensor(2, 3, seed=1),
        "layers": ({"row": base[1], "b": tensor(3, seed=2)}, [base.T, None]),
        "half": tensor(2, seed=3).astype(ms.float16),
        "count": Tensor(0, ms.int32),
    }


def advance(state, x):
    """A step in which every leaf reads others, and two of one shape change places."""
    first, second = state["layers"]
    new = {
        "w": state["w"] * 0.5 + x,
        "layers": ({"row": first["b"], "b": first["row"] + x.sum()}, [second[0] + 1.0, None]),
        "half": state["half"] * 2,
        "count": state["count"] + 1,
    }
    return new, {"z": state["w"].sum(), "a": x * 3.0, "old": state["w"]}


def number(seed: int) -> Tensor:
    return tensor(2, 3, seed=seed)


def test_the_same_numbers_as_without_over_many_calls():
    step, state, wanted = jit(advance, donate_argnums=0), fresh(), fresh()
    for i in range(5):
        state, said = step(state, number(i))
        wanted, wanted_said = advance(wanted, number(i))
        assert_close((state, said), (wanted, wanted_said), rtol=1e-6, atol=1e-6)
    assert step.compiles() == 1


def doubled(state):
    return tree.map(lambda x: x + x, state)


@pytest.mark.parametrize("shape", [(3, 2), (0, 2), (), (1,)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64", "int8", "uint32"])
def test_states_of_every_shape_and_dtype(shape, dtype):
    """The number that the caller waits for is a part of the smallest leaf, if it has any."""
    step = jit(doubled, donate_argnums=0)
    state = step(step({"w": np.ones(shape, dtype), "none": np.ones((0,), dtype)}))
    assert_close(state, {"w": np.full(shape, 4, dtype), "none": np.ones((0,), dtype)})


def test_the_memory_stays_and_the_tree_is_new():
    step = jit(advance, donate_argnums=0)
    state, _ = step(fresh(), number(0))
    before = {path: leaf._data_ptr() for path, leaf in named(state).items()}
    old = tree.leaves(state)
    state, _ = step(state, number(1))
    assert {path: leaf._data_ptr() for path, leaf in named(state).items()} == before
    assert not {id(leaf) for leaf in old} & {id(leaf) for leaf in tree.leaves(state)}


def named(node) -> dict:
    return dict(zip(tree.paths(node), tree.leaves(node), strict=True))


# --- the donated tree is dead ---

USES = {
    "asnumpy": lambda x: x.asnumpy(),
    "shape": lambda x: x.shape,
    "+": lambda x: x + 1,
    "1 +": lambda x: 1 + x,
    "index": lambda x: x[0],
    "float": float,
    "array": np.asarray,
    "len": len,
    "compare": lambda x: x == x,
    "ops": lambda x: ops.add(x, 1).asnumpy(),
    "reduce": lambda x: ops.sum(x).asnumpy(),
    "exp": lambda x: ops.exp(x).asnumpy(),
    "concatenate": lambda x: ops.cat([x, x]).asnumpy(),
    "reshape": lambda x: ops.reshape(x, (-1,)).asnumpy(),
    "copied": copied,
    "jit": lambda x: jit(twice)({"x": x}),
}


def twice(node):
    return node["x"] + node["x"]


@pytest.mark.parametrize("again", [False, True], ids=["first", "later"])
@pytest.mark.parametrize("use", USES)
def test_every_use_of_a_dead_leaf_raises(use, again):
    step, state = jit(advance, donate_argnums=0), fresh()
    if again:
        state, _ = step(state, number(0))
    step(state, number(1))
    leaf = state["w"]
    assert type(leaf) is Donated
    assert repr(leaf) == "<donated tensor>"
    with pytest.raises((RuntimeError, TypeError)):
        USES[use](leaf)


def test_a_dead_tree_is_refused_by_path():
    step, state = jit(advance, donate_argnums=0), fresh()
    step(state, number(0))
    with pytest.raises(
        RuntimeError, match=r"the leaf at argument 0, count is dead: it was donated"
    ):
        step(state, number(1))
    with pytest.raises(
        RuntimeError, match=r"this tensor is dead: it was donated \(donate_argnums\)"
    ):
        state["w"].sum()


# --- every other tree is a value ---


def test_what_was_made_of_a_state_keeps_its_numbers():
    step = jit(advance, donate_argnums=0)
    state, _ = step(fresh(), number(0))
    leaf = state["layers"][1][0]
    made = {
        "array": leaf.asnumpy(),
        "np": np.asarray(leaf),
        "row": leaf[1],
        "transposed": leaf.T,
        "reshaped": leaf.reshape(-1),
        "view": leaf.view(-1),
        "copy": leaf.copy(),
        "data": leaf.data,
        "passed through": jit(unchanged)({"x": leaf, "y": number(9)})["x"],
        "computed": leaf + 0,
        "numbers": leaf.tolist(),
        "rows": list(leaf),
    }
    before = {name: np.array(tree.map(np.array, value)) for name, value in made.items()}
    for i in range(3):
        state, _ = step(state, number(i))
    for name, value in made.items():
        np.testing.assert_array_equal(np.array(tree.map(np.array, value)), before[name], name)
    assert not np.array_equal(state["layers"][1][0].asnumpy(), before["array"])


def unchanged(node):
    return node


def test_no_method_of_a_leaf_gives_its_memory_away():
    """All methods that need no argument, and those of a shape: an upgrade may bring new ones."""
    state, _ = jit(advance, donate_argnums=0)(fresh(), number(0))
    leaf, shape = state["w"], (3, 2)
    mine = Tensor._data_ptr(leaf)
    seen = 0
    for name in dir(Tensor):
        if name.startswith(CHANGING) or name.endswith("_"):
            continue
        for arguments in ((), (shape,), (0,), (1, 0), (leaf,), (ms.float32,)):
            for found in results(leaf, name, arguments):
                seen += 1
                assert found is leaf or memory_of(found) != mine, f"{name}{arguments}"
    assert seen > 300


# What changes a tensor, waits for other processes, or is not for users.
CHANGING = (
    "_",
    "assign",
    "init",
    "move",
    "offload",
    "pin",
    "register",
    "remove",
    "requires",
    "retain",
    "set",
    "share",
    "to_dlpack",
)


def results(leaf, name, arguments) -> list:
    """The tensors and arrays that a method gives, if it takes these arguments."""
    try:
        found = getattr(leaf, name)
        found = found(*arguments) if callable(found) else found
        parts = found if isinstance(found, (tuple, list)) else (found,)
        return [part for part in parts if isinstance(part, (Tensor, np.ndarray)) and part.size]
    except Exception:  # most methods want other arguments
        return []


def memory_of(found) -> int:
    if isinstance(found, np.ndarray):
        return found.__array_interface__["data"][0]
    return Tensor._data_ptr(found)


def test_the_arguments_of_the_first_call_are_not_overwritten():
    base = tensor(4, 3, seed=5)
    array, whole = np.float32([1, 2, 3]), base.asnumpy().copy()
    step = jit(add, donate_argnums=0)
    state = {"view": base[1], "array": array}
    for _ in range(3):
        state = step(state)
    np.testing.assert_array_equal(array, [1, 2, 3])
    np.testing.assert_array_equal(base.asnumpy(), whole)
    np.testing.assert_array_equal(state["array"].asnumpy(), [4, 5, 6])
    np.testing.assert_allclose(state["view"].asnumpy(), whole[1] + 3, rtol=1e-6)


def add(state):
    return tree.map(plus_one, state)


def plus_one(leaf):
    return leaf + 1.0


def test_two_states_in_turn_through_one_function():
    step, one, two = jit(advance, donate_argnums=0), fresh(), fresh()
    two["w"] = two["w"] * 3.0
    wanted = [fresh(), {**fresh(), "w": fresh()["w"] * 3.0}]
    for i in range(3):
        (one, _), (two, _) = step(one, number(i)), step(two, number(i))
        wanted = [advance(node, number(i))[0] for node in wanted]
        assert_close([one, two], wanted, rtol=1e-6, atol=1e-6)


def test_one_leaf_of_a_state_replaced():
    step = jit(advance, donate_argnums=0)
    state, _ = step(fresh(), number(0))
    wanted = tree.map(np.array, arrays(state))
    state = {**state, "count": Tensor(40, ms.int32)}
    state, _ = step(state, number(1))
    assert int(state["count"]) == 41
    np.testing.assert_allclose(state["w"].asnumpy(), wanted["w"] * 0.5 + number(1).asnumpy())


def test_from_one_function_to_another_and_back():
    first, second = jit(advance, donate_argnums=0), jit(advance, donate_argnums=0)
    state, wanted = fresh(), fresh()
    for i in range(4):
        state, _ = (first, second)[i % 2](state, number(i))
        wanted, _ = advance(wanted, number(i))
        assert_close(state, wanted, rtol=1e-6, atol=1e-6)


def test_several_arguments_and_what_stays():
    fast = jit(two_trees, donate_argnums=(0, -1), static_argnames="scale")
    params, moments = {"w": number(1)}, {"w": number(2)}
    wanted = two_trees({"w": number(1)}, number(3), {"w": number(2)}, scale=2.0)
    seen = fast(params, number(3), moments, scale=2.0)
    assert_close(seen, wanted, rtol=1e-6, atol=1e-6)
    assert type(params["w"]) is type(moments["w"]) is Donated
    assert type(seen[0]["w"]) is type(seen[1]["w"]) is Resident


def two_trees(params, x, moments, *, scale):
    new = {"w": params["w"] + scale * moments["w"] * x.sum()}
    return new, {"w": moments["w"] * 0.5}, x


def swap(state):
    return {"a": state["b"], "b": state["a"]}


def test_leaves_that_change_places_and_nothing_else():
    step, state = jit(swap, donate_argnums=0), {"a": number(1), "b": number(2)}
    for i in range(3):
        state = step(state)
        assert_close(state, {"a": number(1 + (i + 1) % 2), "b": number(1 + i % 2)})


# --- refused ---


def test_one_tensor_at_two_places():
    x = number(1)
    for args in (({"a": x, "b": x},), ({"a": x, "b": number(2)}, x)):
        with pytest.raises(ValueError, match="one tensor stands at two places of the arguments"):
            jit(keep_first, donate_argnums=0)(*args)
    assert x.asnumpy().shape == (2, 3)
    step = jit(keep_first, donate_argnums=0)
    state = step({"a": number(1), "b": number(2)}, number(3))
    with pytest.raises(ValueError, match=r"jit\(keep_first\): one tensor stands at two"):
        step(state, state["a"])


def keep_first(state, x=None):
    return {"a": state["a"] + (0.0 if x is None else x), "b": state["b"]}


def loses_one(state):
    return {"a": state["a"] + state["b"]}


def test_a_leaf_without_a_result_is_named_and_lives():
    state = {"a": number(1), "b": number(2)}
    with pytest.raises(
        ValueError, match=r"jit\(loses_one\): the donated leaf at .*b is Float32 \(2"
    ):
        jit(loses_one, donate_argnums=0)(state)
    assert_close(state, {"a": number(1), "b": number(2)})


def fails(state):
    return {"a": ops.matmul(state["a"], state["a"])}


def test_a_call_that_fails_leaves_the_tree_alive():
    state = {"a": number(1)}
    with pytest.raises(RuntimeError, match="while compiling fails"):
        jit(fails, donate_argnums=0)(state)
    assert_close(state, {"a": number(1)})


def test_a_dynamic_leaf_cannot_be_donated():
    step = jit(swap, donate_argnums=0, dynamic={"a": (Dim("n"), None)})
    with pytest.raises(ValueError, match=r"jit: 0/a is donated and has a dynamic size"):
        step({"a": number(1), "b": number(2)})


# --- training ---


def language_loss(params, batch):
    return next_token_loss(llama.apply(params, TINY.config, batch["input_ids"]), batch["labels"])


def recomputed_loss(params, batch):
    logits = llama.apply(params, TINY.config, batch["input_ids"], recompute=True)
    return next_token_loss(logits, batch["labels"])


def loss_in_pieces(params, batch):
    logits = llama.factored(params, TINY.config, batch["input_ids"])
    return next_token_loss(logits, batch["labels"])


TINY = tiny_llama()
OPTIMIZERS = {
    "adamw": optim.adamw(1e-2),
    "clip, adamw, cosine": optim.chain(
        optim.clip_by_global_norm(0.5), optim.adamw(cosine(1e-2, total_steps=9), weight_decay=0.3)
    ),
    "uncorrected": optim.adamw(1e-3, bias_correction=False),
    "sgd": optim.sgd(0.1),
    "flatten": optim.flatten(optim.adamw(1e-2)),
    "adamw before another": optim.chain(optim.adamw(1e-2), optim.clip_by_global_norm(1e-3)),
}


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        *((name, language_loss) for name in OPTIMIZERS),
        *((name, recomputed_loss) for name in ("clip, adamw, cosine", "sgd")),
        *((name, loss_in_pieces) for name in ("clip, adamw, cosine", "sgd")),
    ],
)
def test_a_donated_training_step(monkeypatch, name, loss):
    """Also with layers and losses that have gradients of their own."""
    monkeypatch.setattr(cross_entropy, "PIECE", 500)
    optimizer = OPTIMIZERS[name]
    rng = np.random.default_rng(0)
    plain = train.train_step(loss, optimizer)
    fast = train.train_step(loss, optimizer, donate=True)
    params = tree.map(Tensor.copy, TINY.params)
    state, wanted = (train.init_state(node, optimizer) for node in (params, TINY.params))
    for _ in range(4):
        ids = rng.integers(1, 64, (2, 9)).astype(np.int32)
        batch = {"input_ids": ids, "labels": ids}
        state, said = fast(state, batch)
        wanted, wanted_said = plain(wanted, batch)
        # Adam divides by roots near zero, so the last bits of a gradient are seen in its updates.
        assert_close(said, wanted_said, rtol=2e-5, atol=1e-6)
        assert_close(state, wanted, rtol=1e-3, atol=2e-5)
    assert fast.compiles() == 1
    assert {type(leaf) for leaf in tree.leaves(state)} == {Resident}


@pytest.mark.parametrize("size", [3, 200], ids=["small", "large"])
@pytest.mark.parametrize("dtype", [ms.float32, ms.float16])
def test_kernels_that_overwrite_do_what_update_does(size, dtype):
    optimizer = optim.adamw(cosine(1e-2, total_steps=30), b1=0.8, b2=0.9, weight_decay=0.2)

    def step(state, grads, home=None):
        params, after = optim.step(optimizer, grads, state["optimizer"], state["params"], home)
        return {"params": params, "optimizer": after}, grads["w"].sum()

    slow, fast = jit(step), jit(step, donate_argnums=0, home="home")
    params = {"w": tensor(size, size, seed=1).astype(dtype), "b": tensor(7, seed=2)}
    state, wanted = (train.init_state(tree.map(Tensor.copy, params), optimizer) for _ in range(2))
    for i in range(20):
        grads = {"w": tensor(size, size, seed=i).astype(dtype), "b": tensor(7, seed=i)}
        state, _ = fast(state, grads)
        wanted, _ = slow(wanted, grads)
    tolerance = 2e-6 if dtype == ms.float32 else 2e-3
    assert_close(state, wanted, rtol=tolerance, atol=tolerance)


def late(state, grads, home=None):
    """Reads old numbers after they are overwritten."""
    params, after = optim.step(
        OPTIMIZERS["adamw"], grads, state["optimizer"], state["params"], home
    )
    old = {"norm": (state["params"]["w"] * 1.0).sum(), "mean": state["optimizer"]["mean"][0] + 0.0}
    return {"params": params, "optimizer": after}, old


def test_old_numbers_that_are_read_after_a_kernel_wrote():
    slow, fast = jit(late), jit(late, donate_argnums=0, home="home")
    state, wanted = (
        train.init_state({"w": tensor(200, 200)}, OPTIMIZERS["adamw"]) for _ in range(2)
    )
    for i in range(3):
        grads = {"w": tensor(200, 200, seed=i)}
        (state, seen), (wanted, said) = fast(state, grads), slow(wanted, grads)
        assert_close(seen, said, rtol=1e-4, atol=1e-4)


def backwards(state, grads, home=None):
    params, after = optim.step(
        OPTIMIZERS["adamw"], grads, state["optimizer"], state["params"], home
    )
    return {"a": 1.0 * grads["w"], "new": {"params": params, "optimizer": after}}


def test_a_home_wants_the_new_tree_first():
    state = train.init_state({"w": tensor(2, 2)}, OPTIMIZERS["adamw"])
    with pytest.raises(ValueError, match=r"jit\(backwards\): with home=..., the result is the new"):
        jit(backwards, donate_argnums=0, home="home")(state, {"w": tensor(2, 2)})
