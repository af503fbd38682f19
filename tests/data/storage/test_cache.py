from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import mfunc.data as md
from mfunc.data.storage import cache, indexed

SAMPLES = {"input_ids": md.Ragged.from_rows([[1, 2, 3], [4, 5]])}


@pytest.fixture
def source() -> Path:
    path = Path("in/a.json")
    path.parent.mkdir()
    path.write_text('[{"q": "1 + 1?"}]')
    return path


def test_one_byte_of_input_is_another_key(source):
    key = md.cache_key(md.take(1), files=source)
    data = bytearray(source.read_bytes())
    for at in (0, len(data) // 2, len(data) - 1):
        source.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert md.cache_key(md.take(1), files=source) != key
    source.write_bytes(data)
    assert md.cache_key(md.take(1), files=source) == key


def test_one_setting_is_another_key(source):
    steps = [
        md.take(1),
        md.take(2),
        md.skip(1),
        md.compose(md.take(1), md.skip(1)),
        md.compose(md.skip(1), md.take(1)),
        md.pack(8),
        md.pack(8, strategy="next_fit"),
        md.chat(style="alpaca", template="qwen"),
        md.chat(style="alpaca", template=md.TEMPLATES["llama2"]),
    ]
    keys = [md.cache_key(step, files=source) for step in steps]
    keys += [md.cache_key(md.take(1), {"fields": f}, files=source) for f in (None, "q", ["q"])]
    assert len({*keys}) == len(keys)
    assert md.cache_key(md.pack(seq_length=8), files=source) in keys


def test_another_tokenizer_is_another_key(source, shared):
    paths = [shared / f"data/tokenizers/{n}/tokenizer.model" for n in ("llama", "chatglm3")]
    models = [md.sentencepiece(path) for path in paths if path.exists()]
    models.append(md.sentencepiece(paths[0], dummy_prefix=False))
    keys = {md.cache_key(md.tokenize(model), files=source) for model in models}
    assert len(keys) == len(models) >= 2


def test_where_files_lie_does_not_matter_but_order_and_names_do(source):
    other = Path("elsewhere/b.json")
    shutil.copytree("in", "elsewhere")
    assert md.cache_key(files="elsewhere/a.json") == md.cache_key(files=source)
    assert md.cache_key(files="elsewhere") == md.cache_key(files=[source])
    other.write_text("[]")
    both = [source, other]
    assert md.cache_key(files=both) != md.cache_key(files=both[::-1])
    assert md.cache_key(files="elsewhere") == md.cache_key(files=both)
    key = md.cache_key(files="elsewhere")
    Path("elsewhere/.hidden").write_text("x")
    assert md.cache_key(files="elsewhere") == key
    other.rename("elsewhere/b.jsonl")
    assert md.cache_key(files="elsewhere") != key


def test_another_code_is_another_key(source, monkeypatch):
    """Of the package, of its format, and of the module that a transform is from."""
    key = md.cache_key(md.take(1), files=source)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "FORMAT", 0)
        assert md.cache_key(md.take(1), files=source) != key
    sources = cache._sources(md.compose(md.take(1), mine()))
    assert Path(__file__) in sources
    assert Path(md.__file__).parent / "packing" / "pack.py" in sources
    assert md.cache_key(md.take(1), files=source) == key
    monkeypatch.setattr(cache, "_sources", lambda value: [*sources, source])
    assert md.cache_key(md.take(1), files=source) != key


@md.transform
def mine() -> object:
    return lambda columns: columns


def test_what_has_no_identity_has_no_key(source):
    with pytest.raises(TypeError, match=r"cache_key\[0\]: <function .*lambda.* has no stable iden"):
        md.cache_key(lambda columns: columns, files=source)
    with pytest.raises(FileNotFoundError, match=r"cache_key: there is no file gone\.json"):
        md.cache_key(md.take(1), files=["gone.json"])


def test_made_once():
    calls = []

    def make(folder: Path) -> None:
        calls.append(folder)
        indexed.write(folder / "x", SAMPLES)

    first = md.cached("0123abcd", "c", make)
    assert md.cached("0123abcd", "c", make) == first == Path("c/0123abcd")
    assert len(calls) == 1
    assert indexed.read(first / "x", verify=True)["input_ids"] == SAMPLES["input_ids"]
    assert [p.name for p in Path("c").iterdir()] == ["0123abcd"]


def test_an_error_leaves_nothing():
    def make(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyError("half")

    with pytest.raises(KeyError, match="half"):
        md.cached("0123abcd", "c", make)
    assert list(Path("c").iterdir()) == []


def test_two_processes_may_make_the_same():
    """The second finds the first one's result in its place when it is done."""

    def make(folder: Path) -> None:
        (folder / "x").write_text("slow")
        if not Path("c/0123abcd").exists():
            md.cached("0123abcd", "c", lambda inner: (inner / "x").write_text("fast"))

    assert (md.cached("0123abcd", "c", make) / "x").read_text() == "fast"
    assert [p.name for p in Path("c").iterdir()] == ["0123abcd"]


@pytest.mark.parametrize("key", ["", "../up", "abc", "ABCDEF01"])
def test_keys_are_keys(key):
    with pytest.raises(ValueError, match="cached: key must be of cache_key"):
        md.cached(key, "c", print)


def test_nothing_made_is_an_error():
    with pytest.raises(ValueError, match="make\\(folder\\) wrote no file into the folder"):
        md.cached("0123abcd", "c", lambda folder: None)
