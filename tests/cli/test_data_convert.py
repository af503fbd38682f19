from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tests.cli import byte_level

import mfunc.data as md
from mfunc.cli import main
from mfunc.data import Ragged

pytest.importorskip("tokenizers")

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. "
)
ROWS = [
    {"instruction": "题目：1+1？", "input": "", "output": "\n2"},
    {"instruction": "Add ", "input": "1, 2", "output": "3"},
    {"instruction": "Say hi.", "input": "", "output": "hi"},
]


@pytest.fixture
def folder(tmp_path) -> str:
    """Rows in the working folder, and a tokenizer."""
    md.write("belle.jsonl", {name: [row[name] for row in ROWS] for name in ROWS[0]})
    return str(byte_level.folder(tmp_path / "bytes"))


def convert(source, target, path, output, *more):
    words = ["--input", path, "--from", source, "--to", target, "--output", output]
    return main(["data", "convert", *words, *more])


def printed(capsys):
    """What was printed, but for the seconds."""
    out, error = capsys.readouterr()
    assert error == ""
    return re.sub(r"\d+\.\d s\n", "0.0 s\n", out)


def line(name, number, note):
    return f"{name:<11} {number:>12,}  {note}\n"


def vicuna(row, tokenizer, size=None):
    """The one row as llama_preprocess.py's qa has it: text, ids, labels."""
    prompt = f"{SYSTEM}USER: {row['instruction']}{row['input']} ASSISTANT:"
    question, answer = (ids for ids in tokenizer.encode([prompt, row["output"]]))
    ids = [256, *question, *answer, 257]
    labels = [-100] * (len(question) + 1) + [*answer, 257]
    pad = 0 if size is None else size - len(ids)
    return ids + [258] * pad, labels + [-100] * pad


def test_belle_to_conversations(folder, capsys):
    assert convert("belle", "conversations", "belle.jsonl", "out/belle.json") == 0
    assert printed(capsys) == "out/belle.json: 3 conversations, 0.0 s\n"
    assert json.loads(Path("out/belle.json").read_text(encoding="utf-8")) == [
        {
            "id": f"bellemath{n}",
            "conversations": [
                {"from": "human", "value": row["instruction"] + row["input"]},
                {"from": "assistant", "value": row["output"]},
            ],
        }
        for n, row in enumerate(ROWS, start=1)
    ]


def test_ids_go_on_from_chunk_to_chunk(monkeypatch, folder):
    monkeypatch.setattr("mfunc.cli.data_convert.CHUNK", 2)
    convert("belle", "conversations", "belle.jsonl", "a.jsonl", "--id-name", "school_math-")
    convert("alpaca", "conversations", "belle.jsonl", "b.jsonl")
    lines = [Path(name).read_text(encoding="utf-8").splitlines() for name in ("a.jsonl", "b.jsonl")]
    ids = [[json.loads(line)["id"] for line in each] for each in lines]
    assert ids == [["school_math-1", "school_math-2", "school_math-3"], ["1", "2", "3"]]
    first = json.loads(lines[1][1])["conversations"][0]
    assert first["value"].endswith("### Instruction:\nAdd \n\n### Input:\n1, 2\n\n### Response:")


def test_the_chain_of_the_tutorial(folder, capsys):
    """BELLE rows -> conversations -> MindRecord, as MindSpore's own reader sees it."""
    from mindspore.dataset import MindDataset

    convert("belle", "conversations", "belle.jsonl", "belle.json")
    capsys.readouterr()
    way = ("--tokenizer", folder, "--seq-length", "255")
    assert convert("conversations", "mindrecord", "belle.json", "b.mindrecord", *way) == 0
    tokenizer = md.hf_tokenizer(Path(folder) / "tokenizer.json")
    rows = [vicuna(row, tokenizer, 256) for row in ROWS]
    tokens = sum(len(vicuna(row, tokenizer)[0]) for row in ROWS)
    trained = sum(len(row["output"].encode()) + 1 for row in ROWS)
    assert printed(capsys) == (
        "b.mindrecord: 3 rows, 0.0 s\n"
        + line("tokens", tokens, f"{tokens / 768:.2%} of 768 places")
        + line("trained", trained, f"{trained / tokens:.2%} of the tokens")
    )
    names = ["input_ids", "labels"]
    read = MindDataset("b.mindrecord", columns_list=names, shuffle=False)
    seen = list(read.create_tuple_iterator(num_epochs=1, output_numpy=True))
    assert [[column.tolist() for column in row] for row in seen] == [list(row) for row in rows]
    assert all(column.dtype == np.int32 for row in seen for column in row)
    told = md.mindrecord.sidecar("b.mindrecord")["settings"]
    assert [step["transform"].split(".")[-1] for step in told["steps"]] == [
        "sft", "tokenize", "truncate", "pad_to_divisor",
    ]  # fmt: skip
    assert (told["pad_id"], told["from"]) == (258, "conversations")
    assert convert("belle", "mindrecord", "belle.jsonl", "one.mindrecord", *way) == 0
    assert not md.diff("one.mindrecord", "b.mindrecord")


