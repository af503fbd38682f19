"""From files to a set of token files, in memory that does not grow with the files.

    files --read, prepare (in workers)--> samples, in a hidden folder beside the result
    lengths of all samples --> one plan --> windows of rows --> the result, in one go

A pack is as good as the plan is global, and a plan needs lengths alone: 32 bytes a sample are in
memory, of tokens one chunk or one window.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from toolz import compose
from toolz.functoolz import Compose

from mfunc.data.building.dropped import Dropped, dropped_rows, dump, strict_form
from mfunc.data.building.report import BuildReport, peak_memory, report_of
from mfunc.data.building.spill import packed_windows, windows
from mfunc.data.building.workers import map_chunks
from mfunc.data.check import choice, integer
from mfunc.data.columns import IGNORED_LABEL, ORIGIN, Columns, num_rows
from mfunc.data.compose import Counts, Transform
from mfunc.data.packing.cut import truncate
from mfunc.data.packing.pack import pack as build_pack
from mfunc.data.packing.plan import usable
from mfunc.data.packing.steps import OVERLONG
from mfunc.data.ragged import Ragged
from mfunc.data.sources.read import files_of, read
from mfunc.data.storage import indexed, mindrecord
from mfunc.data.storage.cache import cache_key, cached
from mfunc.data.storage.pair import PathLike
from mfunc.data.storage.whole import publish, staged

FORMATS = ("indexed", "mindrecord")
Progress = Callable[[str, int, "int | None"], object]


def build_dataset(
    path: Any,
    prefix: PathLike,
    prepare: Callable[[Columns], Any],
    *,
    pack: Transform | None = None,
    format: str = "indexed",
    sample: int | None = None,
    workers: int = 1,
    patience: float = 4.0,
    chunk_rows: int = 1024,
    cache: PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    r"""Read files, prepare their rows, pack them by one global plan, and write token files.

    Memory is that of some chunks and windows, whatever the size of the input. The result is there
    whole or not at all, see `indexed.write`.

    Args:
      path: a file, a folder, a pattern, or a list of them: see `read`.
      prefix: the path that all names of the result begin with.
      prepare: rows to samples: `compose(tokenize(tokenizer), chat(...))`, with `truncate(...)` in
        front if need be. For `workers` it must be picklable, as transforms are.
      pack: `pack(seq_length, ...)` with its settings; None writes every sample as a row.
      format: `"indexed"` (`.bin/.idx`) or `"mindrecord"` (one file `{prefix}.mindrecord`, which has
        no place for segments: `pack(S + 1, isolate=False)`).
      sample: only the first so many rows of the files.
      workers: processes that prepare; the result is the same.
      patience: seconds for which this process prepares alone before it starts them: see
        `map_chunks`.
      chunk_rows: rows that are prepared at once.
      cache: a folder where prepared samples are kept, under a key of all that they depend on.
      settings: more for the sidecar, which tells of `prepare` and `pack` anyway.
      progress: called with `("rows read", how many more, None)` and
        `("rows written", how many more, of how many)`.

    Returns:
      What was done, in numbers. Where `prepare` begins with `chat(..., invalid="drop")` and rows
      were dropped, `{prefix}_invalid.jsonl` tells which and why.

    Raises:
      ValueError: for a setting out of range, and whatever `read` and `prepare` raise.

    Laws:
      `unpack` of what is written are the prepared samples; the files do not depend on `workers`,
      `chunk_rows` and `cache`.

    Example:
      >>> import mfunc.data as md
      >>> _ = Path("a.txt").write_text("ab\nc")
      >>> class Bytes:
      ...     vocab_size, digest = 256, "bytes"
      ...     def encode(self, texts):
      ...         return [list(text.encode()) for text in texts]
      >>> prepare = md.tokenize(Bytes(), append_eos=False)
      >>> report = build_dataset("a.txt", "out/a", prepare, pack=md.pack(4))
      >>> report.rows_in, report.rows_out, report.tokens, f"{report.fill:.0%}"
      (2, 1, 3, '75%')
      >>> indexed.read("out/a")["attention_mask"][0].tolist()
      [1, 1, 2, 0]
    """
    began = time.perf_counter()
    prefix = _checked(prefix, pack, format, sample)
    files, prepare = files_of(path), _with_limit(prepare, pack)
    told = {**(settings or {}), "prepare": prepare, "pack": pack, "files": [f.name for f in files]}

    def make(folder: Path) -> None:
        chunks = _first(read(files, chunk_rows=chunk_rows), sample)
        mapped = partial(map_chunks, workers=workers, patience=patience)
        _spill(folder, prepare, mapped, chunks, progress)

    with ExitStack() as stack:
        if cache is None:
            make(folder := stack.enter_context(staged(prefix)))
        else:
            folder = cached(cache_key(prepare, {"sample": sample}, files=files), cache, make)
        made = _told(packed_windows(folder, pack) if pack else windows(folder), progress)
        content = _write(prefix, format, made, pack, told)
        invalid = _publish_invalid(folder, prefix)
    return report_of(
        content,
        files=_files(prefix, format, content, invalid),
        invalid=invalid,
        seconds=time.perf_counter() - began,
        peak_bytes=peak_memory(),
    )


def _first(chunks: Iterable[Columns], most: int | None) -> Iterator[Columns]:
    """The chunks up to so many rows."""
    left = most
    for chunk in chunks:
        size = num_rows("build_dataset", chunk)
        yield chunk if left is None else {name: column[:left] for name, column in chunk.items()}
        if left is not None:
            left -= min(left, size)
            if not left:
                return


def _checked(prefix: PathLike, pack: Any, format: str, sample: int | None) -> Path:
    """The prefix, if the settings fit together."""
    choice("build_dataset", "format", format, FORMATS)
    if sample is not None:
        integer("build_dataset", "sample", sample, least=1)
    if pack is not None and not (isinstance(pack, Transform) and pack.builder is build_pack):
        raise TypeError(f"build_dataset: pack must be pack(seq_length, ...), got {pack!r}")
    if pack is not None and format == "mindrecord" and pack.settings["isolate"]:
        raise ValueError(
            "build_dataset: a MindRecord has no place for segments, so samples of a row would see "
            "each other; say so with pack(..., isolate=False), or use format='indexed'"
        )
    return Path(prefix)


def _with_limit(prepare: Callable[[Columns], Any], pack: Transform | None) -> Any:
    """What prepares, and what `pack(overlong=...)` does: sample by sample, so before the plan."""
    if pack is None or pack.settings["strategy"] == "concat":
        return prepare
    given = pack.settings
    limit = usable("pack", given["capacity"] or given["seq_length"], given["segment_multiple"])
    last: Any = prepare.funcs[-1] if isinstance(prepare, Compose) else prepare
    done = isinstance(last, Transform) and last.builder is truncate
    if done and last.settings["max_length"] <= limit:
        return prepare
    return compose(truncate(limit, policy=OVERLONG[given["overlong"]]), prepare)


def _spill(
    folder: Path,
    prepare: Any,
    mapped: Callable[[Any, Iterable[Columns]], Iterator[tuple[Columns, Counts]]],
    chunks: Iterable[Columns],
    progress: Progress | None,
) -> None:
    """Prepare all chunks and write the samples, and which rows were dropped, into a folder."""
    strict = strict_form(prepare)
    raw: deque[Columns] = deque()  # those in the hands of workers
    dropped: list[Dropped] = []

    def remembered() -> Iterator[Columns]:
        for chunk in chunks:
            raw.append(chunk)
            yield chunk

    def samples() -> Iterator[tuple[Columns, Counts]]:
        first = 0
        for columns, counts in mapped(prepare, remembered()):
            given = raw.popleft()
            if strict and any(".dropped." in name for name in counts):
                dropped.extend(dropped_rows(strict, given, columns[ORIGIN], first))
            size = num_rows("build_dataset", given)
            first += size
            yield columns, {**counts, "build.rows": size, **_counts(columns)}
            if progress:
                progress("rows read", size, None)

    indexed.write(folder / "samples", samples(), attention_mask="none")
    if dropped:
        dump(folder / "invalid.jsonl", dropped)


def _counts(columns: Columns) -> Counts:
    """Samples, tokens and trained tokens, as they are written."""
    ragged = {name: column for name, column in columns.items() if isinstance(column, Ragged)}
    labels = [column.flat for name, column in ragged.items() if name.endswith("labels")]
    return {
        "build.samples": num_rows("build_dataset", columns),
        "build.tokens": sum(len(c.flat) for n, c in ragged.items() if n.endswith("input_ids")),
        "build.trained": sum(int((flat != IGNORED_LABEL).sum()) for flat in labels),
    }


def _told(
    made: Iterator[tuple[Columns, Counts, int]], progress: Progress | None
) -> Iterator[tuple[Columns, Counts]]:
    """The windows, with progress."""
    for columns, counts, total in made:
        yield columns, counts
        if progress:
            progress("rows written", num_rows("build_dataset", columns), total)


def _write(
    prefix: Path, format: str, made: Any, pack: Transform | None, told: Mapping[str, Any]
) -> dict[str, Any]:
    """The result, whole or not at all."""
    if format == "mindrecord":
        return mindrecord.write(f"{prefix}{mindrecord.SUFFIX}", made, settings=told)
    mask = "segments" if pack and pack.settings["isolate"] else "ones"
    return indexed.write(prefix, made, attention_mask=mask, settings=told)


def _publish_invalid(folder: Path, prefix: Path) -> Path | None:
    """The list of dropped rows beside the result; one of an earlier result goes."""
    place = prefix.with_name(f"{prefix.name}_invalid.jsonl")
    if not (folder / "invalid.jsonl").is_file():
        place.unlink(missing_ok=True)
        return None
    with staged(place) as hidden:
        shutil.copyfile(folder / "invalid.jsonl", hidden / place.name)
        publish(hidden, place.parent, files=[place.name], marks=[])
    return place


def _files(
    prefix: Path, format: str, content: Mapping[str, Any], invalid: Path | None
) -> tuple[Path, ...]:
    """All that was written."""
    if format == "mindrecord":
        made = [Path(f"{prefix}{mindrecord.SUFFIX}{end}") for end in ("", ".db", ".json")]
    else:
        made = indexed.files_of(prefix, content["columns"])
    return (*made, *([invalid] if invalid else ()))
