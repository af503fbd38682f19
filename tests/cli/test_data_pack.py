from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.data import spelling

import mfunc.data as md
from mfunc.cli import main

LINES = [
    {"instruction": "say hello", "input": "", "output": "hello hello"},
    {"instruction": "the quick brown", "input": "fox", "output": "jumps over the lazy dog " * 3},
    {"instruction": "count", "input": "to three", "output": "a aa aaa"},
] * 4
NAMES = ("input_ids", "attention_mask", "labels")


@pytest.fixture(autouse=True)
def _files():
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, LINES)))
    Path("t").mkdir()
    Path("t/tokenizer.model").write_bytes(spelling.model("identity with symbols"))


def pack(*flags, given=("--prompt-type", "llama2")):
    """Run the verb on the small file; its exit code."""
    words = ["--input", "rows.jsonl", "--tokenizer", "t", "--output-prefix", "out/a"]
    return main(["data", "pack", *words, *given, *map(str, flags)])


def samples(chat, tokenizer=None, path="rows.jsonl"):
    tokenizer = tokenizer or md.load_tokenizer("t")
    made = md.compose(md.tokenize(tokenizer), chat)(md.concat(list(md.read(path))))
    made.pop("_origin")
    return made


def plain(columns):
    return {name: [list(row) for row in column] for name, column in columns.items()}


LLAMA2 = md.chat(style="alpaca", template="llama2")


def test_the_six_files_of_a_neat_pack(capsys):
    flags = ("--pack", "--neat-pack", "--seq-length", 128, "--workers", 2, "--append-eod")
    assert pack(*flags) == 0
    names = {f"a_packed_{name}_document.{end}" for name in NAMES for end in ("bin", "idx")}
    assert {p.name for p in Path("out").iterdir()} == {*names, "a_packed_document.json"}
    chat = md.chat(style="alpaca", template="llama2", append_eos=True)
    wanted = md.pack(128, pad_id=md.load_tokenizer("t").eos_id)(samples(chat))
    found = md.indexed.read("out/a", verify=True)
    wanted["attention_mask"] = wanted.pop("segment_ids")
    assert plain(found) == plain({name: wanted[name] for name in NAMES})
    out = capsys.readouterr().out
    assert re.search(r"^rows in +12$", out, re.M)
    assert re.search(rf"^rows out +{len(found['labels'])}$", out, re.M)
    assert re.search(r"^  fill +\d\d\.\d\d%$", out, re.M)
    assert "tokens/s)" in out
    assert all(f"  {Path('out') / name}\n" in out for name in names)
    told = md.indexed.sidecar("out/a")["settings"]
    assert md.load_tokenizer("t").digest in json.dumps(told)
    assert "llama2" in json.dumps(told)


def test_a_plain_pack_as_upstream():
    settings = ("--strategy", "first_fit_decreasing", "--capacity", 127)
    assert pack("--pack", "--seq-length", 128, *settings) == 0
    form = md.pack(
        128, strategy="first_fit_decreasing", capacity=127, isolate=False,
        pad_id=md.load_tokenizer("t").eos_id,
    )  # fmt: skip
    wanted = form(samples(LLAMA2))
    found = md.indexed.read("out/a")
    assert plain(found)["input_ids"] == plain(wanted)["input_ids"]
    assert set(found["attention_mask"].flat) == {1}


def test_without_pack_a_row_is_a_sample():
    assert pack("--overlong", "drop", "--seq-length", 30) == 0
    wanted = md.truncate(30, policy="drop")(samples(LLAMA2))
    assert 0 < len(wanted["labels"]) < len(LINES)
    found = md.indexed.read("out/a")
    assert plain(found)["labels"] == plain(wanted)["labels"]
    assert set(found["attention_mask"].flat) == {1}


@pytest.mark.parametrize(
    ("flags", "form"),
    [
        (["--seed", 5], {"seed": 5}),
        (["--max-segments", 2], {"max_segments": 2}),
        (["--segment-multiple", 8], {"segment_multiple": 8}),
        (["--strategy", "next_fit"], {"strategy": "next_fit"}),
        (["--strategy", "concat"], {"strategy": "concat"}),
    ],
)
def test_every_flag_of_packing_is_the_setting_of_its_name(flags, form):
    assert pack("--pack", "--neat-pack", "--seq-length", 128, *flags) == 0
    wanted = md.pack(128, pad_id=md.load_tokenizer("t").eos_id, **form)(samples(LLAMA2))
    assert plain(md.indexed.read("out/a"))["labels"] == plain(wanted)["labels"]