def test_the_chain_on_all_of_belle(shared):
    """Every row's ids are those of the prompt and the answer, its labels those of the answer."""
    from mindspore.dataset import MindDataset

    path, model = shared / "data/belle/school_math_900.jsonl", shared / "data/tokenizers/llama"
    convert("belle", "conversations", str(path), "belle.json")
    way = ("--tokenizer", str(model), "--seq-length", "2048")
    assert convert("conversations", "mindrecord", "belle.json", "b.mindrecord", *way) == 0
    tokenizer = md.sentencepiece(model / "tokenizer.model")
    rows = next(md.read(path))
    read = MindDataset("b.mindrecord", columns_list=["input_ids", "labels"], shuffle=False)
    seen = list(read.create_tuple_iterator(num_epochs=1, output_numpy=True))
    assert len(seen) == 900
    for (ids, labels), ask, answer in zip(seen, rows["instruction"], rows["output"], strict=True):
        prompt, reply = tokenizer.encode([f"{SYSTEM}USER: {ask} ASSISTANT:", answer])
        whole = [1, *prompt.tolist(), *reply.tolist(), 2]
        assert ids.tolist() == whole + [0] * (2049 - len(whole))
        trained = [*reply.tolist(), 2]
        first = len(whole) - len(trained)
        assert labels.tolist() == [-100] * first + trained + [-100] * (2049 - len(whole))


def test_rows_keep_their_lengths_without_a_seq_length(folder, capsys):
    """`multi-instruct-dyn` takes rows as they are; its settings are JSON, as upstream's."""
    way = ("--tokenizer", folder, "--map-function", "multi-instruct-dyn")
    kwargs = (
        "--map-function-kwargs",
        '{"user_prompt_role": "Q: ", "assistant_prompt_role": " A:"}',
    )
    assert convert("alpaca", "indexed", "belle.jsonl", "x", *way, *kwargs) == 0
    made = md.indexed.read("x")
    tokenizer = md.hf_tokenizer(Path(folder) / "tokenizer.json")
    texts = [tokenizer.decode(ids) for ids in made["input_ids"]]
    assert texts == ["Q: 题目：1+1？ A:\n2", "Q: Add 1, 2 A:3", "Q: Say hi. A:hi"]
    assert [row.sum() for row in made["attention_mask"]] == made["input_ids"].lengths.tolist()
    tokens, trained = len(made["input_ids"].flat), 3 + 2 + 3
    assert printed(capsys) == (
        "x: 3 rows, 0.0 s\n"
        + line("tokens", tokens, f"100.00% of {tokens} places")
        + line("trained", trained, f"{trained / tokens:.2%} of the tokens")
    )


def test_long_rows_are_an_error_or_cut_and_counted(folder, capsys):
    way = ("--tokenizer", folder, "--seq-length", "180")
    assert convert("belle", "indexed", "belle.jsonl", "x", *way) == 2
    error = capsys.readouterr().err
    assert error.startswith("mfunc data convert: truncate: row 0 (belle.jsonl line 1) has 19")
    assert error.count("\n") == 1
    assert not list(Path().glob("x*"))
    assert convert("belle", "indexed", "belle.jsonl", "x", *way, "--truncate", "tail") == 0
    made = md.indexed.read("x")
    assert made["input_ids"].lengths.tolist() == [181] * 3
    lost = (
        sum(len(vicuna(row, md.hf_tokenizer(f"{folder}/tokenizer.json"))[0]) for row in ROWS) - 543
    )
    assert printed(capsys).endswith(
        line("cut", 3, "rows were too long and lost tokens")
        + line("tokens lost", lost, "tokens of these rows")
    )
    assert convert("belle", "indexed", "belle.jsonl", "x", *way, "--truncate", "drop") == 0
    assert line("dropped", 3, "rows were too long") in printed(capsys)


