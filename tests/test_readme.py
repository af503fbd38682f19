"""What README.md says to type or to write is run here."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys

import pytest
from tests.conftest import ROOT
from tests.examples.test_finetune import SMALL

import mfunc as mf
from mfunc.cli import main
from mfunc.nn import llama

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def users_files(tmp_path_factory):
    """A folder with the files that README.md names: a model, rows, a tokenizer."""
    import finetune

    folder = tmp_path_factory.mktemp("readme")
    rows = [
        {"instruction": f"Add {i} and {j}.", "input": "", "output": f"It is {i + j}."}
        for i in range(9)
        for j in range(9)
    ]
    for name in ("alpaca.json", "my.json"):
        (folder / name).write_text(json.dumps(rows))
    columns = mf.data.concat(list(mf.data.read(folder / "my.json")))
    finetune.train_tokenizer(columns, folder / "tokenizer.model")
    tokenizer = mf.data.sentencepiece(folder / "tokenizer.model")
    config = llama.Config(
        vocab_size=tokenizer.vocab_size, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2,
    )  # fmt: skip
    params = llama.init(mf.random.key(0), config)
    mf.save_pretrained(folder / "my-llama", mf.auto.Pretrained(llama, config, params, tokenizer))
    return folder


def test_the_python_of_the_first_screen_runs(users_files, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    script = users_files / "first_screen.py"
    script.write_text(code.replace("md.pack(2048)", "md.pack(512)"))
    monkeypatch.chdir(users_files)
    names = runpy.run_path(str(script))
    assert names["metrics"]["step"] == len(list(mf.data.batch(4)(names["rows"])))
    assert names["step"].compiles() <= 2


def test_the_command_for_ones_own_files_runs(users_files, monkeypatch, tmp_path):
    (line,) = re.findall(r"^ +\S*python (examples/finetune.py --data .*)$", README, re.MULTILINE)
    script, *arguments = shlex.split(line)
    run = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments, "--output", str(tmp_path), *SMALL],
        cwd=users_files, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert (tmp_path / "result.json").is_file()


def test_the_command_that_packs_runs(users_files, monkeypatch, capsys):
    (line,) = re.findall(r"^ +mfunc (data pack .*)$", README, re.MULTILINE)
    monkeypatch.chdir(users_files)
    assert main(shlex.split(line)) == 0
    printed = capsys.readouterr().out
    block = re.search(r"```\n(rows in .*?)```", README, re.DOTALL)[1]
    labels = [text[:18].strip() for text in block.splitlines()]
    assert [text[:18].strip() for text in printed.splitlines()][: len(labels)] == labels
    assert len(list((users_files / "finetune_dataset").glob("alpaca_packed_*.bin"))) == 3


def test_the_recipe_and_its_commands_run(users_files, monkeypatch, capsys):
    (text,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (users_files / "run.toml").write_text(text)
    monkeypatch.chdir(users_files)
    lines = re.findall(r"^ +mfunc ((?:train|eval|adapter) .*)$", README, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["train", "eval", "adapter"]
    quick = ["--set", "train.steps=2", "--set", "train.batch_size=2", "--set", "log.progress=false"]
    for line in lines:
        capsys.readouterr()
        assert main([*shlex.split(line), *([] if "merge" in line else quick)]) == 0
        if line.startswith("eval"):
            assert json.loads(capsys.readouterr().out)["step"] == 2
    before, after = (mf.from_pretrained(users_files / f"my-llama{end}") for end in ("", "-first"))
    assert before.config == after.config
    assert (before.params["layers"][0]["q"] != after.params["layers"][0]["q"]).any()


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r"^ +make (\w[\w-]*)", README, re.MULTILINE)))
)
def test_make_targets_exist(target):
    assert (
        subprocess.run(
            ["make", "-n", target], cwd=ROOT, capture_output=True, check=False
        ).returncode
        == 0
    )
