"""The laws of the data layer. To add a transform: add a row to TABLE."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mfunc.data as md
from mfunc.data.packing.plan import STRATEGIES


class Characters:
    """A tokenizer of code points, enough for laws."""

    vocab_size, bos_id, eos_id = 0x110000 + 2, 0x110000, 0x110001

    def encode(self, texts):
        return [[ord(c) for c in text] for text in texts]

    def token_id(self, name):
        return {"bos": self.bos_id, "eos": self.eos_id}[name]

    def __eq__(self, other):
        return isinstance(other, Characters)

    def __hash__(self):
        return 0


@st.composite
def samples(draw, longest: int = 12, most: int = 25) -> dict[str, Any]:
    """Token columns: any lengths, 0 among them; labels partly trained; one more Ragged column."""
    lengths = draw(st.lists(st.integers(0, longest), max_size=most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = [rng.integers(1, 99, n) for n in lengths]
    labels = [np.where(rng.random(len(row)) < 0.5, row, -100) for row in ids]
    weights = [rng.integers(1, 9, len(row)) for row in ids]
    columns = {"input_ids": ids, "labels": labels, "weights": weights}
    return {name: md.Ragged.from_rows(rows) for name, rows in columns.items()}


@st.composite
def texts(draw) -> dict[str, Any]:
    characters = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    return {"text": draw(st.lists(characters, max_size=8))}


@st.composite
def alpaca_rows(draw) -> dict[str, Any]:
    count = draw(st.integers(0, 6))
    text = st.text(max_size=6)
    column = st.lists(text, min_size=count, max_size=count)
    return {name: draw(column) for name in ("instruction", "input", "output")}


@st.composite
def conversations(draw) -> dict[str, Any]:
    turns = st.tuples(st.text(max_size=6), st.text(max_size=6))
    said = draw(st.lists(st.lists(turns, min_size=1, max_size=3), max_size=5))
    names = ("gpt", "assistant")
    return {
        "conversations": [
            [
                {"from": who, "value": text}
                for i, turn in enumerate(talk)
                for who, text in zip(("human", names[i % 2]), turn, strict=True)
            ]
            for talk in said
        ]
    }


@st.composite
def classified(draw) -> dict[str, Any]:
    rows = draw(st.lists(st.tuples(st.text(max_size=6), st.integers(0, 16)), max_size=6))
    return {
        "sentence": [text for text, _ in rows],
        "label": np.array([100 + label for _, label in rows], np.int64),
        "_origin": [f"line {i}" for i in range(len(rows))],
    }


@st.composite
def questions(draw) -> dict[str, Any]:
    word = st.text(max_size=4)
    answers = st.lists(st.fixed_dictionaries({"text": word}), max_size=3)
    asked = st.fixed_dictionaries({"question": word, "answers": answers})
    passage = st.fixed_dictionaries({"context": word, "qas": st.lists(asked, max_size=3)})
    article = st.fixed_dictionaries({"paragraphs": st.lists(passage, max_size=2)})
    return {"data": draw(st.lists(st.lists(article, max_size=2), max_size=3))}


@st.composite
def wikis(draw) -> dict[str, Any]:
    text = st.text(st.sampled_from("aN's .,;@-=()[]\"{}°\n"), max_size=40)
    return {"text": draw(st.lists(text, max_size=4))}


@st.composite
def news(draw) -> dict[str, Any]:
    word = st.text(st.sampled_from('ab ,"\\'), max_size=5)
    rows = draw(st.lists(st.tuples(st.integers(1, 4), word, word), max_size=5))
    double = '""'
    quoted = [",".join(f'"{str(x).replace(chr(34), double)}"' for x in row) for row in rows]
    return {"text": quoted}


@st.composite
def pieces(draw) -> dict[str, Any]:
    return md.chat(style="alpaca", template="alpaca")(draw(alpaca_rows()))


@st.composite
def dialogues(draw) -> dict[str, Any]:
    """ShareGPT rows, most of them conversations."""
    text = st.text(max_size=6)
    turn = st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt"]), "value": text})
    pair = st.tuples(text, text).map(
        lambda qa: [{"from": "human", "value": qa[0]}, {"from": "gpt", "value": qa[1]}]
    )
    whole = st.lists(pair, min_size=1, max_size=3).map(lambda p: [m for pair in p for m in pair])
    rows = draw(st.lists(st.one_of(whole, whole, st.lists(turn, max_size=3)), max_size=6))
    return {"conversations": rows, "_origin": [f"line {i}" for i in range(len(rows))]}


@st.composite
def preferences(draw) -> dict[str, Any]:
    rows = draw(alpaca_rows())
    return {"instruction": rows["instruction"], "chosen": rows["input"], "rejected": rows["output"]}


@st.composite
def packed(draw) -> dict[str, Any]:
    return md.pack(12)(draw(samples()))


@st.composite
def aligned(draw) -> dict[str, Any]:
    return md.pack(12, segment_multiple=3)(draw(samples()))


CHAT = {"style": "alpaca", "template": "qwen", "prompt_only": True}


class Row(NamedTuple):
    """A transform, its inputs, and which laws beyond the common ones hold for it."""

    build: Callable[[], md.Transform]
    inputs: st.SearchStrategy
    row_by_row: bool = False  # f(concat(parts)) == concat(map(f, parts))
    idempotent: bool = False


TABLE = {
    "chat": Row(lambda: md.chat(style="alpaca", template="llama2"), alpaca_rows(), row_by_row=True),
    "chat prompt": Row(
        lambda: md.chat(
            style="alpaca", template="qwen", prompt_only=True, fields={"output": "output"}
        ),
        alpaca_rows(),
        row_by_row=True,
    ),
    **{
        f"sft {name}": Row(lambda n=name: md.sft(n, user_prompt="S<s>"), conversations(), True)
        for name in (
            "multi-round-chat",
            "multi-round-chat-dyn",
            "multi-round-chat-dyn-alpaca",
            "vicuna",
        )
    },
    "sft alpaca": Row(lambda: md.sft("alpaca", train_on="all"), alpaca_rows(), True),
    "sft multi-instruct-dyn": Row(lambda: md.sft("multi-instruct-dyn"), alpaca_rows(), True),
    "sft tnews": Row(lambda: md.sft("tnews", bos_token=""), classified(), True),
    "carry": Row(
        lambda: md.carry(["label"], md.chat(**CHAT, fields={"instruction": "sentence"})),
        classified(),
        True,
    ),
    "alpaca_conversations": Row(lambda: md.alpaca_conversations(), alpaca_rows()),
    "belle_conversations": Row(lambda: md.belle_conversations(first=7), alpaca_rows()),
    "squad": Row(lambda: md.squad(answers="all"), questions(), True),
    "squad first": Row(lambda: md.squad(prompt="cmrc2018", questions="first"), questions(), True),
    "wikitext": Row(lambda: md.wikitext(), wikis(), True),
    "wikitext file": Row(lambda: md.wikitext(unit="file"), wikis(), True),
    "ag_news": Row(lambda: md.ag_news(), news(), True),
    "chat pairs": Row(
        lambda: md.chat(style="pairwise", template="chatglm3"), preferences(), row_by_row=True
    ),
    "chat append_eos": Row(
        lambda: md.chat(
            style="sharegpt",
            template="glm4_moe",
            append_eos=True,
            thinking="train",
            invalid="drop",
            parse_special=["<|user|>"],
        ),
        dialogues(),
        row_by_row=True,
    ),
    "conversations": Row(
        lambda: md.conversations(style="sharegpt", tags={"user_tag": "human"}, invalid="drop"),
        dialogues(),
        row_by_row=True,
    ),
    "conversations text": Row(
        lambda: md.conversations(style="text", invalid="drop"), texts(), row_by_row=True
    ),
    "tokenize text": Row(lambda: md.tokenize(Characters()), texts(), row_by_row=True),
    "tokenize pieces": Row(
        lambda: md.tokenize(Characters(), prepend_bos=True), pieces(), row_by_row=True
    ),
    "truncate drop": Row(lambda: md.truncate(5, policy="drop"), samples(), True, True),
    "truncate tail": Row(lambda: md.truncate(5, policy="tail"), samples(), True, True),
    "truncate source_first": Row(
        lambda: md.truncate(5, policy="source_first"), samples(), True, True
    ),
    "truncate proportional": Row(
        lambda: md.truncate(5, policy="proportional"), samples(), True, True
    ),
    "truncate per_turn": Row(lambda: md.truncate(5, policy="per_turn"), samples(), True, True),
    "truncate split": Row(lambda: md.truncate(5, policy="split"), samples(), True, True),
    "truncate error": Row(lambda: md.truncate(12, policy="error"), samples(), True, True),
    "pad_to_divisor": Row(lambda: md.pad_to_divisor(4, remainder=1), samples(), idempotent=True),
    "pad_to_divisor pads": Row(
        lambda: md.pad_to_divisor(4, pads={"weights": 3}, ignore_id=-1), samples(), idempotent=True
    ),
    "pad_to_divisor 1": Row(lambda: md.pad_to_divisor(1), samples(), idempotent=True),
    **{
        f"pack {strategy}": Row(lambda s=strategy: md.pack(12, strategy=s), samples())
        for strategy in STRATEGIES
    },
    "pack overlong": Row(lambda: md.pack(7, overlong="split", max_segments=3), samples()),
    "pack capacity": Row(lambda: md.pack(12, capacity=9, overlong="truncate"), samples()),
    "pack aligned": Row(lambda: md.pack(16, segment_multiple=4, seed=3), samples()),
    "pack plain": Row(
        lambda: md.pack(12, isolate=False, seed=np.array([0, 3], np.uint32)), samples()
    ),
    "unpack": Row(lambda: md.unpack(), packed(), row_by_row=True),
    "unpack aligned": Row(lambda: md.unpack(), aligned(), row_by_row=True),
    "repeat_to_multiple": Row(lambda: md.repeat_to_multiple(4), samples(), idempotent=True),
    "shuffle": Row(lambda: md.shuffle(7), samples()),
    "take": Row(lambda: md.take(3), samples(), idempotent=True),
    "skip": Row(lambda: md.skip(3), samples()),
}
NAMES = sorted(TABLE)


def same(a: Any, b: Any) -> bool:
    """Columns of the same kinds, types and values."""
    return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)


def equal(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    return a == b and getattr(a, "dtype", None) == getattr(b, "dtype", None)


def cut(columns: dict[str, Any], at: int) -> list[dict[str, Any]]:
    return [md.take(at)(columns), md.skip(at)(columns)]


def size(columns: dict[str, Any]) -> int:
    return len(next(iter(columns.values())))


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_deterministic_and_input_unchanged(name, data):
    row = TABLE[name]
    columns = data.draw(row.inputs)
    before = copy.deepcopy(columns)
    first = row.build()(columns)
    assert same(first, row.build()(columns))
    assert same(columns, before)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_empty_in_empty_out(name, data):
    row = TABLE[name]
    out = row.build()(md.take(0)(data.draw(row.inputs)))
    assert size(out) == 0


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_pickled_it_is_equal_and_does_the_same(name, data):
    row = TABLE[name]
    built = row.build()
    again = pickle.loads(pickle.dumps(built))
    assert again == built
    assert hash(again) == hash(built)
    columns = data.draw(row.inputs)
    assert same(again(columns), built(columns))


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_counting_changes_nothing_and_counts_add(name, data):
    row = TABLE[name]
    columns = data.draw(row.inputs)
    result, counts = md.counted(row.build(), columns)
    assert same(result, row.build()(columns))
    assert all(type(n) is int and n >= 0 for n in counts.values())
    twice, doubled = md.counted(md.compose(row.build(), lambda c: c), columns)
    assert (same(twice, result), doubled) == (True, counts)


@pytest.mark.parametrize("name", [n for n in NAMES if TABLE[n].row_by_row])
@given(data=st.data())
def test_chunks_joined_are_the_whole(name, data):
    row = TABLE[name]
    columns = data.draw(row.inputs)
    parts = cut(columns, data.draw(st.integers(0, size(columns))))
    assert same(row.build()(columns), md.concat([row.build()(part) for part in parts]))


@pytest.mark.parametrize("name", [n for n in NAMES if TABLE[n].idempotent])
@given(data=st.data())
def test_idempotent(name, data):
    row = TABLE[name]
    once = row.build()(data.draw(row.inputs))
    assert same(row.build()(once), once)


# ---- pack ----


def rows_of(columns: dict[str, Any]) -> list[tuple]:
    """Every non-empty sample with all its columns, as plain values."""
    names = sorted(columns)
    rows = zip(*(columns[name] for name in names), strict=True)
    return [tuple(tuple(r.tolist()) for r in row) for row in rows if len(row[0])]


PACKING = st.fixed_dictionaries(
    {
        "strategy": st.sampled_from(sorted(STRATEGIES)),
        "max_segments": st.none() | st.integers(1, 5),
        "pad_id": st.integers(0, 120),
        "segment_multiple": st.integers(1, 4),
        "seed": st.none() | st.integers(0, 2**64 - 1),
    }
)
SEQ_LENGTHS = st.integers(1, 4).map(lambda n: 12 * n)  # 12 is a multiple of every segment_multiple


@given(samples(), PACKING, SEQ_LENGTHS, st.data())
def test_unpack_gives_back_every_sample(columns, settings, seq_length, data):
    capacity = data.draw(st.none() | st.integers(12, seq_length))
    out = md.pack(seq_length, capacity=capacity, **settings)(columns)
    back = md.unpack()(out)
    if settings["strategy"] == "concat":  # cut at row ends, so only the stream is kept
        if settings["seed"] is not None:
            columns, back = ({n: np.sort(c.flat) for n, c in x.items()} for x in (columns, back))
            assert all(np.array_equal(back[n], columns[n]) for n in columns)
            return
        assert all(np.array_equal(back[n].flat, columns[n].flat) for n in columns)
    else:
        assert sorted(rows_of(back)) == sorted(rows_of(columns))
    if settings["strategy"] == "next_fit" and settings["seed"] is None:
        assert rows_of(back) == rows_of(columns)


@given(samples(), PACKING, SEQ_LENGTHS)
def test_rows_are_well_formed(columns, settings, seq_length):
    out, counts = md.counted(md.pack(seq_length, **settings), columns)
    segments = out["segment_ids"]
    padding = out.get("token_mask", segments) == 0
    assert ("token_mask" in out) == (settings["segment_multiple"] > 1)
    assert (segments[~padding] > 0).all()
    assert (out["input_ids"][padding] == settings["pad_id"]).all()
    assert (out["labels"][padding] == -100).all()
    assert (out["weights"][padding] == 0).all()
    assert all(out[n].shape == (counts["pack.rows"], seq_length) for n in out)
    assert all(out[n].dtype == np.int32 for n in ("input_ids", "labels", "segment_ids"))
    for row in segments:
        used = row[row != 0]
        assert row[: len(used)].tolist() == used.tolist(), "padding is behind the documents"
        assert len(used), "no row of padding alone"
        assert used.tolist() == sorted(used.tolist())
        assert set(used.tolist()) == set(range(1, used.max() + 1))
        assert used.max() <= (settings["max_segments"] or seq_length)
        assert (np.bincount(used) % settings["segment_multiple"] == 0).all()
    assert np.array_equal(out["position_ids"], md.position_ids(segments))
    tokens = sum(len(row) for row in columns["input_ids"])
    trained = sum(int((row != -100).sum()) for row in columns["labels"])
    assert counts["pack.tokens"] == tokens == int((~padding).sum())
    assert int((out["labels"] != -100).sum()) == trained
    assert counts["pack.empty"] == sum(not len(row) for row in columns["input_ids"])
    assert len(segments) >= -(-tokens // seq_length)


@given(
    st.lists(st.integers(0, 30), max_size=40),
    st.integers(30, 60),
    st.none() | st.integers(1, 4),
)
def test_tightest_needs_no_more_rows_than_next_fit(lengths, capacity, most):
    tight, loose = (
        md.pack_plan(lengths, capacity=capacity, strategy=s, max_segments=most)
        for s in ("tightest", "next_fit")
    )
    assert len(tight) <= len(loose)


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(30, 60), PACKING)
def test_a_plan_places_every_token_once(lengths, capacity, settings):
    settings = {name: value for name, value in settings.items() if name != "pad_id"}
    capacity += 3  # for 30 tokens in a multiple of 4
    plan = md.pack_plan(lengths, capacity=capacity, **settings)
    tokens = [
        (s, b + i)
        for s, b, n in zip(plan.order, plan.begins, plan.lengths, strict=True)
        for i in range(n)
    ]
    assert sorted(tokens) == [(s, i) for s, n in enumerate(lengths) for i in range(n)]
    places = -(-plan.lengths // settings["segment_multiple"]) * settings["segment_multiple"]
    used = [places[a:b].sum() for a, b in pairwise(plan.row_starts)]
    assert (plan.lengths > 0).all()
    assert all(0 < n <= capacity for n in used)


@given(st.lists(st.integers(1, 20), max_size=40), st.integers(20, 50), st.integers(1, 9))
def test_first_fit_decreasing_is_what_its_name_says(lengths, capacity, most):
    """Oracle: the samples, the longest first, each into the first row that holds it."""
    plan = md.pack_plan(
        lengths, capacity=capacity, strategy="first_fit_decreasing", max_segments=most
    )
    rows: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        for row in rows:
            if sum(row) + length <= capacity and len(row) < most:
                row.append(length)
                break
        else:
            rows.append([length])
    bounds = plan.row_starts.tolist()
    assert [plan.lengths[a:b].tolist() for a, b in pairwise(bounds)] == rows


@given(samples(), st.sampled_from(sorted(STRATEGIES)), st.integers(0, 99), st.integers(1, 5))
def test_a_seed_is_a_shuffle_before_and_one_of_the_rows(columns, strategy, seed, most):
    """The rows are those of shuffled samples, in another order; the key of a seed is that seed."""
    build = partial(md.pack, 14, strategy=strategy, max_segments=most)
    out = build(seed=seed)(columns)
    assert same(out, build(seed=np.array([0, seed], np.uint32))(columns))
    plain = build()(md.shuffle(seed)(columns))
    assert sorted(rows_of(out)) == sorted(rows_of(plain))


@given(samples(), PACKING)
def test_a_row_that_is_one_document_has_the_same_tokens(columns, settings):
    settings = {**settings, "segment_multiple": 1}
    plain = md.pack(12, isolate=False, **settings)(columns)
    neat = md.pack(12, **settings)(columns)
    made = ("segment_ids", "position_ids")
    assert all(np.array_equal(plain[n], neat[n]) for n in neat if n not in made)
    assert np.array_equal(plain["segment_ids"], neat["segment_ids"] > 0)
    assert np.array_equal(plain["position_ids"], md.position_ids(plain["segment_ids"]))


@given(samples(), st.integers(1, 6), st.sampled_from(sorted(STRATEGIES)))
def test_aligned_segments_give_kernels_aligned_ends(columns, multiple, strategy):
    """What is added changes no token's position, and no token sees it."""
    size = 60
    out = md.pack(size, segment_multiple=multiple, strategy=strategy)(columns)
    segments = out["segment_ids"]
    if len(segments):
        assert (md.actual_seq_len(segments) % multiple == 0).all()
    if multiple > 1:
        added = (out["token_mask"] == 0) & (segments > 0)
        mask = md.segment_mask(segments)
        seen = mask & added[:, None, :]
        assert not seen[out["token_mask"] == 1].any()
        assert added.sum() == sum(-n % multiple for n in columns["input_ids"].lengths)