def test_wikitext(folder, capsys):
    Path("wiki.txt").write_text(" = Title = \n \n It is 3 @.@ 5 m . \n \n And so on . \n")
    way = ("--tokenizer", folder, "--seq-length", "7")
    assert convert("wikitext", "indexed", "wiki.txt", "x", *way) == 0
    encode = md.hf_tokenizer(f"{folder}/tokenizer.json").encode
    first, second = encode(["It is 3.5 m.", "And so on."])
    flat = [256, *first, 257, 256, *second, 257]
    ids = md.indexed.read("x")["input_ids"]
    assert [row.tolist() for row in ids] == [flat[i : i + 8] for i in (0, 8, 16)]
    assert printed(capsys) == (
        "x: 3 rows, 0.0 s\n"
        + line("tokens", 24, "100.00% of 24 places")
        + line("trained", 24, "100.00% of the tokens")
        + line("lost", 2, "tokens at the end, less than a row")
    )


def test_tokens_from_one_file_to_another(folder, capsys):
    """A MindRecord to .bin/.idx files and back."""
    convert("belle", "indexed", "belle.jsonl", "x", "--tokenizer", folder)
    assert convert("tokens", "mindrecord", "x", "x.mindrecord") == 0
    assert convert("tokens", "indexed", "x.mindrecord", "y") == 0
    assert not md.diff("x", "y")
    way = ("--seq-length", "299", "--pad-id", "0")
    assert convert("tokens", "mindrecord", "y", "z.mindrecord", *way) == 0
    (padded,) = md.mindrecord.read("z.mindrecord", seq_length=299)
    assert [row[-1] for row in padded["input_ids"]] == [0] * 3
    assert [row[-1] for row in padded["labels"]] == [-100] * 3
    capsys.readouterr()
    md.indexed.write("packed", md.pack(8)({"input_ids": Ragged.from_rows([[1, 2], [3]])}))
    assert convert("tokens", "mindrecord", "packed", "no.mindrecord") == 2
    assert "the rows are packs of segments, which only .bin/.idx" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("wikitext", "conversations"),
            "--from wikitext --to conversations is no way; it goes --to m",
        ),
        (("tokens", "indexed", "--map-function", "vicuna"), "has no use for --map-function"),
        (("belle", "conversations", "--tokenizer", "x"), "has no use for --tokenizer"),
        (("alpaca", "conversations", "--id-name", "x"), "has no use for --id-name"),
        (("belle", "indexed", "--truncate", "tail"), "no use for --truncate without --seq-length"),
        (("belle", "indexed"), "--from belle --to indexed needs --tokenizer"),
        (("wikitext", "indexed", "--tokenizer", "x"), "needs --seq-length"),
        (
            ("tokens", "indexed", "--seq-length", "4"),
            "which token is padding is not known: pass --pad",
        ),
        (
            ("belle", "indexed", "--tokenizer", "{folder}", "--map-function", "cola"),
            "classes of texts",
        ),
        (
            ("belle", "indexed", "--tokenizer", "{folder}", "--map-function", "multi-insruct-dyn"),
            "did you mean 'multi-instruct-dyn'?",
        ),
        (
            ("belle", "indexed", "--tokenizer", "{folder}", "--map-function-kwargs", "{folder}"),
            "--map-function-kwargs is not a JSON object",
        ),
        (
            ("belle", "indexed", "--tokenizer", "{folder}", "--seq-length", "0"),
            "--seq-length must be an integer >= 1, got 0",
        ),
    ],
)
def test_what_is_no_way_is_refused_in_one_line(folder, capsys, words, message):
    source, target, *more = (word.format(folder=folder) for word in words)
    assert convert(source, target, "belle.jsonl", "x", *more) == 2
    out, error = capsys.readouterr()
    assert error.startswith("mfunc data convert: ")
    assert message in error
    assert (out, error.count("\n")) == ("", 1)
