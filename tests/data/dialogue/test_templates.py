from __future__ import annotations

import json

import attrs
import pytest

from mfunc.data import TEMPLATES, Call, Message, render

V210, HEAD = "mindspeed_v2.1.0", "mindspeed_head_c77308a_new_or_changed"
TWO = [
    Message("user", "U1"),
    Message("assistant", "A1"),
    Message("user", "U2"),
    Message("assistant", "A2"),
]
CALLS = [
    Message("user", "U1"),
    Message("assistant", "", (Call("f", '{"x": 1}'),)),
    Message("observation", "OBS"),
    Message("assistant", "A2"),
]
REFERENCE = [
    *(
        (V210, name)
        for name in (
            "alpaca",
            "baichuan2",
            "chatglm2",
            "chatglm3",
            "chatglm3_system",
            "chatml",
            "chatml_de",
            "cpm",
            "deepseek2",
            "deepseek2-lite",
            "deepseek3",
            "default",
            "empty",
            "gemma",
            "glm4",
            "hunyuan",
            "intern2",
            "llama2",
            "llama3",
            "minicpm3",
            "mistral",
            "mixtral",
            "qwen",
            "qwen_math_r1",
            "qwen_r1",
            "trl",
        )
    ),
    *(
        (HEAD, name)
        for name in (
            "bailing_mini",
            "deepseek4",
            "glm4_moe",
            "gpt_oss",
            "magistral",
            "plm",
            "qwen3",
            "qwen_lf",
        )
    ),
]


def runs(segments):
    """((trained, text), ...) with neighbours joined; and where a token has another's label."""
    out: list[list] = []
    labels, length = [], 0
    for how, text in segments:
        if how.startswith("label="):
            labels.append((length, how.removeprefix("label=")))
        trained = how == "train"
        if out and out[-1][0] is trained:
            out[-1][1] += text
        else:
            out.append([trained, text])
        length += len(text)
    return out, labels


def ours(template, pieces, eos):
    """Pieces as the reference table writes segments."""
    segments = []
    for piece in pieces:
        text = (
            {"bos": "{bos}", "eos": eos}.get(piece.text, piece.text)
            if piece.special
            else piece.text
        )
        how = "train" if piece.trained else "masked"
        label = {"eos": eos}.get(piece.label, piece.label)
        segments.append((f"label={label}" if label else how, text))
    return runs(segments)


@pytest.fixture(scope="session")
def table(shared):
    return json.loads((shared / "golden/mindspeed/templates_summary.json").read_text())


def check(table, version, name, messages, key, system=""):
    reference = table[version]["templates"][name]
    template = TEMPLATES[name]
    eos = template.eos if template.eos != "eos" else "{eos}"
    made = ours(template, render(template, messages, system=system), eos)
    # The table writes the token that ends a turn {eos} or by its name: it is one and the same.
    expected = [
        (how.replace("{eos}", eos), text.replace("{eos}", eos)) for how, text in reference[key]
    ]
    assert made == runs(expected)


def test_the_table_is_complete(table):
    assert sorted(REFERENCE) == sorted((v, n) for v in (V210, HEAD) for n in table[v]["templates"])
    assert sorted(TEMPLATES) == sorted([*(name for _, name in REFERENCE), "vicuna"])


@pytest.mark.parametrize(("version", "name"), REFERENCE)
def test_two_turns_are_mindspeeds(table, version, name):
    check(table, version, name, TWO, "render_2turn_system", "SYS")
    check(table, version, name, TWO, "render_2turn_nosystem")


@pytest.mark.parametrize(
    ("version", "name"),
    [r for r in REFERENCE if r[1] not in ("chatglm2", "qwen3", "deepseek4")],
)
def test_calls_and_observations_are_mindspeeds(table, version, name):
    check(table, version, name, CALLS, "render_tool_roles")


def test_where_mindspeed_is_wrong_about_tools(table):
    """Three templates whose rendering of tools there is an accident: ours say something sane."""
    names = {
        v: {n: t["render_tool_roles"] for n, t in table[v]["templates"].items()}
        for v in (V210, HEAD)
    }
    # The number of an observation's turn is not filled in: "[Round {{idx}}]".
    assert "[Round {{idx}}]" in names[V210]["chatglm2"][3][1]
    assert "[Round 1]\n\n问：OBS" in "".join(p.text for p in render(TEMPLATES["chatglm2"], CALLS))
    # Writing a call crashes.
    assert str(names[HEAD]["qwen3"]).startswith("AttributeError")
    assert '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>' in [
        p.text for p in render(TEMPLATES["qwen3"], CALLS)
    ]
    # The call is written as if it were a tool's result, and never trained.
    assert '<tool_result>{"name": "f"' in names[HEAD]["deepseek4"][0][1]
    with pytest.raises(
        ValueError, match="the template writes no calls of tools, but an answer has"
    ):
        render(TEMPLATES["deepseek4"], CALLS)


@pytest.mark.parametrize(("version", "name"), REFERENCE)
def test_what_a_template_is_made_of_is_mindspeeds(table, version, name):
    reference, template = table[version]["templates"][name], TEMPLATES[name]
    assert template.efficient_eos == reference["efficient_eos"]
    assert template.default_system == reference["default_system"]
    replaced = reference["stop_words"][0] if reference["replace_eos"] else "eos"
    assert template.eos == replaced or name == "deepseek4"  # its class writes the name itself
    assert (template.tools == "default") == (
        reference["tool_format"] == "default" and name != "deepseek4"
    )


def test_vicuna_is_fastchats():
    system = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    pieces = render(TEMPLATES["vicuna"], TWO)
    text = "".join({"bos": "", "eos": "</s>"}.get(p.text, p.text) for p in pieces)
    assert text == f"{system} USER: U1 ASSISTANT: A1</s>USER: U2 ASSISTANT: A2</s>"
    assert [p.text for p in pieces if p.trained] == [" A1", "eos", " A2", "eos"]
    assert pieces[0].text == "bos"


def test_vicuna_with_a_dummy_prefix_has_fastchats_ids(shared):
    """FastChat encodes every round whole; so do pieces, where each gets the space of its prefix."""
    engine = pytest.importorskip("sentencepiece")
    import mfunc.data as md

    path = shared / "data/tokenizers/llama/tokenizer.model"
    model = engine.SentencePieceProcessor(model_file=str(path))
    questions = ["Give me three tips.", "And in one word?"]
    answers = ["1. Eat well.\n2. Sleep.", "Rest — 休息."]
    turns = [
        m
        for q, a in zip(questions, answers, strict=True)
        for m in (Message("user", q), Message("assistant", a))
    ]
    template = attrs.evolve(TEMPLATES["vicuna"], assistant="{content}{eos}")
    made = md.tokenize(md.sentencepiece(path))({"pieces": [render(template, turns)]})
    rounds = [f"USER: {q} ASSISTANT: {a}" for q, a in zip(questions, answers, strict=True)]
    rounds[0] = f"{template.default_system} {rounds[0]}"
    expected = [1]
    for each in rounds:
        expected += [*model.encode(each), 2]
    assert made["input_ids"][0].tolist() == expected
    trained = [i for i in made["labels"][0].tolist() if i != -100]
    assert trained == [i for a in answers for i in (*model.encode(a), 2)]


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_templates_are_plain_hashable_data(name):
    assert hash(TEMPLATES[name]) == hash(attrs.evolve(TEMPLATES[name]))
    with pytest.raises(TypeError, match="does not support item assignment"):
        TEMPLATES[name] = None
