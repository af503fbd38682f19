"""Training in numbers: LoRA beside the full fine-tune and beside PEFT, `fit`, saving.

    python bench/train.py [lora] [peers] [fit] [save] [--peers-python python] [--tiny] [--rounds n]

`lora` and `peers` start each contestant in a process of its own and let them step in turn. `peers`
needs torch, transformers and peft, in this Python or in the one of `--peers-python`, and leaves out
what is not there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import contestant, in_turn, rounds_of

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


# --- a step beside others ---

TABLES: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "lora": {
        "full fine-tune": ("lora_mfunc", {"full": True}),
        "LoRA": ("lora_mfunc", {}),
    },
    "peers": {
        "PyTorch + PEFT": ("lora_peft", {}),
        "mfunc": ("lora_mfunc", {}),
    },
}


def steps(part: str, size: dict[str, int], python: str, rounds: int) -> None:
    """A step of training of the same weights, adapter and batch: all in turn, medians.

    The memory is the peak of each process above what it held when it had only imported.
    """
    with contextlib.ExitStack() as stack:
        running = {}
        for name, (module, settings) in TABLES[part].items():
            mine = sys.executable if module == "lora_mfunc" else python
            found = stack.enter_context(contestant(mine, module, size, {"rank": RANK, **settings}))
            if found:
                running[name] = found
        done = rounds_of(running, rounds + 1)
    print(f"\na step of {words(size)}, LoRA of rank {RANK}, AdamW   (median s; peak MB)")
    print(f"{'':>16} {'step':>8} {'ratio':>6} {'memory':>8} {'ratio':>6}   first call, losses")
    first = next(iter(running))
    base = statistics.median(done[first].seconds[1:]), done[first].megabytes
    for name, (_, begun) in running.items():
        step, memory = statistics.median(done[name].seconds[1:]), done[name].megabytes
        print(
            f"{name:>16} {step:>8.3f} {step / base[0]:>6.2f} {memory:>8.0f} "
            f"{memory / base[1]:>6.2f}   {begun['first']:.1f}, "
            f"{begun['loss']:.5f} -> {done[name].loss:.5f}"
        )
    for name in TABLES[part].keys() - running.keys():
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
    """Run the parts that are asked for, by default all."""
    sys.path.insert(0, str(Path(__file__).parent))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--tiny", action="store_true", help="a size that takes no time")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    size, parts = TINY if options.tiny else SMOLLM2, options.parts or PARTS
    print(f"{os.cpu_count()} processors")
    for part in TABLES:
        if part in parts:
            steps(part, size, options.peers_python, options.rounds)
    if "fit" in parts:
        fit(size, options.rounds)
    if "save" in parts:
        save(size, options.rounds)


if __name__ == "__main__":
    main()