def test_other_columns_system_and_pad():
    rows = [{"q": "say", "a": "hello"}]
    Path("rows.jsonl").write_text(json.dumps(rows[0]))
    keys = '{"prompt": "q", "response": "a"}'
    flags = ("--map-keys", keys, "--system", "be brief", "--tokenizer-pad", "<unk>")
    assert pack("--pack", "--seq-length", 128, *flags) == 0
    chat = md.chat(
        style="alpaca", template="llama2", system="be brief",
        fields={"instruction": "q", "output": "a"},
    )  # fmt: skip
    wanted = md.pack(128, pad_id=0)(samples(chat))
    assert plain(md.indexed.read("out/a"))["input_ids"] == plain(wanted)["input_ids"]


@pytest.mark.parametrize("style", ["openai", "sharegpt"])
def test_messages_under_other_names(style):
    talk = [{"who": "me", "text": "say"}, {"who": "it", "text": "hello"}]
    Path("rows.jsonl").write_text(json.dumps({"talk": talk}))
    tags = {"role_tag": "who", "content_tag": "text", "user_tag": "me", "assistant_tag": "it"}
    keys = json.dumps({"messages": "talk", "tags": tags})
    assert pack("--style", style, "--map-keys", keys) == 0
    chat = md.chat(style=style, template="llama2", fields={"messages": "talk"}, tags=tags)
    assert plain(md.indexed.read("out/a"))["labels"] == plain(samples(chat))["labels"]


def test_text_and_pairs():
    Path("rows.jsonl").write_text('{"text": "hello the fox"}')
    assert pack("--style", "text", "--append-eod", given=()) == 0
    tokenizer = md.load_tokenizer("t")
    ids = list(md.indexed.read("out/a")["input_ids"][0])
    assert ids == [*tokenizer.encode(["hello the fox"])[0], tokenizer.eos_id]
    assert pack("--style", "text", "--pack", "--seq-length", 128, given=()) == 0
    assert md.indexed.read("out/a")["input_ids"][0][-1] == tokenizer.eos_id
    Path("rows.jsonl").write_text('{"instruction": "a", "chosen": "aa", "rejected": "aaa"}')
    assert pack("--style", "pairwise") == 0
    assert sorted(md.indexed.read("out/a")) == [
        "chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels",
    ]  # fmt: skip


def test_a_mindrecord_has_one_token_more():
    assert pack("--pack", "--seq-length", 128, "--format", "mindrecord") == 0
    assert list(md.mindrecord.read("out/a.mindrecord", seq_length=128))


def test_the_tokenizers_own_chat_template():
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, "hello": 1, "say": 2, "user": 3, "assistant": 4, "</s>": 5}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens(["</s>"])
    Path("t/tokenizer.model").unlink()
    made.save("t/tokenizer.json")
    template = (
        "{% for m in messages %}{{ m.role }} {{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant {% endif %}"
    )
    config = {"eos_token": "</s>", "chat_template": template}
    Path("t/tokenizer_config.json").write_text(json.dumps(config))
    Path("rows.jsonl").write_text('{"instruction": "say", "output": "hello"}')
    flags = ("--pack", "--seq-length", 8, "--cache-dir", "cache")
    for _ in range(2):
        assert pack(*flags, given=("--prompt-type", "hf")) == 0
        found = plain(md.indexed.read("out/a"))
        assert found["input_ids"] == [[3, 2, 5, 4, 1, 5, 5, 5]]
        assert found["labels"] == [[-100, -100, -100, -100, 1, 5, -100, -100]]
    assert len(list(Path("cache").iterdir())) == 1


def test_dropped_rows_are_counted_and_listed(capsys):
    Path("rows.jsonl").write_text('{"instruction": "a", "output": null}\n' + json.dumps(LINES[0]))
    assert pack("--invalid", "drop") == 0
    out = capsys.readouterr().out
    assert re.search(r"^  dropped, chat.missing_answer +1$", out, re.M)
    assert f"  {Path('out/a_invalid.jsonl')}\n" in out + "\n"
    [told] = map(json.loads, Path("out/a_invalid.jsonl").read_text().splitlines())
    assert (told["row"], told["origin"]) == (0, "rows.jsonl line 1")
    assert pack() == 2
    assert "rows.jsonl line 1" in capsys.readouterr().err


