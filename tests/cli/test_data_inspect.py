from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.cli import byte_level

import mfunc.data as md
from mfunc.cli import main
from mfunc.data import Ragged

pytest.importorskip("tokenizers")

ROWS = {
    "instruction": ["Add 1, 2.", "Say hi."],
    "input": ["", None],
    "output": ["3", "hi"],
}
PROMPT = "‹<s>›A chat"


@pytest.fixture
def folder(tmp_path) -> str:
    """Rows in the working folder, and a tokenizer."""
    md.write("rows.json", ROWS)
    return str(byte_level.folder(tmp_path / "bytes"))


def inspect(*words):
    return main(["data", "inspect", *words])


@pytest.fixture
def packed(folder):
    """Two samples in one row of 12, and padding: a set of .bin/.idx files."""
    tokenizer = md.hf_tokenizer(f"{folder}/tokenizer.json", bos="<s>", eos="</s>")
    pieces = md.Template(user="{bos}{content}?", assistant="{content}{eos}")
    rows = {"instruction": ["a", "bc"], "output": ["12", "3"]}
    tokens = md.tokenize(tokenizer)(md.chat(style="alpaca", template=pieces)(rows))
    md.indexed.write("set", md.pack(14, pad_id=258)(tokens))
    return "set"


def test_raw_rows(folder, capsys):
    assert inspect("rows.json") == 0
    assert capsys.readouterr().out == (
        "rows.json: 2 rows\n"
        "\n"
        "column       missing  empty  shortest  mean  longest\n"
        "instruction        0      0         7   8.0        9\n"
        "input              1      1         0   0.0        0\n"
        "output             0      0         1   1.5        2\n"
    )


def test_rows_that_are_no_conversations(capsys):
    lines = {"instruction": ["a"] * 9000 + ["b"], "output": ["x"] * 9000 + [None]}
    md.write("rows.jsonl", {**lines, "id": [*range(9001)]})
    md.write("more.jsonl", {**lines, "history": [[]] * 9001})
    assert inspect("*.jsonl", "--style", "alpaca", "--rows", "1") == 0
    assert capsys.readouterr().out == (
        "*.jsonl: 18,002 rows\n"
        "\n"
        "column       missing  empty  shortest  mean  longest\n"
        "instruction        0      0         1   1.0        1\n"
        "output             2      0         1   1.0        1\n"
        "history        9,001  9,001         0   0.0        0\n"
        "id             9,001      0         1   3.9        4\n"
        "\n"
        "alpaca: 18,000 conversations, 2 invalid rows\n"
        "  more.jsonl line 9001: missing_answer: 'output' is missing, but must be text\n"
    )


def test_a_set_of_token_files(packed, folder, capsys):
    assert inspect(packed, "--tokenizer", folder) == 0
    assert capsys.readouterr().out == (
        "set\n"
        "\n"
        "row  places  tokens  trained  samples  where training begins\n"
        "  0      14      12        5        2  ‹<s>›bc?⟦3‹</s>›⟧‹<s>›a?⟦12‹</s>›⟧‹<pad>›‹<pad>›\n"
        "\n"
        "rows        1\n"
        "samples     2  2.00 a row, 2 at most\n"
        "tokens     12  85.71% of 14 places\n"
        "trained     5  41.67% of the tokens\n"
        "length     shortest 6, mean 6.0, 50 % within 6, 90 % within 6, 99 % within 6, longest 6\n"
        "\n"
        "row 0\n"
        "── segment 1: 6 tokens, 2 trained\n"
        "‹<s>›bc?⟦3‹</s>›⟧\n"
        "── segment 2: 6 tokens, 3 trained\n"
        "‹<s>›a?⟦12‹</s>›⟧\n"
        "── padding: 2 places\n"
    )


