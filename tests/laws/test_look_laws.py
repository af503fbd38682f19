"""Laws of what looks at data and of what writes it: `write`, `blocks`, `statistics`, `show`."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import mfunc.data as md
from mfunc.data import Ragged

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text("ab\"\\é"), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
ROWS = st.lists(st.lists(st.integers(1, 99), max_size=9), max_size=12)


def cut_at(rows, places):
    """The rows in chunks."""
    edges = sorted({0, len(rows), *(p for p in places if p < len(rows))})
    return [rows[a:b] for a, b in pairwise(edges)]


@given(
    st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=5), st.sampled_from(["json", "jsonl"])
)
def test_what_is_written_is_read(pairs, suffix):
    columns = {"a b": [a for a, _ in pairs], "c": [c for _, c in pairs]}
    assert md.write(f"x.{suffix}", [md.take(1)(columns), md.skip(1)(columns)]) == len(pairs)
    read = next(md.read(f"x.{suffix}"))
    assert {name: read[name] for name in columns} == columns


@given(ROWS, st.lists(st.integers(1, 11)), st.integers(1, 12))
def test_blocks_do_not_depend_on_chunks(rows, places, length):
    chunks = [{"input_ids": Ragged.from_rows(part)} for part in cut_at(rows, places)]
    made = list(md.blocks(chunks, length))
    flat = [token for row in rows for token in row]
    joined = [token for columns, _ in made for token in columns["input_ids"].reshape(-1).tolist()]
    lost = made[-1][1]["blocks.lost"] if made else 0
    assert lost == len(flat) % length
    assert joined == flat[: len(flat) - lost]


@given(ROWS, st.lists(st.integers(1, 11)), st.data())
def test_statistics_of_chunks_of_rows_and_of_packs(rows, places, data):
    ids = Ragged.from_rows(rows)
    trained = data.draw(st.lists(st.booleans(), min_size=len(ids.flat), max_size=len(ids.flat)))
    labels = Ragged(np.where(trained, ids.flat, -100).astype(np.int32), ids.offsets)
    samples = {"input_ids": ids, "labels": labels}
    whole = md.statistics(samples)
    parts = cut_at([*range(len(rows))], places)
    apart = md.statistics(md.take(p[-1] + 1 - p[0])(md.skip(p[0])(samples)) for p in parts if p)
    assert str(whole) == str(apart)
    packed = md.pack(9)(samples)
    for form in (
        md.statistics(packed),
        md.statistics({**packed, "segment_ids": Ragged.from_rows(packed["segment_ids"])}),
    ):
        pairs = sorted(zip(form.lengths.tolist(), form.trained.tolist(), strict=True))
        assert pairs == sorted(zip(whole.lengths.tolist(), whole.trained.tolist(), strict=True))
        assert form.tokens <= form.slots
    padded = md.pad_to_divisor(4, pad_id=0)(samples)
    seen = md.statistics({name: padded[name] for name in samples}, pad_id=0)
    assert sorted(seen.lengths.tolist()) == sorted(whole.lengths.tolist())
    out = md.samples({name: padded[name] for name in samples}, pad_id=0)
    assert [row.tolist() for row in out["input_ids"]] == [row for row in rows if row]


class Letters:
    special_ids = {1: "<s>", 2: "</s>"}  # noqa: RUF012

    def decode(self, ids):
        return "".join(chr(96 + i) for i in ids if i > 2)


@given(st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=20))
def test_a_shown_row_has_its_text_and_its_marks(tokens):
    ids = [i for i, _ in tokens]
    labels = [i if trained else -100 for i, trained in tokens]
    text = md.show(ids, Letters(), labels=labels)
    assert re.sub("[⟦⟧]|‹[^›]*›", "", text) == Letters().decode(ids)
    learned = "".join(re.findall("⟦([^⟧]*)⟧", text))
    assert re.sub("‹[^›]*›", "", learned) == Letters().decode([i for i, t in tokens if t])
    assert text.count("‹") == sum(i < 3 for i in ids)
    coloured = md.show(ids, Letters(), labels=labels, colour=True)
    assert re.sub(r"\x1b\[\d+m", "", coloured) == re.sub("[⟦⟧‹›]", "", text)
