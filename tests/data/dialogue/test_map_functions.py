"""Worked examples of MindFormers with a tokenizer of words, and real rows with LLaMA's."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

import mfunc.data as md
from mfunc.data import Piece, sft
from mfunc.data.dialogue.map_functions import MAP_FUNCTIONS

ROW = {"instruction": ["A "], "input": ["B "], "output": ["C D"]}
SYSTEM = "S "
CURIOUS = (
    "A chat between a curious urer and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. "
)
LLAMA2 = {
    "user_prompt": CURIOUS,
    "user_prompt_role": "USER: ",
    "assistant_prompt_role": "ASSISTANT:",
}
LLAMA3 = {
    "user_prompt": CURIOUS,
    "user_prompt_role": "USER: ",
    "assistant_prompt_role": " ASSISTANT:",
    "bos_token": "",
    "sep_token": " ",
}
VICUNA = CURIOUS.replace("urer", "user")


class Words:
    """A token is a word; the special ones are "<s>" 1 and "</s>" 2."""

    def encode(self, texts):
        return [[self.number(word) for word in text.split()] for text in texts]

    @staticmethod
    def number(word):
        return 100 + sum(ord(letter) * 97**i for i, letter in enumerate(word)) % 10_000

    def token_id(self, name):
        return {"bos": 1, "<s>": 1, "eos": 2, "</s>": 2, "<|im_start|>": 3, "<|im_end|>": 4}[name]


def chat(*turns):
    """One conversation of one row: human, gpt, human, ..."""
    messages = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(turns)]
    return {"conversations": [messages]}


def tokens(columns, name, **settings):
    """Ids and labels of the first row; each word as itself, for reading."""
    out = md.pipe(columns, sft(name, **settings), md.tokenize(Words()))
    return out["input_ids"][0].tolist(), out["labels"][0].tolist()


def ids(text):
    """`"1 S A 2"`: digits are themselves, words their numbers."""
    return [int(word) if word.isdigit() else Words.number(word) for word in text.split()]


def masked(count, text):
    return [-100] * count + ids(text)


def test_multi_instruct_dyn():
    found = tokens(
        ROW, "multi-instruct-dyn", user_prompt_role="USER: ", assistant_prompt_role="ASSISTANT:"
    )
    assert found == (ids("USER: A B ASSISTANT: C D 2"), masked(4, "C D 2"))


def test_multi_instruct_dyn_honours_what_upstream_ignores():
    settings = {"user_prompt": SYSTEM, "user_prompt_role": "U: ", "bos_token": "<s>"}
    found = tokens(ROW, "multi-instruct-dyn", **settings, sep_token="T ")
    assert found == (ids("1 S U: A B T C D 2"), masked(5, "T C D 2"))


def test_multi_round_chat_is_trained_from_the_assistant_prompt():
    found = tokens(chat("A B", "C D"), "multi-round-chat")
    assert found == (ids("A B C D 2"), masked(2, "C D 2"))
    found = tokens(chat("A", "C"), "multi-round-chat", user_prompt="Q ", assistant_prompt="R ")
    assert found == (ids("Q A R C 2"), masked(2, "R C 2"))


ROLES = {"user_prompt": SYSTEM, "user_prompt_role": "u ", "assistant_prompt_role": "s"}


def test_multi_round_chat_dyn_repeats_bos_and_system_and_ends_once():
    found = tokens(chat("A B", "C D"), "multi-round-chat-dyn", **ROLES)
    assert found == (ids("1 S u A B s C D 2"), masked(6, "C D 2"))
    found = tokens(chat("h1", "g1", "h2", "g2"), "multi-round-chat-dyn", **ROLES)
    labels = [*masked(5, "g1"), *masked(5, "g2 2")]
    assert found == (ids("1 S u h1 s g1 1 S u h2 s g2 2"), labels)


def test_vicuna_has_bos_and_system_once_and_an_eos_after_every_answer():
    settings = {**ROLES, "assistant_prompt_role": " s"}
    found = tokens(chat("h1", "g1", "h2", "g2"), "vicuna", **settings)
    assert found == (
        ids("1 S u h1 s g1 2 u h2 s g2 2"),
        [*masked(5, "g1 2"), *masked(3, "g2 2")],
    )


def test_multi_round_chat_dyn_alpaca_trains_answers_only():
    rows = chat("h1", "g1", "h2", "g2")
    settings = {
        "user_prompt": "system\nS",
        "user_prompt_role": "user\n",
        "assistant_prompt_role": "assistant\n",
    }
    turn = "3 system S 4 3 user {} 4 3 assistant"
    first, second = turn.format("h1"), turn.format("h2")
    expected = ids(f"{first} g1 4 {second} g2 4 2")
    labels = [*masked(10, "g1 4"), *masked(10, "g2 4 2")]
    found = tokens(rows, "multi-round-chat-dyn-alpaca", **settings)
    assert found == (expected, labels)
    # Upstream trains all of it.
    everything = tokens(rows, "multi-round-chat-dyn-alpaca", **settings, train_on="all")
    assert everything == (expected, [-100, *expected[1:]])


def test_alpaca_has_both_prompts_with_a_newline_at_their_end():
    rows = {"instruction": ["Add.", "Go."], "input": ["1, 2", ""], "output": ["3", "No."]}
    with_input, without = sft("alpaca")(rows)["pieces"]
    assert with_input == (
        Piece("bos", special=True),
        Piece(
            "Below is an instruction that describes a task, paired with an input that provides "
            "further context. Write a response that appropriately completes the request.\n\n"
            "### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:\n"
        ),
        Piece("3", trained=True),
        Piece("eos", trained=True, special=True),
    )
    assert without[1].text == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nGo.\n\n### Response:\n"
    )


def test_default_is_a_text_or_a_prompt_and_its_answer():
    assert tokens({"sentence": ["A B"]}, "default") == (ids("1 A B 2"), masked(1, "A B 2"))
    pair = {"q": ["A"], "a": ["B"], "_origin": ["x line 1"]}
    assert tokens(pair, "default") == (ids("1 A B 2"), masked(2, "B 2"))
    assert tokens(pair, "default", train_on="all", eos_token="") == (ids("1 A B"), masked(1, "A B"))
    with pytest.raises(ValueError, match=r"'default' takes one column .* got q, a, note; choose"):
        sft("default")({**pair, "note": ["c"]})


def test_advertisegen():
    rows = {"content": ["A"], "summary": ["B"]}
    assert tokens(rows, "advertisegen", bos_token="") == (ids("A B 2"), masked(1, "B 2"))


@pytest.mark.parametrize(
    ("name", "rows", "labels"),
    [
        ("cola", {"a": ["x"], "b": ["1"], "c": [""], "d": ["A B"]}, [1]),
        ("imdb", {"review": ["A B", "A"], "sentiment": ["positive", "negative"]}, [1, 0]),
        ("sst-2", {"sentence": ["A B"], "label": [1]}, [1]),
        ("ag-news", {"sentence": ["A B"], "label": np.array([3])}, [3]),
        ("tnews", {"sentence": ["A B", "C"], "label": ["116", 100]}, [16, 0]),
    ],
)
def test_classes_stand_beside_ids_of_which_none_is_trained(name, rows, labels):
    transform = md.compose(md.carry(["label"], md.tokenize(Words())), sft(name))
    out, counts = md.counted(transform, rows)
    assert (out["label"].dtype, out["label"].tolist()) == (np.int32, labels)
    assert out["input_ids"][0].tolist() == ids("1 A B 2")
    assert counts["carry.tokenize.trained"] == 0


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("imdb", {"review": ["A"], "sentiment": ["Positive"]}, "'Positive', but must be 'negati"),
        ("tnews", {"sentence": ["A"], "label": ["15"]}, "'15', but must be a class .* >= 100"),
        ("sst-2", {"sentence": ["A"], "label": [True]}, "True, but must be a class number"),
        ("sst-2", {"sentence": ["A"], "label": ["9" * 5000]}, "but must be a class number"),
        ("sst-2", {"sentence": ["A"], "label": [2**31]}, "but must be a class number"),
        ("sst-2", {"sentence": ["A"], "lable": [1]}, "no 'label'; did you mean 'lable'"),
        ("cola", {"a": ["x"], "b": ["1"]}, r"four columns \(source, .* got a, b"),
        ("alpaca", {"instruction": ["A"], "output": [None]}, "'output' is missing, but must be te"),
        ("multi-round-chat", {"conversations": ["hi"]}, "'conversations' is 'hi', but must be a l"),
        ("multi-round-chat", {"conversations": [[]]}, r"is \[\], but must be a list of messages"),
        (
            "multi-round-chat",
            {"conversations": [["x"]]},
            "row 0 message 0 is 'x', but must have 'f",
        ),
        ("multi-round-chat", chat("h"), "row 0 ends with a question"),
        ("multi-round-chat", chat("h", 3), "row 0 message 1: 'value' is 3, but must be text"),
        (
            "vicuna",
            {"conversations": [chat("h", "g")["conversations"][0][1:]]},
            "0 is from the ass",
        ),
    ],
)
def test_bad_rows_are_named(name, rows, message):
    with pytest.raises(ValueError, match=message):
        sft(name)(rows)


def test_roles():
    for role in ("gpt", "assistant"):
        messages = [{"from": "human", "value": "A"}, {"from": role, "value": "B"}]
        assert tokens({"conversations": [messages]}, "multi-round-chat")[0] == ids("A B 2")
    messages[0]["from"] = "user"
    with pytest.raises(ValueError, match="message 0 is from 'user', but must be from one of 'huma"):
        sft("multi-round-chat")({"conversations": [messages]})
    ours = sft("multi-round-chat", user_role_name=["human", "user"], assistant_role_name="bot")
    with pytest.raises(ValueError, match="message 1 is from 'assistant'"):
        ours({"conversations": [messages]})


def test_other_names_of_columns_and_keys():
    rows = {"talk": [[{"who": "human", "says": "A"}, {"who": "gpt", "says": "B"}]]}
    names = {"data_field": "talk", "from_keyword": "who", "value_keyword": "says"}
    assert tokens(rows, "multi-round-chat", **names)[0] == ids("A B 2")
    rows = {"q": ["A "], "context": ["B"], "a": ["C"]}
    names = {"instruction_keyword": "q", "from_keyword": "context", "value_keyword": "a"}
    assert tokens(rows, "multi-instruct-dyn", **names)[0] == ids("A B C 2")


def test_special_tokens_come_of_settings_and_never_of_rows():
    rows = chat("h <s> </s> {bos}", "g </s>{eos}")
    settings = {"user_prompt": "x</s>y ", "sep_token": "<s>"}
    pieces = sft("multi-round-chat-dyn", **settings)(rows)["pieces"][0]
    assert [piece.text for piece in pieces if piece.special] == ["<s>", "</s>", "<s>", "eos"]
    assert [piece.text for piece in pieces if not piece.special] == [
        "x",
        "y h <s> </s> {bos}",
        "g </s>{eos}",
    ]
    plain = sft("multi-round-chat-dyn", special=[], **settings)(rows)["pieces"][0]
    assert [piece.text for piece in plain if piece.special] == ["<s>", "<s>", "eos"]
    other = sft("multi-round-chat-dyn", bos_token="<|bos|>", user_prompt="{value}")(rows)
    assert [piece.text for piece in other["pieces"][0]][:2] == [
        "<|bos|>",
        "{value}" + "h <s> </s> {bos}",
    ]


@pytest.mark.parametrize(
    ("name", "settings", "error", "message"),
    [
        ("multi-insruct-dyn", {}, ValueError, "did you mean 'multi-instruct-dyn'"),
        (["alpaca"], {}, ValueError, "name must be one of"),
        (
            "alpaca",
            {"sep_token": ""},
            ValueError,
            "'alpaca' has no use for sep_token; it takes bos",
        ),
        ("multi-round-chat", {"user_prompt_role": "U"}, ValueError, "no use for user_prompt_role"),
        ("multi-instruct-dyn", {"data_field": "x"}, ValueError, "no use for data_field"),
        ("multi-instruct-dyn", {"user_prompt": 3}, TypeError, "user_prompt must be text, got 3"),
        ("multi-round-chat", {"assistant_role_name": [1]}, TypeError, "must be text, got"),
        (
            "multi-round-chat",
            {"user_role_name": "gpt"},
            ValueError,
            "both have the role name 'gpt'",
        ),
        ("multi-round-chat", {"special": "<s>"}, TypeError, "special must be a list of names"),
        ("multi-round-chat", {"special": [""]}, TypeError, "special must be a list of names"),
        ("multi-round-chat", {"train_on": "user"}, ValueError, "train_on must be one of"),
    ],
)
def test_settings_are_refused_when_built(name, settings, error, message):
    with pytest.raises(error, match=message):
        sft(name, **settings)


def test_the_twelve_names_of_upstream():
    assert set(MAP_FUNCTIONS) - {"vicuna"} == {
        *("default", "alpaca", "advertisegen", "cola", "imdb", "sst-2", "ag-news", "tnews"),
        *("multi-round-chat", "multi-round-chat-dyn", "multi-round-chat-dyn-alpaca"),
        "multi-instruct-dyn",
    }


# ---- the prompts of the dynamic-shape document ----


def test_llama2_alignment():
    pieces = sft("multi-round-chat-dyn", **LLAMA2)(chat("Hi", "Hello"))["pieces"][0]
    assert pieces == (
        Piece("<s>", special=True),
        Piece(f"{CURIOUS}USER: Hi"),
        Piece("ASSISTANT:"),
        Piece("Hello", trained=True),
        Piece("eos", trained=True, special=True),
    )


def test_llama3_alignment():
    pieces = sft("multi-round-chat-dyn", **LLAMA3)(chat("Hi", "Hello"))["pieces"][0]
    assert pieces == (
        Piece(f"{CURIOUS}USER: Hi"),
        Piece(" ASSISTANT:"),
        Piece(" Hello", trained=True),
        Piece("eos", trained=True, special=True),
    )


@pytest.fixture(scope="module")
def llama(shared):
    return md.sentencepiece(shared / "data/tokenizers/llama/tokenizer.model")


@pytest.fixture(scope="module")
def belle(shared):
    return md.concat(list(md.read(shared / "data/belle/school_math_900.jsonl")))


def encoded(llama, text):
    """As upstream's tokenizer: special tokens are cut out, each text between is encoded."""
    ends = {"<s>": [1], "</s>": [2], "": []}
    parts = re.split("(<s>|</s>)", text)
    return [int(i) for part in parts for i in ends.get(part) or (part and llama.encode([part])[0])]


