from __future__ import annotations

from pathlib import Path

from mfunc.data.building.report import peak_memory, report_of

COUNTS = {
    "chat.rows": 9,
    "chat.dropped": 3,
    "chat.dropped.not_text": 1,
    "chat.dropped.missing_answer": 2,
    "truncate.cut": 1,
    "truncate.dropped": 1,
    "build.rows": 9,
    "build.samples": 5,
    "build.tokens": 30,
    "build.trained": 12,
    "pack.empty": 1,
    "pack.segments": 4,
    "pack.tokens": 30,
    "pack.slots": 40,
}


def report(counts, rows):
    content = {"counts": counts, "rows": rows}
    return report_of(content, files=(), invalid=None, seconds=2.0, peak_bytes=None)


def test_every_row_is_accounted_for():
    made = report(COUNTS, 4)
    assert (made.rows_in, made.kept, made.cut, made.rows_out) == (9, 5, 1, 4)
    assert made.dropped == {
        "chat.not_text": 1, "chat.missing_answer": 2, "truncate.too_long": 1, "pack.empty": 1,
    }  # fmt: skip
    assert made.kept + made.dropped.pop("pack.empty") == 9 - sum(made.dropped.values()) + 1
    assert (made.fill, made.segments, made.tokens_per_second) == (0.75, 4, 15.0)


def test_without_a_pack_a_row_is_a_sample_and_full():
    single = {name: n for name, n in COUNTS.items() if not name.startswith("pack.")}
    made = report(single, 5)
    assert (made.slots, made.segments, made.fill) == (30, 5, 1.0)
    assert report({}, 0).fill == 1.0


def test_memory_is_what_the_system_tells():
    told = peak_memory()
    if Path("/proc/self/status").exists():
        before = told
        filled = bytearray(300_000_000)
        assert peak_memory() >= before
        assert peak_memory() >= len(filled)
    else:
        assert told is None
