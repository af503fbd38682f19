"""What docs/ says to write is run here."""

from __future__ import annotations

import contextlib
import io
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import ROOT

from mfunc.cli import main

DATA = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(python|console)\n(.*?)```\n(?:```text\n(.*?)```\n)?", re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
PADDING = (ROOT / "docs" / "padding.md").read_text(encoding="utf-8")
TRAINING = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "from_jax.md").read_text(encoding="utf-8")


def test_the_script_of_a_jax_user_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    loss, compiles, before, after = re.fullmatch(
        r"loss (\S+), (\d+) compile, norms (\S+) -> (\S+)\n", done.stdout
    ).groups()
    assert float(loss) < 0.1
    assert int(compiles) == 1
    assert 0 < float(after) < float(before)


def test_every_name_of_the_table_is_there():
    import mfunc as mf

    for name in set(re.findall(r"`mf\.([a-z_.]+)", PAGE)):
        value = mf
        for part in name.split("."):
            value = getattr(value, part)


# --- data.md: its blocks in their order ---


def runs(page: str) -> Iterator[tuple[str, str, str]]:
    """(what is run, what the page says it prints, what it prints), in the working folder."""
    names: dict[str, object] = {}
    for kind, code, text in BLOCK.findall(page):
        if kind == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(code, "data.md", "exec"), names)
            yield code, text, out.getvalue()
            continue
        for command, said in COMMAND.findall(code):
            program, *words = shlex.split(command.replace("\\\n", " "))
            with contextlib.redirect_stdout(io.StringIO()) as out:
                status = main(words)
            assert (program, status) == ("mfunc", int(words[1] == "diff")), command
            yield command, said, out.getvalue()


def timeless(text: str) -> str:
    """Without how long it took, and how much memory."""
    text = re.sub(r"(?<=^seconds  ).*$|(?<=^peak memory  ).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"\d+\.\d s$", "0.0 s", text, flags=re.MULTILINE)


def test_the_data_page_prints_what_it_says(shared):
    """With LLaMA's tokenizer, to the letter."""
    pytest.importorskip("matplotlib")
    Path("llama").mkdir()
    shutil.copy(shared / "data/tokenizers/llama/tokenizer.model", "llama")
    count = 0
    for code, said, printed in runs(DATA):
        assert timeless(printed) == timeless(said), code
        count += 1
    assert count == DATA.count("```python") + DATA.count("$ mfunc")
    packed = sorted(p.name for p in Path("finetune_dataset").glob("*.*"))
    assert [name for name in packed if not name.endswith("json")] == [
        f"alpaca_packed_{name}_document.{end}"
        for name in ("attention_mask", "input_ids", "labels")
        for end in ("bin", "idx")
    ]


def test_the_data_page_runs_with_another_tokenizer():
    """With a small one, so numbers and texts differ, but not what is printed at all."""
    engine = pytest.importorskip("sentencepiece")
    pytest.importorskip("matplotlib")
    Path("llama").mkdir()
    engine.SentencePieceTrainer.train(
        sentence_iterator=iter([*DATA.split("\n"), *DATA.split(". ")]), vocab_size=900,
        model_prefix="llama/tokenizer", model_type="bpe", byte_fallback=True, minloglevel=2,
        normalization_rule_name="identity", remove_extra_whitespaces=False, num_threads=1,
    )  # fmt: skip
    for code, said, printed in runs(DATA):
        assert bool(printed) == bool(said), code


def test_every_name_of_the_data_page_is_there():
    names = set(re.findall(r"`(mfunc\.[a-z_.]+[a-z])", DATA))
    names |= {f"mfunc.data.{name}" for name in re.findall(r"\bmd\.([A-Za-z_.]+\w)", DATA)}
    assert len(names) > 30
    for name in names:
        pkgutil.resolve_name(name)


def test_the_data_page_names_every_flag_of_the_pack_document(shared):
    (seed,) = shared.glob("seeds/003_*.txt")
    flags = set(re.findall(r"`(--[a-z-]+)`", seed.read_text(encoding="utf-8")))
    assert len(flags) == 12
    assert {flag for flag in flags if f"`{flag}" not in DATA} == set()


# --- metrics.md ---


def test_the_metrics_page_prints_what_it_says():
    blocks = list(runs(METRICS))
    assert len(blocks) == 2
    for code, said, printed in blocks:
        assert printed == said, code


def test_the_metrics_page_names_every_metric():
    from mfunc import metrics

    functions = {name for name in metrics.__all__ if name[0].islower()}
    assert {name for name in functions if f"`{name}`" not in METRICS} == set()


# --- padding.md ---


def test_the_padding_page_prints_what_it_says():
    blocks = list(runs(PADDING))
    assert len(blocks) == 1
    for code, said, printed in blocks:
        assert printed == said, code


# --- training.md: one script, since MindSpore reads the source of what it compiles ---


def test_the_training_page_prints_what_it_says(tmp_path):
    blocks = [(code, said) for _, code, said in BLOCK.findall(TRAINING)]
    script = tmp_path / "script.py"
    script.write_text("".join(f"{code}\nprint('-' * 9)\n" for code, _ in blocks), encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert len(blocks) == TRAINING.count("```python") > 3
    assert done.stdout.split("---------\n")[:-1] == [said for _, said in blocks]


def test_every_name_of_the_training_page_is_there():
    names = set(re.findall(r"\bmf\.([a-z_.]+[a-z])", TRAINING))
    assert len(names) > 10
    for name in names:
        pkgutil.resolve_name(f"mfunc.{name}")
