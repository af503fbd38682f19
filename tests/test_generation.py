from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests import bigram
from tests.bigram import cycle
from tests.tiny_llama import GOLDEN, tiny_llama

from mfunc import generation, random, tree
from mfunc.auto import from_pretrained
from mfunc.generation import generate, stream
from mfunc.nn import llama

TINY = tiny_llama()
PROMPTS = ([5, 9, 33], [7], [1, 2, 3, 4, 5, 6, 7, 8, 60])
NEW = 12
KEY = random.key(0)


def greedy(prompts, **settings):
    return lists(generate(llama, TINY.params, TINY.config, prompts, max_new_tokens=NEW, **settings))


def lists(rows):
    return [row.tolist() for row in rows]


def is_greedy(params, config, prompt, tokens):
    """Whether each token is the best one after the text before it, by the model without a cache."""
    logits = llama.apply(params, config, ms.Tensor([[*prompt, *tokens]], ms.int32)).asnumpy()[0]
    return logits[len(prompt) - 1 : -1].argmax(-1).tolist() == list(tokens)


BYTES = bigram.Config(256)


class Bytes:
    vocab_size = 256

    def decode(self, ids):
        return bytes(int(i) for i in ids).decode("utf-8", errors="replace")


# --- greedy ---


@pytest.fixture(scope="module")
def together():
    return greedy(PROMPTS)


@pytest.mark.parametrize("row", range(3))
def test_greedy_is_what_the_model_chooses_on_the_whole_text(together, row):
    assert len(together[row]) == NEW
    assert is_greedy(TINY.params, TINY.config, PROMPTS[row], together[row])
    assert not is_greedy(TINY.params, TINY.config, PROMPTS[row], together[row][::-1])


def test_a_prompt_does_not_feel_its_neighbours(together):
    assert [greedy([prompt])[0] for prompt in PROMPTS] == together
    assert greedy(PROMPTS, batch_size=1) == together
    assert greedy(PROMPTS[::-1]) == together[::-1]


def test_other_parameters_through_the_same_compiled_step(together):
    other = tree.map(lambda leaf: leaf * 1.5, TINY.params)
    seen = lists(generate(llama, other, TINY.config, PROMPTS, max_new_tokens=NEW))
    assert is_greedy(other, TINY.config, PROMPTS[0], seen[0])
    assert seen != together
    assert greedy(PROMPTS) == together


def test_a_real_model_tells_the_story_that_transformers_tells(shared):
    stories = from_pretrained(shared / "data" / "checkpoints" / "stories260K")
    golden = np.load(GOLDEN / "llama_stories.npz")
    model, config, params, tokenizer = stories
    prompt, wanted = golden["prompt0/input_ids"], golden["greedy"]
    (seen,) = generate(model, params, config, [prompt], max_new_tokens=len(wanted))
    np.testing.assert_array_equal(seen, wanted)
    assert is_greedy(params, config, prompt, seen)
    text = tokenizer.decode(seen)
    assert "there was a little girl" in text, text
    told = "".join(stream(model, params, config, prompt, tokenizer, max_new_tokens=len(wanted)))
    assert tokenizer.decode(prompt) + told == tokenizer.decode([*prompt, *seen])


# --- ends ---


def test_eos_cuts_a_row_and_leaves_the_others_alone():
    params = cycle([1, 2, 3, 4, 5, 6])
    prompts = [[1], [9, 4], [6], [5]]
    rows = generate(bigram, params, BYTES, prompts, max_new_tokens=4, eos_id=5)
    assert lists(rows) == [[2, 3, 4], [], [1, 2, 3, 4], [6, 1, 2, 3]]
    assert {row.dtype for row in rows} == {np.dtype(np.int32)}


def test_it_stops_when_every_row_has_ended(monkeypatch):
    calls, decode_step = [], generation._decode_step

    def counted(model, config):
        step = decode_step(model, config)
        return lambda *args: calls.append(1) or step(*args)

    monkeypatch.setattr(generation, "_decode_step", counted)
    params = cycle([1, 2, 3])
    rows = generate(bigram, params, BYTES, [[1], [2]], max_new_tokens=40, eos_id=3)
    assert lists(rows) == [[2], []]
    assert len(calls) == 2


def test_no_prompts_give_no_rows():
    assert generate(bigram, cycle([1, 2]), BYTES, [], max_new_tokens=3) == []


def test_one_new_token_and_an_exactly_full_prompt():
    prompt = [[1, 2] * 8]
    assert lists(generate(bigram, cycle([1, 2]), BYTES, prompt, max_new_tokens=1)) == [[1]]


# --- sampled ---

SCORES = {"scores": np.log(np.tile(np.float32([0.5, 0.3, 0.15, 0.05]), (4, 1)))}
ROWS = 1500


