"""`--compat mindspeed` against the written rules of v2.1.0, followed token by token in lists."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.byte_folder import write_folder

from mfunc.data.mindspeed.pipeline import preprocess
from mfunc.data.mindspeed.settings import Settings
from mfunc.data.storage.indexed import read_pair

# Letters of which pairs merge, special tokens, the words that the templates themselves spell.
TEXTS = st.text(st.sampled_from("ab\n>你"), max_size=12) | st.sampled_from(
    ["<|im_end|>", "a<|im_end|>\n<|im_start|>user\na", "</s>", "sop", "[gMASK]b", "a" * 40]
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "instruction": TEXTS | st.none(),
            "input": TEXTS | st.none(),
            "output": TEXTS | st.none(),
            "system": TEXTS | st.none(),
            "history": st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=2),
        }
    ),
    min_size=1,
    max_size=8,
)


def turns_of(row, template, encode, ids):
    """(source, target) of every turn: each slot encoded as one text, special tokens within it."""
    question = "\n".join(text for text in (row["instruction"], row["input"]) if text)
    turns = [*row["history"], [question, row["output"]]]
    pairs = []
    for i, (asked, answer) in enumerate(turns):
        if template == "qwen":
            system = row["system"] or "You are a helpful assistant."
            opening = encode(f"<|im_start|>system\n{system}<|im_end|>\n")
            form = f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
            separator, end = encode("\n"), [ids["<|im_end|>"]]
        else:
            opening = [ids["[gMASK]"], ids["sop"], *encode(row["system"] or "")]
            form = f"[Round {i}]\n\n问：{asked}\n\n答："
            separator, end = encode("\n\n"), []
        pairs.append(((separator if i else opening) + encode(form), encode(answer) + end))
    return pairs


def cut_lengths(source, target, budget):
    if 2 * target < budget:
        most = budget
    elif 2 * source < budget:
        most = budget - source
    else:
        most = int(budget * (target / (source + target)))
    kept = min(most, target)
    return min(max(budget - kept, 0), source), kept


def sample_of(pairs, *, eos, efficient, budget, eod):
    ids, labels = [], []
    for i, (source, target) in enumerate(pairs):
        mask = [-100] * len(source)
        if i and efficient:
            mask[0] = eos
        if budget:
            a, b = cut_lengths(len(source), len(target), budget)
            source, mask, target = source[:a], mask[:a], target[:b]
        ids, labels = ids + source + target, labels + mask + target
    end = [eos] * (efficient + eod)
    return ids + end, labels + end


def knapsacks(lengths, capacity):
    left, packs = sorted(lengths), []
    while left:
        packs.append([])
        room = capacity
        while fitting := [n for n in left if n <= room]:
            left.remove(fitting[-1])
            packs[-1].append(fitting[-1])
            room -= fitting[-1]
    return packs


def packed(samples, size, pad, neat):
    kept = [s for s in samples if neat or len(s[0]) < size]
    kept = [tuple(part[: size - 1] for part in s) if len(s[0]) >= size else s for s in kept]
    indexes = defaultdict(list)
    for i, (ids, _) in enumerate(kept):
        indexes[len(ids)].append(i)
    rows = []
    for lengths in knapsacks([len(ids) for ids, _ in kept], size - 1):
        ids, labels, mask = [], [], []
        for number, length in enumerate(lengths, start=1):
            one = kept[indexes[length].pop()]
            ids, labels = ids + one[0], labels + one[1]
            mask += [number if neat else 1] * length
        left = size - len(ids)
        rows.append((ids + [pad] * left, labels + [-100] * left, mask + [1 - neat] * left))
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("tokenizer")
    return write_folder(place, eos_token="</s>", pad_token={"content": "<|endoftext|>"})


@given(
    ROWS,
    st.sampled_from(["qwen", "chatglm2"]),
    st.integers(2, 160),
    st.sampled_from(["no", "plain", "neat"]),
    st.booleans(),
    st.integers(1, 4),
)
def test_files_follow_the_rules(folder, rows, template, size, how, eod, parts):
    import tokenizers

    own = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = own.get_vocab(True)
    eos = ids["<|im_end|>" if template == "qwen" else "</s>"]
    whole = [row for row in rows if row["output"] is not None]
    samples = [
        sample_of(
            turns_of(row, template, lambda t: own.encode(t, add_special_tokens=False).ids, ids),
            eos=eos,
            efficient=template == "chatglm2",
            budget=size - 1 if how == "neat" else 0,
            eod=eod,
        )
        for row in whole
    ]
    Path("rows.json").write_text(json.dumps(rows))
    settings = Settings(
        input="rows.json",
        output_prefix="made",
        tokenizer_name_or_path=str(folder),
        handler_name="AlpacaStyleInstructionHandler",
        prompt_type=template,
        map_keys={"history": "history", "system": "system"},
        seq_length=size,
        pack=how != "no",
        neat_pack=how == "neat",
        append_eod=eod,
        n_subs=parts,
    )
    if parts > len(whole) or (how != "neat" and all(len(s[0]) >= size for s in samples)):
        with pytest.raises(ValueError, match=r"no sample is left|--n-subs|none of \d+ samples"):
            preprocess(settings)
        return
    counts = preprocess(settings)
    if how == "no":
        expected = [(a, b, [1] * len(a)) for a, b in samples if len(a) < size]
        documents = [0, *(len(s[0]) < size for s in samples)]
    else:
        step = len(whole) // parts
        subsets = [samples[i : i + step] for i in range(0, len(whole), step)]
        rows_of = (packed(s, size, ids["<|endoftext|>"], how == "neat") for s in subsets)
        expected = [row for subset in rows_of for row in subset]
        documents = [0, *[1] * len(expected)]
    ends = [sum(documents[: i + 1]) for i in range(len(documents))]
    for k, name in enumerate(("input_ids", "labels", "attention_mask")):
        pair = read_pair(f"made_packed_{name}_document")
        assert [row.tolist() for row in pair.sequences] == [row[k] for row in expected], name
        assert pair.document_indices.tolist() == ends
    assert counts["rows"] == len(rows)
    assert counts.get("dropped.missing_answer", 0) == len(rows) - len(whole)