def test_rows_with_a_template_and_how_they_pack(folder, capsys):
    way = ("--style", "alpaca", "--template", "alpaca", "--tokenizer", folder)
    assert inspect("rows.json", *way, "--seq-length", "200", "--rows", "1", "--sample", "1") == 0
    system = (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n"
    )
    sizes = [
        len(f"{system}### Instruction:\n{ask}\n\n### Response:\n{answer}") + 1
        for ask, answer in zip(ROWS["instruction"], ROWS["output"], strict=True)
    ]
    total, trained = sum(sizes), len("3") + len("hi") + 2
    assert capsys.readouterr().out == (
        "rows.json\n"
        "\n"
        "row  places  tokens  trained  samples  where training begins\n"
        f"  0     {sizes[0]}     {sizes[0]}        2        1  sponse: ⟦3‹</s>›⟧\n"
        "\n"
        "rows         2\n"
        "samples      2  1.00 a row, 1 at most\n"
        f"tokens     {total}  100.00% of {total} places\n"
        f"trained      {trained}  {trained / total:.2%} of the tokens\n"
        f"length     shortest {sizes[1]}, mean {total / 2:.1f}, 50 % within {sizes[1]}, "
        f"90 % within {sizes[0]}, 99 % within {sizes[0]}, longest {sizes[0]}\n"
        f"packed     to 200: 2 rows, {total / 400:.2%} filled\n"
        "\n"
        "row 1\n"
        f"{system}### Instruction:\nSay hi.\n\n### Response:\n⟦hi‹</s>›⟧\n"
    )
    assert inspect("rows.json", *way, "--seq-length", "150") == 0
    assert "; longer, and counted as cut: 1\n" in capsys.readouterr().out


def test_a_map_function_and_a_text(folder, capsys):
    way = ("--tokenizer", folder)
    assert inspect("rows.json", *way, "--map-function", "multi-instruct-dyn") == 0
    assert "row 0\nAdd 1, 2.⟦3‹</s>›⟧\n" in capsys.readouterr().out
    Path("a.txt").write_text("Hello\n")
    assert inspect("a.txt", *way, "--style", "text") == 0
    assert "row 0\nH⟦ello‹</s>›⟧\n" in capsys.readouterr().out


def test_without_a_tokenizer_ids_are_shown(packed, capsys):
    assert inspect(packed) == 0
    out = capsys.readouterr().out
    ids = " ".join(map(str, md.indexed.read(packed)["input_ids"][0][:14].tolist()))
    assert out.splitlines()[3].endswith(f"2  {ids}")
    assert "segment 1" not in out