def shares(**settings):
    """How often each of four tokens is drawn, over many rows."""
    rows = generate(
        bigram, SCORES, bigram.Config(4), [[0]] * ROWS,
        max_new_tokens=1, key=KEY, batch_size=ROWS, **settings,
    )  # fmt: skip
    return np.bincount(np.concatenate(rows), minlength=4) / ROWS


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, [0.5, 0.3, 0.15, 0.05]),
        ({"temperature": 0.5}, np.square([0.5, 0.3, 0.15, 0.05]) / 0.365),
        ({"top_k": 2}, [0.625, 0.375, 0, 0]),
        ({"top_k": 99}, [0.5, 0.3, 0.15, 0.05]),
    ],
)
def test_tokens_are_drawn_as_often_as_the_model_says(settings, wanted):
    """Within 4.5 standard deviations; impossible tokens never."""
    seen, wanted = shares(**settings), np.asarray(wanted)
    assert (np.abs(seen - wanted) <= 4.5 * np.sqrt(wanted * (1 - wanted) / ROWS)).all(), seen


def test_the_key_decides():
    first = greedy(PROMPTS, key=random.key(1))
    assert first == greedy(PROMPTS, key=random.key(1))
    assert first != greedy(PROMPTS, key=random.key(2))
    assert first != greedy(PROMPTS)


def test_rows_and_steps_draw_apart():
    """Equal prompts in one batch must not all tell the same story."""
    flat = {"scores": np.zeros((64, 64), np.float32)}
    rows = lists(
        generate(
            bigram, flat, bigram.Config(64), [[0]] * 6, max_new_tokens=20, key=KEY, batch_size=6
        )
    )
    assert len({tuple(row) for row in rows}) == 6
    assert all(len(set(row)) > 5 for row in rows)


def test_what_a_row_draws_does_not_depend_on_the_batch():
    settings = {"key": random.key(5), "temperature": 2.0}
    assert greedy(PROMPTS, batch_size=3, **settings) == greedy(PROMPTS, batch_size=1, **settings)


def test_the_best_one_or_a_low_temperature_is_greedy(together):
    assert greedy(PROMPTS, key=KEY, top_k=1) == together
    assert greedy(PROMPTS, key=KEY, temperature=1e-5) == together


# --- streaming ---

TEXT = "né, 中x!"  # every byte once, so that a cycle of bytes can tell it


def told(prompt, new, **settings):
    prompt = list(prompt)
    params = cycle(list(TEXT.encode()))
    parts = list(stream(bigram, params, BYTES, prompt, Bytes(), max_new_tokens=new, **settings))
    (ids,) = generate(bigram, params, BYTES, [prompt], max_new_tokens=new, **settings)
    return parts, Bytes().decode([*prompt, *ids])


def test_a_character_of_several_tokens_comes_whole():
    assert len(set(TEXT.encode())) == len(TEXT.encode())
    parts, _ = told(b"!", len(TEXT.encode()))
    assert parts == list(TEXT)


@pytest.mark.parametrize("new", range(1, 14))
def test_joined_the_parts_are_the_text(new):
    parts, whole = told(b"!", new)
    assert "!" + "".join(parts) == whole


@pytest.mark.parametrize("cut", [1, 2, 5, 6, 7])
def test_a_prompt_that_ends_in_half_a_character_loses_nothing(cut):
    """The cut goes through é after its first byte, through 中 after its first and second one."""
    prompt = TEXT.encode()[:cut]
    parts, whole = told(prompt, 9)
    assert Bytes().decode(prompt).rstrip("\ufffd") + "".join(parts) == whole


def test_a_stream_ends_before_the_eos():
    parts, _ = told(b"!", 20, eos_id=ord("x"))
    assert "".join(parts) == "né, 中"
    assert told(b"!", 20, eos_id=ord("n"))[0] == []


def test_a_sampled_stream_is_the_sampled_text():
    settings = {"key": random.key(3), "temperature": 3.0, "top_k": 5}
    parts, whole = told(b"!", 9, **settings)
    assert "!" + "".join(parts) == whole != told(b"!", 9)[1]


# --- bad input ---


@pytest.mark.parametrize(
    ("prompts", "settings", "message"),
    [
        ([[1], []], {}, r"generate: prompt 1 is empty; start it with the bos token"),
        ([[1], [3, 256]], {}, r"generate: prompt 1 has token 256; the model has vocab_size=256"),
        ([[-1, 300]], {}, r"generate: prompt 0 has token -1; the model has vocab_size=256"),
        ([[1]], {"max_new_tokens": 0}, r"generate: max_new_tokens=0; it must be at least 1"),
        ([[1]], {"top_k": 0}, r"generate: top_k=0; it must be at least 1"),
        ([[1]], {"batch_size": 0}, r"generate: batch_size=0; it must be at least 1"),
        ([[1]], {"temperature": 0.0}, r"temperature=0.0; it must be positive \(no key is greedy\)"),
        ([[1]], {"temperature": float("nan")}, r"generate: temperature=nan; it must be positive"),
    ],
)
def test_bad_prompts_and_settings(prompts, settings, message):
    with pytest.raises(ValueError, match=message):
        generate(bigram, cycle([1, 2]), BYTES, prompts, **{"max_new_tokens": 2, **settings})


@pytest.mark.parametrize(
    ("prompt", "settings", "message"),
    [([], {}, r"prompt 0 is empty"), ([1], {"top_k": 0}, r"top_k=0"), ([256], {}, r"token 256")],
)
def test_a_stream_checks_the_same(prompt, settings, message):
    with pytest.raises(ValueError, match=message):
        next(stream(bigram, cycle([1, 2]), BYTES, prompt, Bytes(), max_new_tokens=2, **settings))
