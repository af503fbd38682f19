"""The laws of templates: what no message can change, and what pieces add up to."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mfunc.data as md
from mfunc.data import TEMPLATES, Call, Message, hf_template, render, render_chat_template

SPELLED = sorted(
    {name for t in TEMPLATES.values() for name in t.special}
    | {"bos", "eos", "<s>", "</s>", "{bos}", "{eos}", "{content}", "{system}", "{idx}", "{thought}"}
)
# Texts that spell special tokens and places whole, in parts, and side by side.
PARTS = st.sampled_from(SPELLED).flatmap(
    lambda name: st.sampled_from([name, name[:-1], name[1:], name[: len(name) // 2]])
)
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\ufdd0\ufdd1\ufdd2")
EVIL = st.lists(st.one_of(PARTS, st.text(CHARACTERS, max_size=3)), max_size=4).map("".join)
TOOLS = ({"name": "f", "parameters": {"properties": {"x": {"type": "string"}}}},)


@st.composite
def conversations(draw, text=EVIL, most=3, tools=True):
    """Turns of users, answers, calls and observations."""
    messages = []
    for _ in range(draw(st.integers(1, most))):
        messages.append(Message(draw(st.sampled_from(["user", "observation"])), draw(text)))
        calls = (Call("f", json.dumps({"x": draw(text)})),) if tools and draw(st.booleans()) else ()
        messages.append(Message("assistant", draw(text), calls))
    return messages


def writable(template, messages):
    """Without calls where the template has no words for them."""
    return messages if template.call else [m._replace(calls=()) for m in messages]


def neutral(messages):
    """The same turns with texts that spell nothing; what is empty stays so."""
    return [
        m._replace(
            content="x" * bool(m.content), calls=tuple(c._replace(arguments="0") for c in m.calls)
        )
        for m in messages
    ]


@given(
    messages=conversations(),
    system=EVIL,
    thinking=st.sampled_from(["keep", "train", "strip"]),
    train_on=st.sampled_from(["assistant", "last", "all"]),
)
def test_a_prompt_is_the_first_pieces_of_the_whole(messages, system, thinking, train_on):
    for name, template in TEMPLATES.items():
        turns = writable(template, messages)
        how = {"system": system, "thinking": thinking, "train_on": train_on}
        whole, prompt = (render(template, part, **how) for part in (turns, turns[:-1]))
        if train_on == "last":  # then the prompt trains on an answer that is not the whole's last
            whole, prompt = (
                [p._replace(trained=False, label="") for p in pieces] for pieces in (whole, prompt)
            )
        assert whole[: len(prompt)] == prompt, name


@given(messages=conversations(), system=EVIL)
def test_no_message_changes_which_pieces_are_special(messages, system):
    """Thoughts are the template's own words, so they are left out here."""
    for name, template in TEMPLATES.items():
        turns = writable(template, messages)
        evil = render(template, turns, system=system, thinking="strip")
        plain = render(template, neutral(turns), system="x" * bool(system), thinking="strip")
        assert [(p.text, p.trained, p.label) for p in evil if p.special] == [
            (p.text, p.trained, p.label) for p in plain if p.special
        ], name