@given(samples(), PACKING, st.data())
def test_rows_of_a_plan_are_built_alone_as_together(columns, settings, data):
    settings = {name: value for name, value in settings.items() if name != "pad_id"}
    plan = md.pack_plan(columns["input_ids"].lengths, capacity=12, **settings)
    whole = md.rows(plan, columns, 0, len(plan), seq_length=14)
    a = data.draw(st.integers(0, len(plan)))
    b = data.draw(st.integers(a, len(plan)))
    part = md.rows(plan, columns, a, b, seq_length=14)
    assert same(part, {name: column[a:b] for name, column in whole.items()})


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("seq_length", [*range(1, 20), 63, 64, 65, 127, 128, 129, 256, 257])
def test_every_seq_length_packs_samples_of_exactly_that_length(strategy, seq_length):
    lengths = [seq_length, 1, seq_length, max(seq_length - 1, 1), seq_length // 2]
    ids = md.Ragged.from_rows([range(n) for n in lengths])
    out = md.pack(seq_length, strategy=strategy)({"input_ids": ids})
    assert (out["segment_ids"] != 0).sum() == sum(lengths)


# ---- truncate, pad, masks, order ----


@given(samples(), st.integers(1, 13), st.sampled_from(["tail", "source_first", "proportional"]))
def test_cut_samples_keep_order_their_end_and_what_the_policy_protects(columns, most, policy):
    out, counts = md.counted(md.truncate(most, policy=policy), columns)
    lost = 0
    for old, new, labels, kept in zip(
        columns["input_ids"], out["input_ids"], columns["labels"], out["labels"], strict=True
    ):
        assert len(new) == min(len(old), most)
        remaining = iter(old.tolist())
        assert all(token in remaining for token in new.tolist()), "a subsequence"
        assert old[-1:].tolist() == new[-1:].tolist()
        trained, trained_now = int((labels != -100).sum()), int((kept != -100).sum())
        if policy == "source_first" and len(labels) and labels[-1] != -100:
            assert trained_now == min(trained, most)
        lost += len(old) - len(new)
    assert counts["truncate.tokens_lost"] == lost


@given(samples(), st.integers(1, 13))
def test_split_loses_nothing(columns, most):
    out = md.truncate(most, policy="split")(columns)
    assert all(np.array_equal(out[n].flat, columns[n].flat) for n in columns)
    assert out["input_ids"].lengths.max(initial=0) <= most


@given(samples(), st.integers(1, 9), st.data())
def test_padded_length_is_the_smallest_that_holds_all(columns, divisor, data):
    remainder = data.draw(st.integers(0, divisor - 1))
    out = md.pad_to_divisor(divisor, remainder=remainder)(columns)
    width = out["input_ids"].shape[1]
    longest = int(columns["input_ids"].lengths.max(initial=0))
    assert width >= longest
    assert width % divisor == remainder
    assert width - divisor < longest or width == remainder
    for row, sample in zip(out["input_ids"], columns["input_ids"], strict=True):
        assert row.tolist() == sample.tolist() + [0] * (width - len(sample))


SEGMENTS = samples().map(lambda columns: md.pack(12, max_segments=4)(columns)["segment_ids"])


@given(SEGMENTS)
def test_mask_and_positions_equal_brute_force(segments):
    mask, positions = md.segment_mask(segments), md.position_ids(segments)
    for row, own_mask, own_positions in zip(segments.tolist(), mask, positions, strict=True):
        size = len(row)
        oracle = [[row[q] == row[k] and k <= q for k in range(size)] for q in range(size)]
        assert own_mask.tolist() == oracle
        expected = [row[:i].count(s) if s else 0 for i, s in enumerate(row)]
        assert own_positions.tolist() == expected


@given(SEGMENTS)
def test_kernel_boundaries_say_what_the_mask_says(segments):
    ends = md.actual_seq_len(segments) if segments.size else np.zeros(0, np.int32)
    block = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0)).reshape(segments.shape)
    assert np.array_equal(md.segment_mask(block), md.segment_mask(segments))