def test_on_a_terminal_there_are_colours(packed, folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    inspect(packed, "--tokenizer", folder)
    assert (
        "\x1b[7m<s>\x1b[0mbc?\x1b[32m3\x1b[0m\x1b[32m\x1b[7m</s>\x1b[0m\n"
        in capsys.readouterr().out
    )
    monkeypatch.setenv("NO_COLOR", "1")
    inspect(packed, "--tokenizer", folder)
    assert "\x1b" not in capsys.readouterr().out


def test_padding_without_a_mask_is_told_by_the_sidecar_or_the_flag(folder, capsys):
    """A MindRecord has no mask; `convert` says in the sidecar which token pads."""
    made = {"input_ids": np.array([[5, 6, 0, 0]]), "labels": np.array([[-100, 6, -100, -100]])}
    md.mindrecord.write("a.mindrecord", made, settings={"pad_id": 0})
    inspect("a.mindrecord")
    assert "tokens   2  50.00% of 4 places" in " ".join(capsys.readouterr().out.split(" ")).replace(
        "tokens     ", "tokens   "
    )
    inspect("a.mindrecord", "--pad-id", "7")
    assert "100.00% of 4 places" in capsys.readouterr().out
    for path in Path().glob("*.mindrecord.json"):
        path.unlink()
    inspect("a.mindrecord")
    assert "100.00% of 4 places" in capsys.readouterr().out
    md.mindrecord.write("b.mindrecord", {**made, "input_ids": np.array([[5, 6, 258, 258]])})
    inspect("b.mindrecord", "--tokenizer", folder)
    assert "50.00% of 4 places" in capsys.readouterr().out


def test_pictures(packed, folder, capsys):
    image = pytest.importorskip("matplotlib.image")
    from tests.test_draw import TAB, pixels_of

    assert inspect(packed, "--plot", "pics") == 0
    assert capsys.readouterr().out.endswith("\n\npics/lengths.png\npics/pack.png\n")
    assert pixels_of("pics/pack.png", TAB[0]) > 1000 < pixels_of("pics/pack.png", TAB[1])
    assert pixels_of("pics/pack.png", 0.45 * TAB[0] + 0.55) > 1000  # prompts
    assert pixels_of("pics/pack.png", TAB[2]) == 0
    assert image.imread("pics/lengths.png").shape == (504, 1080, 4)
    way = ("--map-function", "multi-instruct-dyn", "--tokenizer", folder)
    inspect("rows.json", *way, "--seq-length", "20", "--plot", "apart")
    assert pixels_of("apart/pack.png", TAB[1]) == 0  # 11 and 10 tokens: a row each
    inspect("rows.json", *way, "--seq-length", "21", "--plot", "both")
    assert pixels_of("both/pack.png", TAB[1]) > 1000


def test_rows_of_no_tokens_are_counted(folder, capsys):
    rows = Ragged.from_rows([[], [65, 66], []])
    md.indexed.write("x", {"input_ids": rows, "labels": rows})
    assert inspect("x", "--tokenizer", folder, "--plot", "pics") == 0
    out = capsys.readouterr().out
    assert "  0       0       0        0        0\n  1       2" in out
    assert "empty      2  rows without a token\n" in out
    md.indexed.write("x", {"input_ids": rows[:1], "labels": rows[:1]})
    assert inspect("x", "--plot", "pics") == 2
    assert "draw.lengths: there is no sample" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("x.json",), "read: there is no file x.json"),
        (("nothing",), "there is no nothing_text_document.idx"),
        (("rows.json", "--tokenizer", "{folder}"), "rows need --style (and --template), or --map"),
        (
            (
                "rows.json",
                "--tokenizer",
                "{folder}",
                "--style",
                "alpaca",
                "--map-function",
                "alpaca",
            ),
            "rows need --style (and --template), or --map-function",
        ),
        (("rows.json", "--tokenizer", "{folder}", "--style", "alpaca"), "alpaca needs --template"),
        (("rows.json", "--plot", "x"), "to look at tokens of rows, pass --tokenizer"),
        (("set", "--style", "alpaca"), "--style is for rows, but set means tokens"),
        (("set", "--sample", "1"), "--sample 1: there are the rows 0 to 0"),
        (("set", "--sample", "-1"), "--sample -1: there are the rows 0 to 0"),
        (("none.jsonl", "--tokenizer", "{folder}", "--style", "text"), "none.jsonl"),
    ],
)
def test_what_cannot_be_shown_is_one_line(packed, folder, capsys, words, message):
    Path("none.jsonl").write_text("")
    assert inspect(*(word.format(folder=folder) for word in words)) == 2
    out, error = capsys.readouterr()
    assert error.startswith("mfunc data inspect: ")
    assert message in error
    assert (out, error.count("\n")) == ("", 1)


def test_real_rows_in_every_form_have_the_same_numbers(shared, capsys):
    model = shared / "data/tokenizers/llama/tokenizer.model"
    md.write("rows.json", next(md.read(shared / "data/belle/school_math_900.jsonl")))
    tokens = md.pipe(
        next(md.read("rows.json")),
        md.belle_conversations(), md.sft("vicuna"), md.tokenize(md.sentencepiece(model)),
    )  # fmt: skip
    conversations = md.belle_conversations()(next(md.read("rows.json")))
    md.write("talk.json", conversations)
    md.indexed.write("apart", {n: tokens[n] for n in ("input_ids", "labels")})
    md.indexed.write("packed", md.pack(2048)({n: tokens[n] for n in ("input_ids", "labels")}))
    pages = []
    way = ("--tokenizer", str(model))
    for words in (("talk.json", *way, "--map-function", "vicuna"), ("apart",), ("packed",)):
        assert inspect(*words) == 0
        pages.append(capsys.readouterr().out)
    for name in ("samples", "tokens", "trained"):
        numbers = [next(x for x in p.splitlines() if x.startswith(name)).split()[1] for p in pages]
        assert len(set(numbers)) == 1, numbers
    lengths = [next(x for x in p.splitlines() if x.startswith("length")) for p in pages]
    assert len(set(lengths)) == 1
