"""The main job at a size for tests, on its own data and then on a user's files."""

from __future__ import annotations

import itertools
import json

import attrs
import numpy as np
import pytest

import finetune
import finetune_settings
import mfunc as mf
import mfunc.data as md

SMALL = (
    *("--seq-length", "384", "--batch-size", "2", "--steps", "3", "--lora-steps", "2"),
    *("--lora-rank", "2", "--held-out", "3", "--hidden-size", "16", "--intermediate-size", "24"),
    *("--num-hidden-layers", "1", "--num-attention-heads", "2"),
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The output folder of a small demo, and the result that it returned."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, finetune.main([*SMALL, "--rows", "500", "--output", str(folder)])


def test_leaves_what_it_promises(demo):
    folder, result = demo
    assert json.loads((folder / "result.json").read_text()) == result
    assert set(result) == {
        "exact_match_before",
        "exact_match_after",
        "seconds",
        "tokens_per_second",
        "pack_rows",
        "pack_fill",
        "loss_first",
        "loss_last",
    }
    assert 0 < result["pack_fill"] <= 1
    for name in ("loss.png", "pack.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert mf.checkpoint.read_arrays(folder / "adapter.safetensors").keys() >= {
        "layers/0/q/a",
        "layers/0/q/b",
    }


def test_its_checkpoint_loads_again(demo):
    model, config, params, tokenizer = mf.from_pretrained(demo[0] / "checkpoint")
    assert config.num_hidden_layers == 1
    assert tokenizer.vocab_size <= config.vocab_size
    mf.spec.check(params, model.specs(config))


def test_no_held_out_problem_is_trained_on(demo):
    folder = demo[0]
    rows = {
        name: json.loads((folder / f"school_maths_{name}.json").read_text())
        for name in ("mix", "new", "held_out")
    }
    trained = {(row["instruction"], row["input"]) for row in [*rows["mix"], *rows["new"]]}
    assert not trained & {(row["instruction"], row["input"]) for row in rows["held_out"]}


def test_runs_on_a_users_files(demo, tmp_path):
    folder = demo[0]
    data = tmp_path / "my.json"
    data.write_text((folder / "school_maths_new.json").read_text())
    model = folder / "checkpoint"
    result = finetune.main(
        [
            *(
                "--data",
                str(data),
                "--tokenizer",
                str(model / "tokenizer.model"),
                "--model",
                str(model),
            ),
            *("--output", str(tmp_path / "mine"), *SMALL),
        ]
    )
    assert set(result) >= {
        "exact_match_before",
        "exact_match_after",
        "seconds",
        "tokens_per_second",
    }
    before, after = [
        mf.from_pretrained(path).params for path in (model, tmp_path / "mine" / "checkpoint")
    ]
    assert mf.tree.map(lambda a, b: bool((a == b).all()), before, after)["norm"]


def test_trains_from_scratch_on_a_users_rows(demo, tmp_path):
    data = demo[0] / "school_maths_mix.json"
    result = finetune.main(["--data", str(data), "--output", str(tmp_path), *SMALL])
    assert result["pack_rows"] > 0
    assert "exact_match_before" not in result


def test_too_few_rows(tmp_path):
    data = tmp_path / "few.json"
    data.write_text(json.dumps([{"instruction": "a", "input": "", "output": "b"}]))
    with pytest.raises(SystemExit, match="1 rows; --held-out 3 leaves none to train on"):
        finetune.main(["--data", str(data), "--output", str(tmp_path), *SMALL])


def test_a_sample_longer_than_the_row(tmp_path):
    rows = [{"instruction": "word " * 900, "input": "", "output": "b"}] * 5
    data = tmp_path / "long.json"
    data.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"seq_length=384.*overlong"):
        finetune.main(["--data", str(data), "--output", str(tmp_path), *SMALL])


def test_longer_samples_are_dropped_if_one_says_so(tmp_path, capsys):
    rows = [{"instruction": f"add {i}", "input": "", "output": f"{i}"} for i in range(40)]
    rows[3]["instruction"] = "word " * 900
    data = tmp_path / "long.json"
    data.write_text(json.dumps(rows))
    finetune.main(["--data", str(data), "--output", str(tmp_path), "--overlong", "drop", *SMALL])
    assert "1 dropped: longer than 384 tokens" in capsys.readouterr().out


@pytest.mark.slow
def test_packs_all_of_alpaca(shared, tmp_path):
    tokenizer = shared / "data/tokenizers/llama/tokenizer.model"
    data = shared / "data/alpaca/alpaca_51k.json"
    result = finetune.main(
        [
            *(
                "--data",
                str(data),
                "--tokenizer",
                str(tokenizer),
                "--preset",
                "tiny",
                "--steps",
                "50",
            ),
            *("--output", str(tmp_path)),
        ]
    )
    assert result["pack_rows"] == 2985
    assert result["loss_last"] < result["loss_first"]


def test_same_answer():
    assert finetune.same_answer("x = 1\n#### 7", "y\n#### 7")
    assert not finetune.same_answer("7", "y\n#### 7")
    assert finetune.same_answer(" yes ", "yes")


SHORT = attrs.evolve(finetune_settings.PRESETS["tiny"], seq_length=8)


def test_batches_come_in_another_order_each_epoch():
    dataset = finetune.Dataset(tokenizer=None, template="alpaca", preset=SHORT, seed=3)
    rows = {"input_ids": md.Ragged.from_rows([[i] for i in range(8)])}

    def sixteen():
        size = dataset.preset.batch_size
        taken = itertools.islice(dataset.batches(rows), 16 // size)
        return [int(row[0]) for batch in taken for row in batch["input_ids"]]

    seen = sixteen()
    assert sorted(seen[:8]) == sorted(seen[8:]) == list(range(8))
    assert seen[:8] != seen[8:]
    assert seen == sixteen()


def test_fewer_rows_than_a_batch_end_too():
    preset = attrs.evolve(SHORT, batch_size=4)
    dataset = finetune.Dataset(tokenizer=None, template=None, preset=preset, seed=0)
    batches = list(itertools.islice(dataset.batches({"input_ids": np.arange(6).reshape(3, 2)}), 5))
    assert [len(batch["input_ids"]) for batch in batches] == [3] * 5
    with pytest.raises(SystemExit, match="no row is left to train on"):
        next(dataset.batches({"input_ids": np.zeros((0, 2))}))
