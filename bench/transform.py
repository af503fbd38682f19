"""Transforms in numbers: what a call costs, a training step beside its peers, depth.

    python bench/transform.py [calls] [updates] [steps] [depth] [memory] [--peers-python python]

`steps` starts each contestant in a process of its own and lets them step in turn; it needs jax and
torch, in this Python or in the one of `--peers-python`, and leaves out what is not there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import updates
from measure import contestant, in_turn, rounds_of, run_one

PARTS = ["calls", "updates", "steps", "depth", "memory"]
SIZES = {
    "4 layers of 256, 4 x 256 tokens": {
        "layers": 4, "hidden": 256, "heads": 4, "kv_heads": 4, "intermediate": 688, "vocab": 2000,
        "batch": 4, "seq": 256,
    },
    "4 layers of 768, 2 x 512 tokens": {
        "layers": 4, "hidden": 768, "heads": 12, "kv_heads": 12, "intermediate": 2048,
        "vocab": 8000, "batch": 2, "seq": 512,
    },
}  # fmt: skip
CONTESTANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "mfunc": ("llama_mfunc", {}),
    "nn.Cell, graph": ("llama_cell", {}),
    "JAX jit": ("llama_jax", {}),
    "PyTorch eager": ("llama_torch", {}),
    "torch.compile": ("llama_torch", {"compiled": True}),
}


# --- what a call costs ---


def calls() -> None:
    """A step that does nothing to a tree, beside `ms.jit` of the same flat tensors."""
    import mindspore as ms
    import numpy as np

    import mfunc as mf
    from mfunc import staging

    print("\na call of n leaves, [4, 4] each, that adds the first two   (ms)")
    print(f"{'leaves':>8} {'ms.jit':>9} {'mfunc':>9} {'ratio':>7}")
    for count in (10, 100, 900):
        leaves = [ms.Tensor(np.full((4, 4), i, np.float32)) for i in range(count)]
        names = staging.listed([f"a{i}" for i in range(count)])
        raw = ms.jit(staging.write("raw", f"def raw({names}):\n    return a0 + a1"))
        node = {"a": leaves[0], "b": {"c": leaves[1], "rest": tuple(leaves[2:])}}
        ours = mf.jit(add_two)
        theirs, mine = in_turn(
            [lambda raw=raw, leaves=leaves: raw(*leaves), lambda ours=ours, node=node: ours(node)],
            200,
        )
        print(f"{count:>8} {theirs:>9.3f} {mine:>9.3f} {mine / theirs:>7.2f}")


def add_two(node):  # type: ignore[no-untyped-def]
    """The same for a tree."""
    return node["a"] + node["b"]["c"]


# --- a step beside its peers ---


def steps(python: str, rounds: int = 15) -> None:
    """Value and gradient of a LLaMA: every contestant in turn, medians."""
    for title, size in SIZES.items():
        with contextlib.ExitStack() as stack:
            running = {}
            for name, (module, settings) in CONTESTANTS.items():
                mine = sys.executable if "mfunc" in name or "Cell" in name else python
                found = stack.enter_context(contestant(mine, module, size, settings))
                if found:
                    running[name] = found
            done = rounds_of(running, rounds)
        ours = statistics.median(done["mfunc"].seconds[2:])
        print(f"\n{title}: loss and gradients   (median s, mfunc / peer)")
        for name, (_, begun) in running.items():
            median = statistics.median(done[name].seconds[2:])
            said = "   first call {first:5.1f}   loss {loss:.5f}".format(**begun)
            print(f"{name:>16} {median:>8.3f} {ours / median:>6.2f}{said}")
        for name in CONTESTANTS.keys() - running.keys():
            print(f"{name:>16} not installed")


# --- depth ---


def depth() -> None:
    """Compile time and memory against the number of layers, each in a fresh process."""
    print("\nlayers of 64, 4 x 128 tokens: first call and step (s), memory of the first call (MB)")
    print(f"{'layers':>8} {'first':>8} {'step':>8} {'MB':>7}   recomputed: first, step, MB")
    for layers in (2, 4, 8, 16, 32):
        rows = [run_one(__file__, str(layers), way) for way in ("kept", "recomputed")]
        kept, again = ("{first:>8.2f} {step:>8.3f} {megabytes:>7.0f}".format(**row) for row in rows)
        print(f"{layers:>8} {kept}   {again}", flush=True)


def one(layers: int, way: str) -> None:
    """One row of the table."""
    sys.path.insert(0, str(Path(__file__).parent))
    import mindspore as ms
    import numpy as np
    from peers.llama_mfunc import config_of, loss_of

    import mfunc as mf

    size = {**SIZES["4 layers of 256, 4 x 256 tokens"], "layers": layers, "hidden": 64,
            "intermediate": 172, "vocab": 256}  # fmt: skip
    config = config_of(size)
    params = mf.nn.llama.init(mf.random.key(0), config)
    ids = ms.Tensor(np.zeros((4, 128), np.int32))
    step = mf.jit(mf.value_and_grad(loss_of(config, way == "recomputed")))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    float(step(params, ids)[0])
    first = time.perf_counter() - began
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    later = in_turn([lambda: float(step(params, ids)[0])], 8)[0] / 1e3
    print(json.dumps({"first": first, "step": later, "megabytes": megabytes}))


def main() -> None:
    """Run the parts that are asked for, by default all."""
    if sys.argv[1:2] == ["one"]:
        one(int(sys.argv[2]), sys.argv[3])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--peers-python", default=sys.executable)
    options = parser.parse_args()
    parts = options.parts or PARTS
    print(f"{os.cpu_count()} processors")
    if "calls" in parts:
        calls()
    if "updates" in parts:
        updates.table(options.peers_python)
    if "steps" in parts:
        steps(options.peers_python)
    if "depth" in parts:
        depth()
    if "memory" in parts:
        updates.memory()


if __name__ == "__main__":
    main()
