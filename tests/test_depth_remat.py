"""`remat`: the same numbers as without, in less memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor, ops
from tests import models
from tests.models import TINY
from tests.trees import assert_close, tensor

from mfunc.batching import vmap
from mfunc.depth import remat
from mfunc.gradient import grad, value_and_grad
from mfunc.nn import llama
from mfunc.products import jvp
from mfunc.transform import jit

NUMBERS = Tensor(np.int32([2, 3]))


def layer(params, kind, x, numbers):
    """Containers, a constant, whole numbers, an unused leaf, and results of all sorts."""
    y = x @ params["w"] + params["b"][0]
    y = ops.tanh(y) if kind == "bent" else y * 0.5
    return {"y": y, "numbers": numbers + 1, "mean": [x.mean(), None], "kind": kind}


def network(fn):
    def loss(params, x, numbers):
        for i in range(len(params)):
            out = fn(params[i], "bent" if i % 2 else "plain", x, numbers)
            x, numbers = out["y"] + out["mean"][0], out["numbers"]
        return (x * x).sum() * numbers.sum()

    return loss


def layers(seed: int) -> tuple:
    return tuple(
        {
            "w": tensor(4, 4, seed=seed + i),
            "b": (tensor(4, seed=seed + i + 9), None),
            "u": tensor(2),
        }
        for i in range(3)
    )


plain, again = network(layer), network(remat(layer))


@pytest.mark.parametrize("argnums", [0, 1, (0, 1)])
def test_the_same_value_and_gradients(argnums):
    """Three parameter trees through one graph, which equals the eager function."""
    fast = jit(value_and_grad(again, argnums))
    for seed in (1, 20, 40):
        args = layers(seed), tensor(2, 4, seed=seed), NUMBERS
        assert_close(fast(*args), value_and_grad(plain, argnums)(*args), rtol=2e-5, atol=1e-5)
        assert_close(fast(*args), jit(value_and_grad(plain, argnums))(*args), rtol=1e-6, atol=1e-6)
    assert fast.compiles() == 1


def test_views_enter_whole():
    fast, params = jit(grad(again)), layers(1)
    turned = tuple({**p, "w": Tensor(p["w"].asnumpy().T.copy()).T} for p in params)
    assert_close(fast(turned, tensor(2, 4), NUMBERS), fast(params, tensor(2, 4), NUMBERS))


def scaled(w, numbers, x):
    return x @ w * numbers["scale"] + numbers["count"]


def test_numbers_that_are_traced_have_no_gradient():
    """As the scale of a LoRA that is laid outside of the compiled function."""

    def loss(w, numbers, x):
        return remat_scaled(w, numbers, x).sum()

    remat_scaled = remat(scaled)
    fast = jit(value_and_grad(loss))
    for scale in (2.0, 3.0):
        value, given = fast(tensor(2, 2), {"scale": scale, "count": 1}, Tensor([[1.0, 1.0]]))
        assert_close(given, Tensor(np.full((2, 2), scale, np.float32)))
        wanted = scale * tensor(2, 2).asnumpy().sum() + 2
        np.testing.assert_allclose(float(value), wanted, rtol=1e-6)
    assert fast.compiles() == 1


def test_outside_of_a_graph_it_is_the_function():
    args = layers(1)[0], "bent", tensor(2, 4), NUMBERS
    assert_close(remat(layer)(*args)["y"], layer(*args)["y"])
    eager = value_and_grad(again)(layers(1), tensor(2, 4), NUMBERS)
    assert_close(eager, value_and_grad(plain)(layers(1), tensor(2, 4), NUMBERS))


def cubed(x):
    return x * x * x


thrifty = remat(cubed)


def sum_of_cubes(x):
    return thrifty(x).sum()


def mapped(x):
    return vmap(thrifty)(x)


def slope_of_slope(x):
    return grad(slopes)(x)


def slopes(x):
    return grad(sum_of_cubes)(x).sum()


def along(x, v):
    return jvp(thrifty, (x,), (v,))[1]


def each_slope(x):
    return vmap(grad(sum_of_cubes))(x)


def test_composed():
    x, v = tensor(5, 3, seed=1), tensor(5, 3, seed=2)
    assert_close(jit(mapped)(x), x * x * x, rtol=1e-6)
    assert_close(jit(slope_of_slope)(x), 6 * x, rtol=1e-5)
    assert_close(jit(along)(x, v), 3 * x * x * v, rtol=1e-5, atol=1e-6)


def test_gradients_of_each_example_are_refused_by_mindspore():
    """It cannot map a custom gradient; when it can, this fails and `remat` should say so."""
    with pytest.raises(RuntimeError, match="AbstractNone"):
        jit(each_slope)(tensor(5, 3))


def made_inside(x):
    return remat(cubed)(x).sum()


def test_made_inside_of_a_graph_it_is_refused():
    with pytest.raises(TypeError, match=r"remat: make remat.fn. outside of the compiled function"):
        jit(made_inside)(tensor(3))


def llama_loss(recompute):
    def loss(params, batch):
        logits = llama.apply(
            params, TINY, batch["input_ids"], segment_ids=batch["segment_ids"], recompute=recompute
        )
        return (logits * logits).mean()

    return loss


def test_a_llama_recomputed():
    kept, computed = (jit(value_and_grad(llama_loss(flag))) for flag in (False, True))
    batch = {
        "input_ids": Tensor(np.arange(16, dtype=np.int32).reshape(2, 8)),
        "segment_ids": Tensor(np.int32([[1] * 8, [1] * 3 + [2] * 5])),
    }
    for seed in (0, 1, 2):
        params = models.params(seed)
        assert_close(computed(params, batch), kept(params, batch), rtol=1e-5, atol=1e-6)


def halved(x, really=True):
    return x * 0.5 if really else x


def halved_when_told(x, really):
    return x * 0.5 if really else x


def by_default(x):
    return halved((x * x).sum())


def by_argument(x):
    return halved_when_told((x * x).sum(), True)


def test_an_if_beside_default_arguments_is_refused_with_advice():
    """MindSpore's own refusal: the custom gradient of a cell loses the branch that was decided."""
    x = tensor(3)
    assert_close(jit(grad(remat(by_argument)))(x), x)
    with pytest.raises(RuntimeError, match="a function that has an `if` and default arguments"):
        jit(grad(remat(by_default)))(x)


MEMORY = """
import re
import sys
from pathlib import Path
import mindspore as ms
import numpy as np
import mfunc as mf
from mfunc.nn import llama

recompute = sys.argv[1] == "again"
config = llama.Config(vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=12,
                      num_attention_heads=4)
params = llama.init(mf.random.key(0), config)


def ids(length):
    return ms.Tensor(np.zeros((4, length), np.int32))


def loss(params, ids):
    return llama.apply(params, config, ids, recompute=recompute).mean()


def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))


step = mf.jit(mf.value_and_grad(loss))
step(params, ids(16))
Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
before = peak()
float(step(params, ids(384))[0])
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from /proc")
def test_memory_falls(tmp_path):
    """12 layers keep 12 inputs and the inside of one layer, instead of the inside of 12."""
    script = tmp_path / "memory.py"
    script.write_text(MEMORY)

    def kilobytes(way):
        done = subprocess.run(
            [sys.executable, str(script), way], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert 0 < kilobytes("again") < 0.6 * kilobytes("kept")
