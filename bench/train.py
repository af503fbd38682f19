"""Training in numbers: LoRA beside the full fine-tune and beside PEFT, `fit`, saving.

    python bench/train.py [lora] [peers] [fit] [save] [--peers-python python] [--tiny] [--rounds n]

`lora` and `peers` start each contestant in a process of its own. `peers` needs torch, transformers
and peft, in this Python or in the one of `--peers-python`, and leaves out what is not there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import contestant, high_water, in_turn, rounds_of, run_one

PARTS = ["lora", "peers", "fit", "save"]
# SmolLM2-135M at 2 x 512 tokens; and what a test can afford.
SMOLLM2 = {
    "layers": 30, "hidden": 576, "heads": 9, "kv_heads": 3, "intermediate": 1536, "vocab": 49152,
    "tied": 1, "batch": 2, "seq": 512,
}  # fmt: skip
TINY = {
    "layers": 2, "hidden": 32, "heads": 4, "kv_heads": 2, "intermediate": 48, "vocab": 64,
    "tied": 1, "batch": 2, "seq": 16,
}  # fmt: skip
RANK = 8


# --- LoRA beside the full fine-tune ---


def lora(size: dict[str, int], rounds: int) -> None:
    """Time and peak memory of a step of training, each way in a process of its own."""
    print(f"\na step of training of {words(size)}, AdamW, donated   (median s; peak MB)")
    print(f"{'':>20} {'first':>7} {'step':>7} {'ratio':>6} {'MB':>7} {'ratio':>6}   M trained")
    rows = {}
    for name, way in (("full fine-tune", "full"), (f"LoRA, rank {RANK}", "lora")):
        rows[name] = run_one(__file__, "lora", json.dumps(size), way, str(rounds))
    full = rows["full fine-tune"]
    for name, row in rows.items():
        step, memory = row["step"] / full["step"], row["megabytes"] / full["megabytes"]
        print(
            f"{name:>20} {row['first']:>7.1f} {row['step']:>7.3f} {step:>6.2f} "
            f"{row['megabytes']:>7.0f} {memory:>6.2f} {row['millions']:>11.3f}",
            flush=True,
        )


def one_lora(size: dict[str, int], way: str, rounds: int) -> dict[str, float]:
    """First call, median of later ones, peak above what the process held without a model."""
    from peers.lora_mfunc import parts

    import mfunc as mf

    before = high_water(reset=True)
    step, state, ids, frozen = parts(size, 0, RANK, way == "full")
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        state, metrics = step(state, ids, *frozen)
        float(metrics["loss"])
        times.append(time.perf_counter() - began)
    return {
        "first": times[0],
        "step": statistics.median(times[1:]),
        "megabytes": high_water() - before,
        "millions": mf.spec.size(state["params"]) / 1e6,
    }


# --- LoRA beside PEFT ---

CONTESTANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "mfunc": ("lora_mfunc", {}),
    "PyTorch + PEFT": ("lora_peft", {}),
}


def peers(size: dict[str, int], python: str, rounds: int) -> None:
    """A LoRA step of the same weights, adapter and batch: every contestant in turn, medians."""
    print(f"\na LoRA step (rank {RANK}) of {words(size)}, AdamW   (median s, mfunc / peer)")
    with contextlib.ExitStack() as stack:
        running = {}
        for name, (module, settings) in CONTESTANTS.items():
            mine = sys.executable if name == "mfunc" else python
            found = stack.enter_context(contestant(mine, module, size, {"rank": RANK, **settings}))
            if found:
                running[name] = found
        times, losses = rounds_of(running, rounds + 1)
    ours = statistics.median(times["mfunc"][1:])
    for name, (_, begun) in running.items():
        median = statistics.median(times[name][1:])
        print(
            f"{name:>16} {median:>8.3f} {ours / median:>6.2f}   first call {begun['first']:5.1f}   "
            f"loss {begun['loss']:.5f} -> {losses[name]:.5f}"
        )
    for name in CONTESTANTS.keys() - running.keys():
        print(f"{name:>16} not installed")


# --- fit ---


def fit(size: dict[str, int], rounds: int) -> None:
    """What `fit` adds to a step: of a step that does nothing, and of a real one in turn."""
    from peers.lora_mfunc import parts

    import mfunc as mf

    count = 1000
    nothing = {"loss": 1.0, "tokens": 1.0}

    def idle(state: Any, batch: Any) -> tuple[Any, dict[str, float]]:
        return state, nothing

    bare, bar, silent = in_turn(
        [
            lambda: bare_loop(idle, None, count),
            lambda: fit_loop(idle, None, count, progress=True),
            lambda: fit_loop(idle, None, count, progress=False),
        ],
        rounds,
    )
    step, state, ids, frozen = parts(size, 0, RANK, False)
    state, _ = step(state, ids, *frozen)
    states = {"state": state}

    def real(_: Any, batch: Any) -> tuple[Any, dict[str, float]]:
        states["state"], metrics = step(states["state"], ids, *frozen)
        return None, metrics

    (median,) = in_turn([lambda: bare_loop(real, None, 1)], rounds)
    print(f"\nfit over a bare loop, beside a LoRA step of {words(size)}: {median:.1f} ms")
    print(f"{'':>16} {'us a step':>10} {'of the step':>12}")
    for name, loop in (("with a bar", bar), ("without", silent)):
        added = 1e3 * (loop - bare) / count
        print(f"{name:>16} {added:>10.1f} {added / 1e3 / median:>11.3%}")
    mf.tree.leaves(states["state"])


def bare_loop(step: Any, state: Any, count: int) -> None:
    """What one writes without `fit`."""
    for batch in range(count):
        state, metrics = step(state, batch)
        float(metrics["loss"])


def fit_loop(step: Any, state: Any, count: int, *, progress: bool) -> None:
    """The same by `fit`."""
    import mfunc as mf

    with quiet():
        for _ in mf.fit(step, state, range(count), total=count, progress=progress):
            pass


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Bars go where nobody sees them."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


# --- saving ---


def save(size: dict[str, int], rounds: int) -> None:
    """`mf.save` of all parameters beside writing as many bytes, both with fsync."""
    from peers.llama_mfunc import config_of

    import mfunc as mf

    params = mf.nn.llama.init(mf.random.key(0), config_of(size))
    megabytes = mf.spec.size(params) * 4 / 1e6
    content = os.urandom(1 << 20) * max(1, round(megabytes * 1e6 / (1 << 20)))
    with tempfile.TemporaryDirectory(dir=".") as folder:
        place = Path(folder)
        ours, disk = in_turn(
            [
                lambda: mf.save(place / "params.safetensors", params),
                lambda: write_synced(place / "bytes", content),
            ],
            rounds,
        )
    print(f"\nsaving {megabytes:,.1f} MB, with fsync   (median s, MB/s, of the disk's speed)")
    for name, milliseconds in (("mf.save", ours), ("bytes", disk)):
        speed = megabytes / milliseconds * 1e3
        print(f"{name:>16} {milliseconds / 1e3:>8.3f} {speed:>8.0f} {disk / milliseconds:>6.2f}")


def write_synced(path: Path, content: bytes) -> None:
    """Write bytes and wait for the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def words(size: dict[str, int]) -> str:
    """A size for a title."""
    return "{layers} layers of {hidden}, vocabulary {vocab:,}, {batch} x {seq} tokens".format(
        **size
    )


def main() -> None:
    """All parts or those asked for; or one measurement that a part asked for."""
    sys.path.insert(0, str(Path(__file__).parent))
    if sys.argv[1:2] == ["one"]:
        _, size, way, rounds = sys.argv[2:]
        print(json.dumps(one_lora(json.loads(size), way, int(rounds))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--tiny", action="store_true", help="a size that takes no time")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    size, parts = TINY if options.tiny else SMOLLM2, options.parts or PARTS
    print(f"{os.cpu_count()} processors")
    if "lora" in parts:
        lora(size, options.rounds)
    if "peers" in parts:
        peers(size, options.peers_python, options.rounds)
    if "fit" in parts:
        fit(size, options.rounds)
    if "save" in parts:
        save(size, options.rounds)


if __name__ == "__main__":
    main()
