"""An exact cache of words in front of a SentencePiece BPE model.

SentencePiece encodes a word anew each time that it recurs. Here a text is cut into words, every
word is encoded once, and NumPy gathers the ids. A cut is made only where it cannot matter.

**BPE: exact.** A symbol is a character, a user-defined piece or a merge, and a merge is a piece.
If the neighbours (a, b) stand side by side in no piece, no symbol ever spans a|b, so no merge left
of the cut depends on one right of it; and merges go by score, then from the left, an order that
each side keeps when the other is taken away. So ids(xa + by) = ids(xa) + ids(by). Models for which
this does not hold are left to SentencePiece as they are:
  - without byte fallback: unknown characters in a row are one `<unk>`, across any cut;
  - with unused pieces: they are taken apart as they were last met anywhere in the text;
  - with spaces that are a suffix or not escaped: rare.
What changes a text before that (character map, extra spaces, dummy prefix) is done by the model's
own normalizer, once a text; words are encoded by the same model without a normalizer.

**Unigram: not exact.** Viterbi adds scores in float32 from the beginning of the text, so that what
stands before a word decides near ties in it by rounding; the same word may split in two ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, compress, pairwise
from typing import Any

import attrs
import numpy as np

from mfunc.data.ragged import Ragged, offsets_of
from mfunc.data.tokens.proto import model_facts

CHUNK = 1 << 17  # characters at a time: what a step makes stays in the CPU's cache
LONGEST = 64  # bytes of a word that is kept
MOST_WORDS, MOST_IDS = 1 << 18, 1 << 21  # in a memo; at that size it is begun anew
SLOT_BITS = 18
FIRST_SLOT, LAST_SLOT = np.uint64(64 - SLOT_BITS), np.uint64((1 << SLOT_BITS) - 1)
PAD = bytes(16)  # behind the text, so that 16 bytes can be read from every place in it
# The bytes of a short word (at most 15) as two integers; the last byte is the word's length.
MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
LOW = MASKS[np.minimum(np.arange(17), 8)]
HIGH = MASKS[np.clip(np.arange(17) - 8, 0, 7)]
# Length of the UTF-8 character that a byte begins; 0 for a byte that continues one.
WIDTH = np.array([1] * 128 + [0] * 64 + [2] * 32 + [3] * 16 + [4] * 16, np.uint8)

# Joined to a file it overrules: no character map, dummy prefix, removal of spaces.
NO_NORMALIZER = b"\x1a\x06\x12\x00\x18\x00\x20\x00"


@attrs.frozen(eq=False)
class Words:
    """A SentencePiece model that remembers words; made by `remembering(...)`.

    The memos are no part of its value: they change no id. A call takes one from the list and puts
    it back, so that no two threads use one; it is not sent to other processes.
    """

    engine: Any  # the model without normalizer
    normalizer: Any  # the model that normalizes, or None for one that only adds `prefix`
    prefix: str
    cuts: np.ndarray  # bool [65536]: whether two ASCII characters may be cut apart
    joined: np.ndarray  # sorted uint64: other pairs of characters that may not
    memos: list[Memo] = attrs.field(factory=list)

    def __reduce__(self) -> Any:
        return Words, (self.engine, self.normalizer, self.prefix, self.cuts, self.joined)

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Ids of every text, those of SentencePiece."""
        try:
            memo = self.memos.pop()
        except IndexError:
            memo = Memo()
        values, lengths = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
        for chunk in _chunks(texts):
            if len(memo.numbers) >= MOST_WORDS or len(memo.ids) >= MOST_IDS:
                memo = Memo()
            ids, offsets = self._encode(chunk, memo)
            values.append(ids)
            lengths.append(np.diff(offsets))
        self.memos.append(memo)
        return Ragged(np.concatenate(values), offsets_of(np.concatenate(lengths)))

    def _encode(self, texts: Sequence[str], memo: Memo) -> tuple[np.ndarray, np.ndarray]:
        """Ids of some texts end to end, and where each begins and the last one ends."""
        encoded = [text.encode() for text in self._normal(texts)]
        content = b"".join([*encoded, PAD])
        borders = offsets_of([len(one) for one in encoded])
        starts = self._starts(content, borders)
        lengths = np.diff(starts, append=borders[-1])
        numbers, ids, offsets = memo.look_up(content, starts, lengths, self.engine)
        begin, end = offsets[numbers], offsets[numbers + 1]
        ends = offsets_of(end - begin)
        index = np.repeat(begin - ends[:-1], end - begin)
        index += np.arange(len(index))
        return ids[index], ends[np.searchsorted(starts, borders)]

    def _normal(self, texts: Sequence[str]) -> list[str]:
        """Normalized texts, with a plain space for the space symbol: one byte, not three."""
        if self.normalizer is not None:
            return [text.replace("▁", " ") for text in self.normalizer.normalize(list(texts))]
        prefix = self.prefix
        return [text and prefix + text.replace("▁", " ") for text in texts]

    def _starts(self, content: bytes, borders: np.ndarray) -> np.ndarray:
        """Where words begin: at every border of texts and at every cut that is safe."""
        codes = np.frombuffer(content, np.uint8)
        left, right = codes[: -len(PAD)], codes[1 : 1 - len(PAD)]
        cut = np.empty(len(left) + 1, bool)
        cut[1:] = self.cuts.take((left.astype(np.uint16) << 8) | right)
        places = np.flatnonzero(((left | right) >= 128) & (WIDTH[right] > 0))
        if len(places):
            first = places.copy()
            for _ in range(3):
                first -= WIDTH[codes[first]] == 0
            pairs = (_characters(codes, first) << np.uint64(32)) | _characters(codes, places + 1)
            found = np.searchsorted(self.joined, pairs)
            cut[places + 1] = self.joined[np.minimum(found, len(self.joined) - 1)] != pairs
        cut[borders] = True
        return np.flatnonzero(cut[:-1])