def written(template, messages, system):
    """What a template says, by plain replacement: text that spells nothing, so it may be."""
    text = template.prefix
    system = system or template.default_system
    opening = template.system.replace("{content}", system) if system else ""
    for i, message in enumerate(messages):
        if i % 2:
            form = template.assistant
        else:
            seen = message.role == "observation" and template.observation
            form = (template.separator if i else "") + (seen or template.user)
            inside = "{system}" in form
            text += "" if inside or i else opening
            form = form.replace("{system}", "" if i else opening).replace("{idx}", str(i // 2))
        text += form.replace("{content}", message.content)
        if not i % 2 and template.thought:
            text += template.no_thought or template.thought.replace("{content}", "")
    text = text.replace("{bos}", "bos").replace("{eos}", template.eos)
    return text + template.eos * template.efficient_eos


@given(messages=conversations(text=st.text("ab ", max_size=3), tools=False), system=st.text("s"))
def test_pieces_add_up_to_the_rendered_text(messages, system):
    for name, template in TEMPLATES.items():
        pieces = render(template, messages, system=system)
        assert "".join(p.text for p in pieces) == written(template, messages, system), name


@given(messages=conversations(tools=False), train_on=st.sampled_from(["assistant", "last", "all"]))
def test_what_is_trained_are_the_answers(messages, train_on):
    answers = messages[1::2] if train_on == "assistant" else messages[-1:]
    for name, template in TEMPLATES.items():
        pieces = render(template, messages, train_on=train_on, thinking="strip")
        trained = [p for p in pieces if p.trained]
        if train_on == "all":
            assert len(trained) == len(pieces), name
            continue
        alone = [
            [p for p in render(template, [Message("user", "x"), a], thinking="strip") if p.trained]
            for a in answers
        ]
        labels = [p.label for p in pieces if p.label]
        if template.efficient_eos:  # but for the last, an eos is a label, not a token
            alone = [part[:-1] for part in alone[:-1]] + alone[-1:]
            assert labels == [template.eos] * len(labels), name
        assert len(labels) <= (len(answers) - 1) * template.efficient_eos, name
        assert trained == [p for part in alone for p in part], name


@given(messages=conversations(), system=EVIL)
def test_parsing_special_names_when_asked_loses_no_character(messages, system):
    rows = {
        "conversations": [
            [
                {"from": "human" if i % 2 == 0 else "gpt", "value": m.content}
                for i, m in enumerate(messages)
            ]
        ],
        "system": [system],
    }
    plain, parsed = (
        md.chat(style="sharegpt", template="chatml", parse_special=names)(rows)["pieces"][0]
        for names in ((), SPELLED)
    )
    assert "".join(p.text for p in parsed) == "".join(p.text for p in plain)
    assert not any(name in p.text for p in parsed if not p.special for name in SPELLED)


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content | trim }}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def chatml(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chatml")
    tokens = [name for name in SPELLED if len(name) > 1 and "{" not in name]
    config = {"chat_template": CHATML, "additional_special_tokens": tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return hf_template(folder)


@given(messages=conversations(tools=False), system=EVIL)
def test_no_message_changes_a_chat_template_either(chatml, messages, system):
    """The text is the template's, to the character; its special tokens are those of plain texts."""
    messages = [m._replace(role="user" if m.role != "assistant" else m.role) for m in messages]
    evil = render_chat_template(chatml, messages, system=system)
    turns = [Message("system", system)] * bool(system) + messages
    text = "".join(f"<|im_start|>{m.role}\n{m.content.strip()}<|im_end|>\n" for m in turns)
    assert "".join(p.text for p in evil) == text
    plain = render_chat_template(chatml, neutral(messages), system="x" * bool(system))
    assert [(p.text, p.trained) for p in evil if p.special] == [
        (p.text, p.trained) for p in plain if p.special
    ]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=4)
    | st.sampled_from(["human", "gpt"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["from", "value", "name", "arguments", "role", "content"]), inner
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("style", ["alpaca", "sharegpt", "openai", "pairwise", "belle", "text"])
@given(data=st.data())
def test_any_row_is_a_conversation_or_has_a_reason(style, data):
    """Whatever JSON holds: dropped rows and kept rows are all the rows, and errors agree."""
    columns = {
        "alpaca": ["instruction", "output", "input", "system", "history"],
        "sharegpt": ["conversations", "system", "tools"],
        "openai": ["messages", "system", "tools"],
        "pairwise": ["conversations", "chosen", "rejected", "tools"],
        "belle": ["conversations", "system"],
        "text": ["text"],
    }[style]
    count = data.draw(st.integers(1, 3))
    rows = {name: [data.draw(VALUES) for _ in range(count)] for name in columns}
    out, counts = md.counted(md.conversations(style=style, invalid="drop"), rows)
    listed = md.invalid_rows(rows, style=style)
    assert counts["conversations.dropped"] == len(listed)
    assert len(next(iter(out.values()))) == count - len(listed)
    reasons = sum(n for name, n in counts.items() if name.startswith("conversations.dropped."))
    assert reasons == len(listed)
    if listed:
        with pytest.raises(ValueError, match=f"conversations: {listed[0][0]}: "):
            md.conversations(style=style)(rows)