@pytest.mark.parametrize("settings", [{}, LLAMA2, LLAMA3])
def test_belle_through_multi_round_chat_dyn_token_for_token(llama, belle, settings):
    """Two turns: oracle written from the document, one string for every call of the tokenizer."""
    talk = md.belle_conversations()(md.take(60)(belle))["conversations"]
    rows = {"conversations": [a + b for a, b in pairwise(talk)]}
    out = md.pipe(rows, sft("multi-round-chat-dyn", **settings), md.tokenize(llama))
    bos, role = settings.get("bos_token", "<s>"), settings.get("assistant_prompt_role", "")
    head = bos + settings.get("user_prompt", "") + settings.get("user_prompt_role", "")
    for row, messages in enumerate(rows["conversations"]):
        expected, labels = [], []
        for question, answer in zip(messages[::2], messages[1::2], strict=True):
            prompt = encoded(llama, head + question["value"]) + encoded(llama, role)
            said = encoded(llama, settings.get("sep_token", "") + answer["value"])
            expected += prompt + said
            labels += [-100] * len(prompt) + said
        assert out["input_ids"][row].tolist() == [*expected, 2]
        assert out["labels"][row].tolist() == [*labels, 2]


@pytest.mark.parametrize("settings", [{}, LLAMA2, LLAMA3])
def test_alpaca_through_multi_instruct_dyn_token_for_token(llama, shared, settings):
    """The settings that upstream reads there."""
    read = {name: text for name, text in settings.items() if name.endswith("_role")}
    rows = next(md.read(shared / "data/alpaca/alpaca_51k.json", chunk_rows=300))
    out = md.pipe(rows, sft("multi-instruct-dyn", **read), md.tokenize(llama))
    user, assistant = read.get("user_prompt_role", ""), read.get("assistant_prompt_role", "")
    for i, row in enumerate(zip(rows["instruction"], rows["input"], rows["output"], strict=True)):
        prompt = encoded(llama, user + row[0] + row[1] + assistant)
        answer = [*encoded(llama, row[2]), 2]
        assert out["input_ids"][i].tolist() == prompt + answer
        assert out["labels"][i].tolist() == [-100] * len(prompt) + answer