@attrs.define(eq=False)
class Memo:
    """Words met before: number n has the ids `ids[offsets[n]:offsets[n + 1]]`.

    `numbers` knows them all. In front of it are `low, high, number`: a short word as two integers
    at the slot that its hash says, if no other came there first; so NumPy looks up all at once.
    """

    numbers: dict[bytes, int] = attrs.field(factory=dict)
    ids: np.ndarray = attrs.field(factory=lambda: np.zeros(0, np.int32))
    offsets: np.ndarray = attrs.field(factory=lambda: np.zeros(1, np.int64))
    low: np.ndarray = attrs.field(factory=lambda: np.zeros(1 << SLOT_BITS, np.uint64))
    high: np.ndarray = attrs.field(factory=lambda: np.zeros(1 << SLOT_BITS, np.uint64))
    number: np.ndarray = attrs.field(factory=lambda: np.zeros(1 << SLOT_BITS, np.int32))

    def look_up(
        self, content: bytes, starts: np.ndarray, lengths: np.ndarray, engine: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of words, with the ids and offsets that they refer to; new words are learnt."""
        low, high, mixed = _keys(content, starts, lengths)
        first, second = mixed >> FIRST_SLOT, mixed & LAST_SLOT
        numbers = self.number[first]
        missed = self._misses(np.arange(len(low)), first, low, high)
        numbers[missed] = self.number[second[missed]]
        missed = self._misses(missed, second, low, high)
        if not len(missed):
            return numbers, self.ids, self.offsets
        spans = zip(starts[missed].tolist(), lengths[missed].tolist(), strict=True)
        words = [content[start : start + length] for start, length in spans]
        found, ids, offsets = self._learn(words, engine)
        numbers[missed] = found
        short = missed[lengths[missed] <= 15]
        free = np.where(self.high[first[short]] == 0, first[short], second[short])
        short, free = short[self.high[free] == 0], free[self.high[free] == 0]
        self.low[free], self.high[free], self.number[free] = low[short], high[short], numbers[short]
        return numbers, ids, offsets

    def _misses(
        self, places: np.ndarray, slots: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> np.ndarray:
        """Those of some words that are not at their slot."""
        slots = slots[places]
        return places[(self.low[slots] != low[places]) | (self.high[slots] != high[places])]

    def _learn(self, words: list[bytes], engine: Any) -> tuple[list[int], np.ndarray, np.ndarray]:
        """The same for a list of words. Too long ones are encoded, but not kept."""
        known = self.numbers
        fresh = [word for word in dict.fromkeys(words) if word not in known]
        if not fresh:
            return [known[word] for word in words], self.ids, self.offsets
        fresh.sort(key=lambda word: len(word) > LONGEST)
        kept = sum(len(word) <= LONGEST for word in fresh)
        number = dict(zip(fresh, range(len(known), len(known) + len(fresh)), strict=True))
        rows = engine.encode([word.decode() for word in fresh], num_threads=1)
        ids = np.concatenate([self.ids, np.fromiter(chain.from_iterable(rows), np.int32)])
        more = self.offsets[-1] + np.cumsum([len(row) for row in rows], dtype=np.int64)
        offsets = np.concatenate([self.offsets, more])
        found = [number[word] if word in number else known[word] for word in words]
        known.update(zip(fresh[:kept], range(len(known), len(known) + kept), strict=True))
        self.offsets = offsets[: len(known) + 1]
        self.ids = ids[: self.offsets[-1]]
        return found, ids, offsets


def _keys(
    content: bytes, starts: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Short words as two integers, and the slot of each. Of longer ones the key is never stored."""
    windows: np.ndarray = np.ndarray((len(content) - 15,), "V16", content, strides=(1,))
    read = windows[starts].view("<u8").reshape(-1, 2)
    size = np.minimum(lengths, 16)
    low = read[:, 0] & LOW[size]
    high = (read[:, 1] & HIGH[size]) | (size.astype(np.uint64) << np.uint64(56))
    mixed = (low ^ (high * np.uint64(0xC2B2AE3D27D4EB4F))) * np.uint64(0x9E3779B97F4A7C15)
    return low, high, mixed ^ (mixed >> np.uint64(29))


def _characters(codes: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The UTF-8 characters that begin at some places, each as one integer."""
    windows: np.ndarray = np.ndarray((len(codes) - 3,), "V4", codes, strides=(1,))
    return windows[places].view("<u4") & MASKS[WIDTH[codes[places]]]


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Runs of texts of about CHUNK characters; a longer text is one of its own."""
    begin = size = 0
    for i, text in enumerate(texts):
        if size and size + len(text) > CHUNK:
            yield texts[begin:i]
            begin, size = i, 0
        size += len(text) + 1
    if size:
        yield texts[begin:]


def remembering(model: Any, load: Callable[[bytes], Any]) -> Words | None:
    """A SentencePiece processor with a memory of words, or None if its kind allows none.

    Args:
      model: the processor.
      load: makes one of a file's content.
    """
    content = model.serialized_model_proto()
    facts = model_facts(content)
    every = list(range(model.vocab_size()))
    if not facts.is_bpe or not facts.byte_fallback or any(model.is_unused(every)):
        return None
    if facts.space_is_suffix or not facts.escapes_spaces:
        return None
    other = zip(model.is_control(every), model.is_unknown(every), model.is_byte(every), strict=True)
    pieces = compress(model.id_to_piece(every), (not any(kinds) for kinds in other))
    cuts, joined = _pairs(piece.replace("▁", " ") for piece in pieces)
    return Words(
        engine=load(content + NO_NORMALIZER),
        normalizer=model if facts.maps_characters or facts.removes_spaces else None,
        prefix=" " if facts.dummy_prefix else "",
        cuts=cuts,
        joined=joined,
    )


def _pairs(pieces: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which two ASCII characters may be cut apart, and which other pairs may not."""
    cuts = np.zeros((256, 256), bool)
    cuts[:128, :128] = True
    joined = [0]  # never empty, so that it can be searched; no text has this pair: it is ASCII
    for left, right in set(chain.from_iterable(map(pairwise, pieces))):
        if left.isascii() and right.isascii():
            cuts[ord(left), ord(right)] = False
        else:
            a, b = (int.from_bytes(one.encode(), "little") for one in (left, right))
            joined.append(a << 32 | b)
    return cuts.reshape(-1), np.sort(np.array(joined, np.uint64))
