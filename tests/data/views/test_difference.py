"""Every cause is made by the mistake itself, with the code that would make it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import attrs
import numpy as np
import pytest
import sentencepiece as engine
from tests.data.byte_tokenizer import ByteTokenizer

import mfunc.data as md
from mfunc.data import Ragged
from mfunc.data.storage import indexed

BYTES = ByteTokenizer()
RNG = np.random.default_rng(0)
WORDS = ["add", "the", "two", "numbers", "and", "tell", "me", "what", "comes", "after", "seven"]
ROWS = {
    "instruction": [" ".join(RNG.choice(WORDS, 3 + i % 7)) + "?" for i in range(24)],
    "input": [""] * 24,
    "output": [" ".join(RNG.choice(WORDS, 2 + i % 5)) + "." for i in range(24)],
}
CHAT = {"style": "alpaca", "template": "qwen"}


def tokens(*, chat=None, rows=ROWS, **settings):
    return md.pipe(rows, md.chat(**{**CHAT, **(chat or {})}), md.tokenize(BYTES, **settings))


BASE = tokens()


@pytest.fixture(scope="module")
def piece_model(tmp_path_factory) -> Path:
    """A SentencePiece model with a dummy prefix, as LLaMA's."""
    writer = io.BytesIO()
    engine.SentencePieceTrainer.train(
        sentence_iterator=iter([*ROWS["instruction"], *ROWS["output"]] * 9),
        model_writer=writer,
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = tmp_path_factory.mktemp("model") / "tokenizer.model"
    path.write_bytes(writer.getvalue())
    return path


def causes(a, b, tokenizer=BYTES, **settings) -> dict[str, int]:
    return dict(md.diff(a, b, tokenizer, **settings).causes)


def edited(column: str, change, base=BASE):
    """One column with every row changed."""
    return {**base, column: Ragged.from_rows([change(row.copy()) for row in base[column]])}


def both(change, base=BASE):
    """Ids and labels changed in the same way."""
    return edited("labels", change, edited("input_ids", change, base))


def test_the_same():
    found = md.diff(BASE, BASE, BYTES)
    assert not found
    assert found.differ == {"input_ids": 0, "labels": 0}
    assert found.causes == {}
    assert str(found).endswith("24 rows compared; rows that differ: input_ids in 0, labels in 0")


def test_bos():
    other = tokens(prepend_bos=True)
    assert causes(other, BASE) == {"bos missing in b": 24}
    assert causes(BASE, other) == {"bos extra in b": 24}
    twice = both(lambda row: np.concatenate([row[:1], row]), other)
    assert causes(other, twice) == {"bos doubled in b": 24}
    assert causes(twice, other) == {"bos doubled in a": 24}


def test_eos():
    text = {"text": ROWS["output"]}
    plain, ended = (md.tokenize(BYTES, append_eos=eos)(text) for eos in (False, True))
    assert causes(ended, plain) == {"eos missing in b": 24}
    assert causes(plain, ended) == {"eos extra in b": 24}
    twice = both(lambda row: np.append(row, row[-1]), ended)
    assert causes(ended, twice) == {"eos doubled in b": 24}
    assert causes(tokens(prepend_bos=True, append_eos=True), BASE) == {
        "bos missing in b, eos missing in b": 24
    }


def test_bos_and_eos_without_a_tokenizer():
    text = {"text": ROWS["output"]}
    both_ends = md.tokenize(BYTES, prepend_bos=True)(text)
    headless = md.tokenize(BYTES)(text)
    endless = md.tokenize(BYTES, prepend_bos=True, append_eos=False)(text)
    assert causes(both_ends, headless, None) == {"bos missing in b": 24}
    assert causes(headless, both_ends, None) == {"bos extra in b": 24}
    assert causes(both_ends, endless, None) == {"eos missing in b": 24}
    assert causes(endless, both_ends, None) == {"eos extra in b": 24}
    twice = both(lambda row: np.append(row, row[-1]), both_ends)
    assert causes(both_ends, twice, None) == {"eos doubled in b": 24}


@pytest.mark.parametrize("tokenizer", [BYTES, None])
def test_system_text(tokenizer):
    """A word misspelt, as in a tutorial that is; a system text on one side only."""
    first, second = (
        tokens(chat={"system": f"A chat between a curious {who} and an assistant."})
        for who in ("user", "urer")
    )
    short, none = tokens(chat={"system": "Be brief."}), tokens(chat={"system": ""})
    assert causes(first, short, tokenizer) == {"system text differs": 24}
    assert causes(first, none, tokenizer) == {"system text differs": 24}
    assert causes(none, first, tokenizer) == {"system text differs": 24}
    long = tokens(chat={"system": "A chat between a curious stranger and an assistant."})
    assert causes(first, long, tokenizer) == {"system text differs": 24}
    assert causes(first, second, tokenizer) == {"system text differs": 24}


def test_a_change_of_a_few_rows_is_no_system_text():
    rows = [row.copy() for row in BASE["input_ids"]]
    for row in rows[:2]:
        row[10:12] = 200
    for i, row in enumerate(rows[2:]):
        row[12:14] = 150 + i
    ids = {"input_ids": BASE["input_ids"]}
    assert causes(ids, {"input_ids": Ragged.from_rows(rows)}) == {"unknown": 24}


def test_dummy_prefix(piece_model):
    """Pieces with and without the space before them; a prompt that lost its space."""
    with_space, without = (
        md.sentencepiece(piece_model, dummy_prefix=prefix) for prefix in (None, False)
    )
    chat = md.chat(style="alpaca", template="alpaca")(ROWS)
    a, b = md.tokenize(with_space)(chat), md.tokenize(without)(chat)
    cause = "space differs (a dummy prefix before a piece, or a trimmed text)"
    assert causes(a, b, with_space) == {cause: 24}
    assert causes(b, a, without) == {cause: 24}
    text = {"text": ROWS["output"]}
    a, b = md.tokenize(with_space)(text), md.tokenize(without)(text)
    assert causes(a, b, with_space) == {cause: 24}
    role = md.Template(user="USER: {content} ASSISTANT:", assistant="{content}{eos}")
    led = attrs.evolve(role, assistant=" {content}{eos}")
    a, b = tokens(chat={"template": role}), tokens(chat={"template": led})
    assert causes(a, b) == {cause: 24}


def test_same_text_in_other_tokens(piece_model):
    """Encoded as a whole, and letter by letter."""
    model = md.sentencepiece(piece_model, dummy_prefix=False)
    words = ["seven", "numbers", "comes"]
    whole = {"input_ids": Ragged.from_rows(model.encode(words))}
    letters = [np.concatenate(model.encode(list(word))) for word in words]
    cause = "same text in other tokens, or other special tokens"
    assert causes(whole, {"input_ids": Ragged.from_rows(letters)}, model) == {cause: 3}


@pytest.mark.parametrize("tokenizer", [BYTES, None])
def test_padding(tokenizer):
    a, b, c = (md.pad_to_divisor(n, pad_id=p)(BASE) for n, p in ((256, 259), (256, 0), (512, 259)))
    assert causes(a, b, tokenizer) == {"pad differs: 259 in a, 0 in b": 24}
    assert causes(a, c, tokenizer) == {"extra padding in b": 24}
    assert causes(c, a, tokenizer) == {"extra padding in a": 24}
    bare = [{n: x[n] for n in ("input_ids", "labels")} for x in (a, b, c)]
    assert causes(bare[0], bare[2], tokenizer) == {"extra padding in b": 24}
    assert causes(bare[0], bare[1], tokenizer) == {"pad differs: 259 in a, 0 in b": 24}
    assert "eos" not in str(causes(BASE, bare[0], tokenizer))


def test_what_is_trained():
    everything = edited("labels", lambda row: row, {**BASE, "labels": BASE["input_ids"]})
    nothing = edited("labels", lambda row: row * 0 - 100)
    assert causes(BASE, everything) == {"prompt trained in b": 24}
    assert causes(everything, BASE) == {"prompt trained in a": 24}
    assert causes(BASE, nothing) == {"answer untrained in b": 24}
    assert causes(nothing, BASE) == {"answer untrained in a": 24}
    first = edited("labels", lambda row: np.append(257, row[1:]), tokens(prepend_bos=True))
    assert causes(tokens(prepend_bos=True), first) == {"first token trained in b": 24}
    text = md.tokenize(BYTES)({"text": ROWS["output"]})
    masked = edited("labels", lambda row: np.append(row[:-1], -100), text)
    assert causes(text, masked) == {"eos untrained in b": 24}


def test_trained_padding():
    padded = md.pad_to_divisor(256, pad_id=259)(BASE)
    labels = np.where(padded["segment_ids"] == 0, 259, padded["labels"])
    assert causes(padded, {**padded, "labels": labels}) == {"padding trained in b": 24}
    bare = {name: padded[name] for name in ("input_ids", "labels")}
    assert causes(bare, {**bare, "labels": labels}, None) == {"padding trained in b": 24}


def test_several_turns():
    """All questions trained, or one answer of several not."""
    turn = {"instruction": "and then?", "input": "", "output": "so it goes on."}
    history = [["first?", "one."], ["second?", "two."]]
    rows = {**{k: [v] * 3 for k, v in turn.items()}}
    rows["instruction"] = [f"and then {i}?" for i in range(3)]
    template = md.TEMPLATES["qwen"]
    messages = [
        [md.Message(r, t) for q, a in history for r, t in (("user", q), ("assistant", a))]
        + [md.Message("user", q), md.Message("assistant", "so it goes on.")]
        for q in rows["instruction"]
    ]
    pieces = {"pieces": [list(md.render(template, m)) for m in messages]}
    base = md.tokenize(BYTES)(pieces)
    trained = {**base, "labels": base["input_ids"]}
    assert causes(base, trained) == {"prompt trained in b": 3}
    runs = [np.flatnonzero(np.diff(np.append([0], row != -100))) for row in base["labels"]]

    starts = iter(run[4] for run in runs)

    def last_only(row):
        return np.where(np.arange(len(row)) < next(starts), -100, row)

    assert causes(base, edited("labels", last_only, base)) == {"answer untrained in b": 3}
    missing = both(lambda row: row, base)
    for name in ("input_ids", "labels"):
        ends = [np.flatnonzero(ids == 262) for ids in base["input_ids"]]
        kept = [np.delete(row, end[0]) for row, end in zip(base[name], ends, strict=True)]
        missing[name] = Ragged.from_rows(kept)
    assert causes(base, missing) == {"same text in other tokens, or other special tokens": 3}


def test_shifted_labels():
    left = edited("labels", lambda row: np.append(row[1:], -100))
    right = edited("labels", lambda row: np.append(-100, row[:-1]))
    assert causes(BASE, left) == {"labels shifted by one in b": 24}
    assert causes(left, BASE) == {"labels shifted by one in a": 24}
    assert causes(BASE, right) == {"labels shifted by one in b": 24}


def test_masks():
    packed = md.pack(256)(BASE)
    count = len(packed["input_ids"])
    ones = {**packed, "segment_ids": np.ones_like(packed["segment_ids"])}
    binary = {**packed, "segment_ids": (packed["segment_ids"] > 0).astype(np.int32)}
    cause = "mask is ones in {} (plain pack), segment ids in {} (neat pack)"
    assert causes(packed, ones) == {cause.format("b", "a"): count}
    assert causes(ones, packed) == {cause.format("a", "b"): count}
    padded = (packed["segment_ids"] == 0).any(1)
    kinds = causes(packed, binary)
    assert set(kinds) <= {
        "mask is 0 and 1 in b, segment ids in a",
        cause.format("b", "a"),  # rows without padding
    }
    assert causes(ones, binary) == {"mask of padding is 1 in a, 0 in b": int(padded.sum())}
    order = {**packed, "segment_ids": np.where(packed["segment_ids"] > 0, 99, 0)}
    order["segment_ids"] -= packed["segment_ids"]
    order["segment_ids"][packed["segment_ids"] == 0] = 0
    assert causes(packed, order) == {"segments are numbered otherwise": count}


def test_order_and_missing_rows():
    shuffled = md.shuffle(3)(BASE)
    pairs = zip(BASE["input_ids"], shuffled["input_ids"], strict=True)
    moved = sum(a.tolist() != b.tolist() for a, b in pairs)
    assert causes(BASE, shuffled) == {"rows in another order": moved}
    keep = np.arange(24) != 5
    fewer = {name: column[keep] for name, column in BASE.items() if name != "_origin"}
    found = md.diff(BASE, fewer, BYTES)
    assert found.missing == (0, 1)
    assert found.rows == (24, 23)
    assert found.first[0].row == 5
    assert found.first[0].cause == "row missing in b"
    assert md.diff(fewer, BASE, BYTES).first[0].cause == "row missing in a"
    assert "b lacks 1 rows" in str(found)
    cut = md.diff(BASE, md.take(20)(BASE))
    assert cut
    assert cut.differ == {"input_ids": 0, "labels": 0}
    assert cut.missing == (0, 4)


def test_other_packs():
    a, b = md.pack(256)(BASE), md.pack(256, strategy="next_fit")(BASE)
    assert set(causes(a, b)) == {"same samples in other packs"}


def test_mistakes_inside_packs():
    """The samples of packed rows are compared, not the rows."""
    one = md.pack(8192, strategy="next_fit")
    a = one(BASE)
    first, second = (
        tokens(chat={"system": f"A chat between a curious {who} and an assistant."})
        for who in ("user", "stranger")
    )
    assert causes(a, one(tokens(prepend_bos=True))).keys() == {"bos extra in b"}
    rows = md.pack(256, strategy="next_fit", max_segments=1)
    assert causes(rows(first), rows(second)) == {"system text differs": 24}
    assert causes(one(first), one(second)).keys() == {"unknown"}, "one row is not enough to tell"


@pytest.mark.parametrize("policy", ["tail", "source_first", "proportional"])
@pytest.mark.parametrize("tokenizer", [BYTES, None])
def test_truncated(policy, tokenizer):
    short = md.truncate(100, policy=policy)(BASE)
    cut = int((BASE["input_ids"].lengths > 100).sum())
    assert cut > 5
    what = "truncated" if policy == "tail" else "part of the prompt missing"
    assert causes(BASE, short, tokenizer) == {f"{what} in b": cut}
    assert causes(short, BASE, tokenizer) == {f"{what} in a": cut}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tokenizer", [BYTES, None])
def test_no_cause_is_guessed(seed, tokenizer):
    """Random tokens put in, taken out, replaced; random labels masked."""
    rng = np.random.default_rng(seed)

    def replaced(row):
        at = rng.integers(2, len(row) - 2, 3)
        row[at] = (row[at] + rng.integers(1, 90, 3)) % 200
        return row

    def inserted(row):
        return np.insert(row, rng.integers(3, len(row) - 3, 2), rng.integers(33, 200, 2))

    def removed(row):
        return np.delete(row, rng.choice(np.flatnonzero(row[:-3] > 32)[3:], 2))

    ids = {"input_ids": BASE["input_ids"]}
    for change in (replaced, inserted, removed):
        assert causes(ids, edited("input_ids", change, ids), tokenizer) == {"unknown": 24}

    def masked(row):
        trained = np.flatnonzero(row != -100)
        row[rng.choice(trained[1:-1], 2, replace=False)] = -100
        return row

    def other_label(row):
        row[len(row) - 3] = 7
        return row

    for change in (masked, other_label):
        assert causes(BASE, edited("labels", change), tokenizer) == {"unknown": 24}
    every = {"input_ids": Ragged.from_rows([rng.integers(0, 250, 30) for _ in range(24)])}
    assert causes(ids, every, tokenizer) == {"unknown": 24}


def test_files_of_every_kind():
    indexed.write("x", BASE)
    assert not md.diff(BASE, "x")
    assert not md.diff("x", "x_packed_input_ids_document.idx")
    lists = {n: [row.tolist() for row in BASE[n]] for n in ("input_ids", "labels")}
    rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    Path("rows.json").write_text(json.dumps(rows))
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("ids.json").write_text(json.dumps(lists["input_ids"]))
    Path("ids.jsonl").write_text("".join(f"{row}\n" for row in lists["input_ids"]))
    Path("columns.json").write_text(json.dumps(lists))
    for name in ("rows.json", "rows.jsonl", "columns.json", "ids.json", "ids.jsonl"):
        found = md.diff("x", name)
        assert not found
        assert list(found.differ) == ["input_ids", "labels"][: 1 if "ids" in name else 2]
        assert found.names == ("x", name)


def test_golden_files(shared):
    """Real outputs: with and without --append-eod."""
    folder = shared / "golden/mindspeed/e2e"
    a, b = (folder / f"alpaca_qwen_{name}/v210/ds" for name in ("neatpack", "neatpack_appendeod"))
    found = md.diff(a, b, BYTES)
    assert found
    plain = md.diff(folder / "alpaca_qwen_pack/v210/ds", a, BYTES)
    assert plain.differ["input_ids"] == 0
    assert plain.differ["mask"] == 4
    cause = "mask is ones in a (plain pack), segment ids in b (neat pack)"
    assert dict(plain.causes) == {cause: 4}


def test_the_page():
    page = str(md.diff(tokens(prepend_bos=True), BASE, BYTES, limit=1))
    assert page.splitlines() == [
        "a: columns, 24 rows",
        "b: columns, 24 rows",
        "24 rows compared; rows that differ: input_ids in 24, labels in 24",
        "causes of the first 24 rows that differ:",
        "      24  bos missing in b",
        "",
        "row 0, input_ids, position 0: bos missing in b",
        "  a  257 261 115 121 115 116 101 109 10 89",
        "     'system\\nY'",
        "  b  261 115 121 115 116 101 109 10 89 111",
        "     'system\\nYo'",
    ]
    assert len(md.diff(tokens(prepend_bos=True), BASE, limit=3).first) == 3
    assert md.diff(tokens(prepend_bos=True), BASE, limit=0).first == ()


def test_many_rows():
    """Only the first thousand are explained; all are counted."""
    ids = Ragged.from_rows(np.arange(5000 * 3).reshape(5000, 3))
    other = Ragged.from_rows(np.arange(5000 * 3).reshape(5000, 3) + 1)
    found = md.diff({"input_ids": ids}, {"input_ids": other})
    assert found.differ == {"input_ids": 5000}
    assert sum(found.causes.values()) == 1000


@pytest.mark.parametrize("bad", [-1, 2.5, True])
def test_wrong_limits(bad):
    with pytest.raises((TypeError, ValueError), match="diff: limit must be an integer >= 0"):
        md.diff(BASE, BASE, limit=bad)


def test_another_pad_in_packed_rows_is_named():
    rows = {"input_ids": md.Ragged.from_rows([[5, 6], [7, 8, 9], [4]])}
    one, other = (md.pack(8, pad_id=pad)(rows) for pad in (0, 2))
    found = md.diff(one, other)
    assert [row.cause for row in found.first] == ["pad differs: 0 in a, 2 in b"]