def test_the_first_rows_and_a_cache(capsys):
    for _ in range(2):
        assert pack("--sample", 5, "--cache-dir", "cache") == 0
        assert re.search(r"^rows in +5$", capsys.readouterr().out, re.M)
    assert len(list(Path("cache").iterdir())) == 1


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--neat-pack"], "--neat-pack tells .* it needs --pack"),
        (["--pack"], "--pack needs --seq-length"),
        (["--seed", 1], "--seed says how to pack: it needs --pack"),
        (["--max-segments", 1], "--max-segments says how to pack: it needs --pack"),
        (["--segment-multiple", 2], "--segment-multiple says how to pack: it needs --pack"),
        (["--capacity", 2], "--capacity says how to pack: it needs --pack"),
        (["--strategy", "concat"], "--strategy says how to pack: it needs --pack"),
        (["--overlong", "drop"], "--overlong drop needs --seq-length"),
        (
            ["--overlong", "cut", "--seq-length", 8],
            "policy must be one of .* got 'cut'",
        ),
        (["--seq-length", 8], r"row 0 \(rows.jsonl line 1\) has \d+ tokens but max_length=8"),
        (["--seq-length", 0], "max_length must be an integer >= 1, got 0"),
        (["--pack", "--seq-length", 0], "must be an integer >= 1, got 0"),
        (["--pack", "--seq-length", 128, "--strategy", "best"], "strategy must be one of"),
        (["--pack", "--seq-length", 128, "--capacity", 129], "capacity must be .* got 129"),
        (["--pack", "--seq-length", 128, "--segment-multiple", 8], "isolate=False"),
        (["--pack", "--seq-length", 128, "--style", "pairwise"], "pairs are not packed"),
        (["--format", "parquet"], "format must be one of 'indexed', 'mindrecord'"),
        (
            ["--pack", "--neat-pack", "--seq-length", 8, "--format", "mindrecord"],
            "--neat-pack is not for --format mindrecord",
        ),
        (["--prompt-type", "qwne"], "template must be one of .*did you mean 'qwen'"),
        (["--prompt-type", "qwen"], "has no piece '<.im_end.>'|can come of plain text"),
        (["--prompt-type", "hf"], "t has no chat template"),
        (["--style", "alpac"], "style must be one of .*did you mean 'alpaca'"),
        (["--style", "text"], "--prompt-type is not for --style text"),
        (["--map-keys", "{"], "--map-keys: '{' is not JSON"),
        (["--map-keys", '{"promt": "a"}'], "unknown field 'promt'"),
        (["--map-keys", "[]"], r"--map-keys: needs an object of keys and names, got \[\]"),
        (["--map-keys", '{"prompt": null}'], "needs an object of keys and names, got"),
        (["--map-keys", '{"tags": ["a"]}'], "needs an object of keys and names, got"),
        (["--thinking", "no"], "thinking must be one of 'keep', 'train', 'strip', got 'no'"),
        (["--invalid", "skip"], "invalid must be one of 'error', 'drop', got 'skip'"),
        (["--workers", 0], "workers must be an integer >= 1, got 0"),
        (["--sample", 0], "sample must be an integer >= 1, got 0"),
        (["--tokenizer", "absent"], "there is no file or folder absent"),
        (["--tokenizer-eos", "<end>"], "has no token '<end>'"),
        (["--input", "absent.json"], "there is no file absent.json"),
    ],
)
def test_wrong_flags_are_refused_in_one_line(capsys, flags, error):
    assert pack(*flags) == 2
    told = capsys.readouterr().err
    assert told.startswith("mfunc data pack: ")
    assert re.search(error, told)
    assert told.count("\n") == 1
    assert not list(Path().glob("out/*"))


def test_a_template_is_asked_for(capsys):
    assert pack(given=()) == 2
    assert "--prompt-type is missing" in capsys.readouterr().err


def test_from_a_shell_with_workers():
    code = (
        "import sys\nfrom mfunc.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    Path("mfunc").write_text(code)  # a script without suffix, as pip writes it
    flags = ["--prompt-type", "llama2", "--workers", "2", "--output-prefix", "out/a"]
    words = ["data", "pack", "--input", "rows.jsonl", "--tokenizer", "t", *flags]
    environment = {"PYTHONPATH": str(Path(md.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "mfunc", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""  # no bar, as it is no terminal
    assert done.stdout.startswith("rows in ")
    assert len(md.indexed.read("out/a")["labels"]) == len(LINES)