@given(samples(), st.integers(0, 2**64 - 1))
def test_shuffle_keeps_the_rows_and_its_key_is_its_seed(columns, seed):
    out = md.shuffle(seed)(columns)
    assert sorted(rows_of(out)) == sorted(rows_of(columns))
    key = np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)
    assert same(out, md.shuffle(key)(columns))


@given(samples(), st.integers(1, 9))
def test_repeated_rows_fill_every_batch(columns, multiple):
    out, counts = md.counted(md.repeat_to_multiple(multiple), columns)
    assert size(out) % multiple == 0
    assert counts["repeat_to_multiple.repeated"] == size(out) - size(columns) < multiple
    assert same(md.take(size(columns))(out), columns)
    rows = size(columns)
    for i in range(rows, size(out)):
        assert out["input_ids"][i].tolist() == columns["input_ids"][i % rows].tolist()


@given(samples(), st.integers(1, 9))
def test_batches_joined_are_the_whole(columns, count):
    batches = list(md.batch(count)(columns))
    assert all(size(b) == count for b in batches[:-1])
    assert not batches or same(md.concat(batches), columns)
    full = list(md.batch(count, drop_remainder=True)(columns))
    assert [size(b) for b in full] == [count] * (size(columns) // count)


# ---- Ragged ----


@given(samples(longest=600, most=700), st.data())
def test_ragged_rows_chosen_in_any_order(columns, data):
    """Many rows go through the copy of equal lengths, few through slices: one result."""
    ids = columns["input_ids"]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    chosen = rng.integers(0, len(ids), 900) if len(ids) else np.zeros(0, int)
    assert [r.tolist() for r in ids[chosen]] == [ids[int(i)].tolist() for i in chosen]