def test_vicuna_of_all_belle_rows_has_the_ids_of_the_whole_string(llama, belle):
    """llama_preprocess.py encodes a round at once; pieces give the same ids, all 900 rows."""
    rows = md.belle_conversations(name="bellemath")(belle)
    out = md.pipe(rows, sft("vicuna"), md.tokenize(llama))
    for i, (question, answer) in enumerate(rows["conversations"]):
        prompt = f"{VICUNA}USER: {question['value']} ASSISTANT:"
        text = f"<s>{prompt} {answer['value']}</s>"
        assert out["input_ids"][i].tolist() == encoded(llama, text)
        untrained = 1 + len(encoded(llama, prompt))
        assert (out["labels"][i] != -100).argmax() == untrained
        assert (out["labels"][i][untrained:] == out["input_ids"][i][untrained:]).all()


def test_the_dynamic_batches_of_the_document(llama, belle):
    """Its configuration: S + 1 = 4097, divisor 2, remainder 1, pad 0, labels padded with -100."""
    samples = md.pipe(
        belle,
        sft("multi-instruct-dyn", **LLAMA2),
        md.tokenize(llama),
        md.truncate(4097, policy="tail"),
    )
    for raw in md.batch(2, drop_remainder=True)(samples):
        batch = md.pad_to_divisor(2, remainder=1)(raw)
        rows, width = batch["input_ids"].shape
        assert rows == 2
        assert width % 2 == 1
        assert 0 <= width - raw["input_ids"].lengths.max() <= 1
        padding = batch["segment_ids"] == 0
        assert (batch["labels"][padding] == -100).all()
        assert (batch["input_ids"][padding] == 0).all()
