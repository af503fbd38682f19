"""Random programs: layers of random operators over random trees, as source the compiler can read.

A program is text, so that what failed can be read, run and made smaller by hand.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from mindspore import Tensor, ops
from mindspore.ops import operations as P

from mfunc import staging
from mfunc.depth import block, remat

ROWS, COLUMNS = 3, 4
# {a} and {b} are values [R, C], {w} is a weight [C, C], {v} a vector [C]; all keep the shape, and
# none lets numbers grow.
OPERATIONS = (
    "ops.tanh({a})", "ops.sin({a})", "ops.sigmoid({a}) * {b}", "{a} * 0.5 + 1.0", "-{a}",
    "relu({a}) - 0.1 * {b}", "softmax({a})", "ops.exp(-{a} * {a})", "{a} + {b}",
    "{a} * ops.tanh({b})", "{a} - {b} * 0.3", "ops.tanh({a} @ {w})", "{a} * {v} * 0.7",
    "ops.tanh({a} @ {w}.T) + {v}", "{a} / ({b} * {b} + 1.0)", "ops.sqrt({a} * {a} + 0.5)",
    "{a} - {a}.mean(-1, keep_dims=True)", "ops.cat(({a}[:, 2:], {b}[:, :2]), 1)",
    "ops.stack(ops.unbind({a}, 1)[::-1], 1)", "ops.where({a} > {b}, {a}, ops.tanh({b}))",
    "ops.maximum({a}, 0.3 * {b})", "{a}.reshape((-1, 2, 2)).reshape((-1, 4)) + {b}",
    "ops.tanh({a}.swapaxes(0, 1)).swapaxes(0, 1)", "ops.stop_gradient({a}) * {b} * 0.5",
    "ops.log1p({a} * {a})", "ops.tanh({a} * {a}.sum()) + 0.1 * {b}",
)  # fmt: skip
# How a layer keeps its two parameters, and how each is reached.
TREES = (
    ({"w": "w", "v": "v"}, "p['w']", "p['v']"),
    ({"in": {"w": "w"}, "b": ("v", None)}, "p['in']['w']", "p['b'][0]"),
    (["v", ("w",)], "p[1][0]", "p[0]"),
    ({"10": "w", "9": ["v", {}]}, "p['10']", "p['9'][0]"),
)
RESULTS = (
    ("{a}, {b}", "out[0]", "out[1]"),
    ("{{'a': {a}, 'b': ({b}, None)}}", "out['a']", "out['b'][0]"),
    ("[{b}, {{'z': {a}}}]", "out[1]['z']", "out[0]"),
)


def layer_text(draw: random.Random, number: int, tree: Any) -> tuple[str, tuple[str, str]]:
    """Return the source of a layer, and how its two results are reached."""
    _, w, v = tree
    names, lines = ["x", "y"], []
    for i in range(draw.randint(1, 4)):
        a, b = draw.choice(names), draw.choice(names)
        lines.append(f"    t{i} = " + draw.choice(OPERATIONS).format(a=a, b=b, w=w, v=v))
        names.append(f"t{i}")
    result, first, second = draw.choice(RESULTS)
    returned = result.format(a=names[-1], b=draw.choice(names))
    text = [f"def layer{number}(p, x, y):", *lines, f"    return {returned}"]
    mark = draw.choice(["", f"layer{number} = block(layer{number})"] * 2
                       + [f"layer{number} = remat(layer{number})"])  # fmt: skip
    return "\n".join([*text, mark]), (first, second)


def program(seed: int, remats: bool = True) -> tuple[Any, Any, str]:
    """Return `loss(params, x, y)`, the containers of its parameters, and its source."""
    draw = random.Random(seed)
    trees = [draw.choice(TREES) for _ in range(draw.randint(1, 3))]
    layers = [layer_text(draw, i, tree) for i, tree in enumerate(trees)]
    lines = []
    for _ in range(draw.randint(1, 4)):
        i = draw.randrange(len(layers))  # a layer may come more than once: shared weights
        first, second = layers[i][1]
        lines += [
            f"    out = layer{i}(params['layers'][{i}], x, y)",
            f"    x, y = {first}, {second} + 0.5 * x",
        ]
    text = "\n".join(
        [
            *[source for source, _ in layers],
            "def loss(params, x, y):",
            *lines,
            "    return (x * x).mean() + (y * params['scale']).sum() * 0.1",
        ]
    )
    text = text if remats else text.replace("= remat(", "= block(")
    fn = staging.write(
        "loss", text, ops=ops, block=block, remat=remat, relu=P.ReLU(), softmax=P.Softmax()
    )
    return fn, {"layers": tuple(tree[0] for tree in trees), "scale": "s"}, text


def params_of(shapes: Any, seed: int) -> Any:
    """Fill the containers: weights and vectors, each of them a view of a larger tensor or whole."""
    rng = np.random.default_rng(seed)
    sizes = {"w": (COLUMNS, COLUMNS), "v": (COLUMNS,), "s": ()}

    def fill(node: Any) -> Any:
        if isinstance(node, str):
            return maybe_view(rng, sizes[node])
        if isinstance(node, dict):
            return {key: fill(child) for key, child in node.items()}
        return node if node is None else type(node)([fill(child) for child in node])

    return fill(shapes)


def maybe_view(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    """Draw numbers; two of three times they look into the memory of another tensor."""
    numbers = np.asarray(0.5 * rng.standard_normal(shape), np.float32)
    kind = rng.integers(3)
    if kind == 1:
        return Tensor(np.stack([np.full_like(numbers, 7), numbers]))[1]
    if kind == 2 and len(shape) == 2:
        return Tensor(np.ascontiguousarray(numbers.T)).T
    return Tensor(numbers)
