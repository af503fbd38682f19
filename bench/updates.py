"""An update of AdamW in numbers: its time beside PyTorch's, and the memory of a whole step.

python bench/updates.py [--peers-python python]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from measure import high_water, in_turn, run_one

SIZE = {
    "layers": 12, "hidden": 768, "heads": 12, "kv_heads": 12, "intermediate": 2048, "vocab": 10000,
}  # fmt: skip


def table(python: str) -> None:
    """AdamW alone, gradients given: pure, donated beside its bare kernels, and PyTorch's."""
    print("\nAdamW, gradients given   (median ms a step; kernels: MindSpore's alone, in turn with")
    print("the donated step; over: what the step takes beside them)")
    heads = ("pure", "donated", "kernels", "over", *PEER_WAYS)
    print(f"{'leaves':>26}" + "".join([f" {head:>9}" for head in heads]))
    for count, width in ((300, 4), (30, 1024)):
        pure, donated = (run_one(__file__, "update", str(count), str(width), way) for way in WAYS)
        over = donated["ms"] - donated["kernels"]
        numbers = [pure["ms"], donated["ms"], donated["kernels"], over]
        peers = peer_updates(python, count, width)
        said = "".join([f" {number:>9.1f}" for number in numbers])
        said += "".join([f" {peers[way]:>9.1f}" if peers else "         -" for way in PEER_WAYS])
        title = f"{count} of [{width}, {width}]"
        print(f"{title:>26}{said}", flush=True)


WAYS, PEER_WAYS = ("pure", "donated"), ("foreach", "fused")

PEER_UPDATE = """
import json, sys, time, torch
count, width = int(sys.argv[1]), int(sys.argv[2])
said = {}
for way in ("foreach", "fused"):
    params = [torch.nn.Parameter(torch.randn(width, width)) for _ in range(count)]
    for param in params:
        param.grad = torch.randn(width, width)
    optimizer = torch.optim.AdamW(params, **{way: True})
    times = []
    for _ in range(13):
        began = time.perf_counter()
        optimizer.step()
        times.append(time.perf_counter() - began)
    said[way] = 1e3 * sorted(times[3:])[5]
print(json.dumps(said))
"""


def peer_updates(python: str, count: int, width: int) -> dict[str, float] | None:
    """PyTorch's times, or `None` where it is not installed."""
    command = [python, "-c", PEER_UPDATE, str(count), str(width)]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    return json.loads(found.stdout) if found.returncode == 0 else None


def one_update(count: int, width: int, way: str) -> dict[str, float]:
    """Milliseconds of an update of `count` leaves."""
    import mindspore as ms

    import mfunc as mf

    optimizer = mf.optim.adamw(1e-3)
    keys = mf.random.split(mf.random.key(0), count)
    params = tuple([mf.random.normal(key, (width, width)) for key in keys])
    grads = mf.tree.map(ms.Tensor, params)
    state = mf.train.init_state(params, optimizer)

    def update(state, grads, home=None):  # type: ignore[no-untyped-def]
        new, after = mf.optim.step(optimizer, grads, state["optimizer"], state["params"], home)
        return {"params": new, "optimizer": after}, after["count"] * 1.0

    donated = way == "donated"
    step = mf.jit(update, donate_argnums=0, home="home") if donated else mf.jit(update)

    def run() -> None:
        nonlocal state
        state, said = step(state, grads)
        float(said)

    if not donated:
        return {"ms": in_turn([run], 10)[0]}
    mine, kernels = in_turn([run, bare_kernels(grads, mf.optim.in_place.LARGE)], 40)
    return {"ms": mine, "kernels": kernels}


def bare_kernels(grads: Any, large: int) -> Any:
    """The kernels of a donated step in a graph of their own, all tensors resident."""
    import mindspore as ms
    from mindspore.ops import operations as P

    from mfunc import staging

    given, lines, names = {"plain": P.Adam(), "decaying": P.AdamWeightDecay()}, [], []
    for i, grad in enumerate(grads):
        names = [f"{kind}{i}" for kind in ("param", "mean", "square", "grad")]
        for name in names:
            number = 1.0 if name.startswith("square") else 0.0
            start = grad if name.startswith("grad") else ms.ops.full_like(grad, number)
            given[name] = ms.Parameter(ms.Tensor(start.asnumpy().copy()), name=name)
        param, mean, square, grad_name = names
        if grad.size >= large:
            lines.append(f"    {param}.mul_(0.99999)")
            said = "0.1, 0.001, 1e-3, 0.9, 0.999, 1e-8"
            lines.append(f"    plain({param}, {mean}, {square}, {said}, {grad_name})")
        else:
            said = "1e-3, 0.9, 0.999, 1e-8, 0.01"
            lines.append(f"    decaying({param}, {mean}, {square}, {said}, {grad_name})")
    body = "\n".join([*lines, f"    return {names[-1]} + 1.0"])
    graph = ms.jit(staging.write("bare", f"def bare():\n{body}", **given))
    return lambda: graph().asnumpy()


def memory() -> None:
    """Peak memory of a training step of 100 million parameters."""
    ways = ("gradients", "donated", "pure")
    peaks = {way: run_one(__file__, "memory", way)["megabytes"] for way in ways}
    millions = run_one(__file__, "memory", "count")["millions"]
    held = 4 * millions
    activations = peaks["gradients"] - 2 * held  # parameters and gradients beside them
    wanted = 4 * held + activations
    print(
        f"\nmemory of an AdamW step, {millions:.0f} M parameters: {held:.0f} MB each of parameters,"
    )
    print(
        f"two moments, gradients; compiler and activations {activations:.0f} MB   (MB, / their sum)"
    )
    for way in ways:
        print(f"{way:>16} {peaks[way]:>9.0f} {peaks[way] / wanted:>6.2f}")


def one_memory(way: str) -> dict[str, float]:
    """Peak above what the process held before it had a model, in MB."""
    sys.path.insert(0, str(Path(__file__).parent))
    import mindspore as ms
    import numpy as np
    from peers.llama_mfunc import config_of, loss_of

    import mfunc as mf

    config, optimizer = config_of(SIZE), mf.optim.adamw(1e-3)
    if way == "count":
        return {"millions": mf.spec.size(mf.nn.llama.specs(config)) / 1e6}
    ids = ms.Tensor(np.ones((2, 64), np.int32))
    measure = loss_of(config)
    before = high_water(reset=True)
    state = mf.train.init_state(mf.nn.llama.init(mf.random.key(0), config), optimizer)
    if way == "gradients":
        only = mf.jit(mf.value_and_grad(measure))
        for _ in range(2):
            float(only(state["params"], ids)[0])
    else:
        step = mf.train_step(counted(measure), optimizer, donate=way == "donated")
        for _ in range(3):
            state, said = step(state, ids)
            float(said["loss"])
    return {"megabytes": high_water() - before}


def counted(measure: Any) -> Any:
    """A loss as `train_step` wants it."""

    def loss(params, ids):  # type: ignore[no-untyped-def]
        return measure(params, ids), ids.sum()

    return loss


def main() -> None:
    """Both parts, or one measurement that a part asked for."""
    if sys.argv[1:2] == ["one"]:
        kind, *rest = sys.argv[2:]
        found = one_memory(*rest) if kind == "memory" else one_update(*map(int, rest[:2]), rest[2])
        print(json.dumps(found))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers-python", default=sys.executable)
    table(parser.parse_args().peers_python)
    memory()


if __name__ == "__main__":
    main()
