from __future__ import annotations

import io
import json
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
import sentencepiece
import tokenizers
from safetensors.numpy import load_file, save_file
from tests.tiny_llama import GOLDEN, tiny_llama

import mfunc.data as md
from mfunc import tree
from mfunc.auto import Pretrained, check_vocabulary, from_pretrained, save_pretrained
from mfunc.nn import llama

TINY = tiny_llama()


def bits(params):
    return [leaf.asnumpy().tobytes() for leaf in tree.leaves(params)]


@pytest.fixture
def folder(tmp_path):
    """The tiny LLaMA as a folder, without a tokenizer."""
    save_pretrained(tmp_path / "model", Pretrained(llama, TINY.config, TINY.params))
    return tmp_path / "model"


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory):
    """A SentencePiece model of 270 or more pieces: more than the tiny model has."""
    path, writer = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model", io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a few words, that is all"] * 9), model_writer=writer,
        vocab_size=300, model_type="bpe", byte_fallback=True, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    path.write_bytes(writer.getvalue())
    return path


def change_config(folder, **changes):
    path = folder / "config.json"
    settings = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in settings.items() if v is not ...}))


def change_weights(folder, **changes):
    path = folder / "model.safetensors"
    arrays = {**load_file(path), **{name.replace("__", "."): a for name, a in changes.items()}}
    save_file({name: array for name, array in arrays.items() if array is not None}, path)


def shard(folder):
    """Split the weights over two files with an index, as large checkpoints come."""
    arrays = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    where = {name: files[i % 2] for i, name in enumerate(sorted(arrays))}
    for file in files:
        save_file({name: arrays[name] for name in arrays if where[name] == file}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return files


# --- a real checkpoint ---


@pytest.fixture(scope="module")
def stories(shared):
    return from_pretrained(shared / "data" / "checkpoints" / "stories260K")


def test_a_real_checkpoint_loads_strictly(stories):
    assert stories.model is llama
    assert (stories.config.num_attention_heads, stories.config.num_key_value_heads) == (8, 4)
    assert stories.config.tie_word_embeddings
    assert "head" not in stories.params
    assert stories.tokenizer.vocab_size == stories.config.vocab_size == 512
    assert sum(leaf.size for leaf in tree.leaves(stories.params)) == 260_032


@pytest.mark.parametrize("prompt", ["prompt0", "prompt1"])
def test_its_logits_are_those_of_transformers(stories, prompt):
    golden = np.load(GOLDEN / "llama_stories.npz")
    ids = ms.Tensor(golden[f"{prompt}/input_ids"][None])
    logits = llama.apply(stories.params, stories.config, ids).asnumpy()[0]
    np.testing.assert_allclose(logits, golden[f"{prompt}/logits"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(logits, golden[f"{prompt}/logits_exact"], rtol=1e-5, atol=1e-5)


def test_a_real_checkpoint_survives_saving(stories, shared, tmp_path):
    save_pretrained(tmp_path / "copy", stories)
    again = from_pretrained(tmp_path / "copy")
    assert again.config == stories.config
    assert bits(again.params) == bits(stories.params)
    assert again.tokenizer == stories.tokenizer
    origin = shared / "data" / "checkpoints" / "stories260K"
    theirs, ours = (load_file(f / "model.safetensors") for f in (origin, tmp_path / "copy"))
    assert {n: a.tobytes() for n, a in ours.items()} == {n: a.tobytes() for n, a in theirs.items()}


# --- what is written is read ---


def test_saved_is_loaded_to_the_bit(folder):
    again = from_pretrained(folder)
    assert (again.model, again.config, again.tokenizer) == (llama, TINY.config, None)
    assert tree.flatten(again.params)[1] == tree.flatten(TINY.params)[1]
    assert bits(again.params) == bits(TINY.params)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_the_tensors_in_the_file_are_hugging_faces(folder):
    arrays = load_file(folder / "model.safetensors")
    weights = {k.removeprefix("weights/"): v for k, v in TINY.numbers.items() if "weights/" in k}
    assert arrays.keys() == weights.keys()
    assert all(arrays[name].tobytes() == weights[name].tobytes() for name in weights)


def test_a_sentencepiece_tokenizer_goes_along(tmp_path, tokenizer_file):
    tokenizer = md.sentencepiece(tokenizer_file)
    config = llama.Config(
        vocab_size=tokenizer.vocab_size, hidden_size=4, intermediate_size=4, num_hidden_layers=1,
        num_attention_heads=1,
    )  # fmt: skip
    params = llama.init(np.zeros(2, np.uint32), config)
    save_pretrained(tmp_path, Pretrained(llama, config, params, tokenizer))
    assert (tmp_path / "tokenizer.model").read_bytes() == tokenizer_file.read_bytes()
    assert from_pretrained(tmp_path).tokenizer == tokenizer


def test_a_hugging_face_tokenizer_goes_along(folder):
    vocabulary = {"[UNK]": 0, "hello": 1, "world": 2}
    engine = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "[UNK]"))
    engine.save(str(folder / "tokenizer.json"))
    loaded = from_pretrained(folder)
    assert loaded.tokenizer.vocab_size == 3
    save_pretrained(folder.parent / "copy", loaded)
    copy = (folder.parent / "copy" / "tokenizer.json").read_bytes()
    assert copy == (folder / "tokenizer.json").read_bytes()


def test_shards_are_joined(folder):
    shard(folder)
    assert bits(from_pretrained(folder).params) == bits(TINY.params)


def test_saving_over_shards_is_not_answered_with_the_old_weights(folder):
    shard(folder)
    changed = tree.map(lambda leaf: leaf + 1, TINY.params)
    save_pretrained(folder, Pretrained(llama, TINY.config, changed))
    assert bits(from_pretrained(folder).params) == bits(changed)


def test_a_tied_head_that_is_stored_as_well_is_no_fault(tmp_path):
    tied = tiny_llama("llama_tiny_tied")
    save_pretrained(tmp_path, Pretrained(llama, tied.config, tied.params))
    change_weights(tmp_path, lm_head__weight=tied.params["embed"].asnumpy())
    assert bits(from_pretrained(tmp_path).params) == bits(tied.params)


def test_half_precision_weights_come_as_float32_and_compute(folder):
    halves = {n: a.astype(np.float16) for n, a in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors")
    params = from_pretrained(folder).params
    assert {leaf.dtype for leaf in tree.leaves(params)} == {ms.float32}
    np.testing.assert_array_equal(params["embed"].asnumpy(), halves["model.embed_tokens.weight"])
    assert llama.apply(params, TINY.config, ms.Tensor([[1, 2]], ms.int32)).dtype == ms.float32


# --- bad input ---


def test_missing_files_are_named(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder"):
        from_pretrained(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    message = r"empty.config.json: no such file; a model folder has a config.json"
    with pytest.raises(FileNotFoundError, match=message):
        from_pretrained(tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model.model.safetensors: no such file"):
        from_pretrained(folder)


def test_a_missing_shard_is_named(folder):
    files = shard(folder)
    (folder / files[1]).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{files[1]}: no such file"):
        from_pretrained(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"config.json: not JSON \(Expecting property name"),
        ("[1]", r"config.json: holds a list, not an object"),
        ("{}", r"config.json: model_type is None; known are llama"),
        ('{"model_type": "mamba"}', r"config.json: model_type is 'mamba'; known are llama"),
    ],
)
def test_a_config_that_is_none(folder, text, message):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        from_pretrained(folder)


def test_an_unknown_key_comes_with_the_nearest_name(folder):
    change_config(folder, rope_thetas=3.0)
    message = r"config.json: unknown key 'rope_thetas' .*; the nearest known key is 'rope_theta'"
    with pytest.raises(ValueError, match=message):
        from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__norm__weight": None}, r"model: missing model.norm.weight$"),
        ({"model__extra": np.zeros(3, np.float32)}, r"model: unexpected model.extra$"),
        (
            {"lm_head__weight": np.zeros((32, 64), np.float32)},
            r"lm_head.weight has shape \(32, 64\), the config asks for \(64, 32\)",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named_as_in_the_file(folder, changes, message):
    change_weights(folder, **changes)
    with pytest.raises(ValueError, match=message):
        from_pretrained(folder)


def test_an_untied_model_without_a_head_is_refused(folder):
    change_weights(folder, lm_head__weight=None)
    with pytest.raises(ValueError, match=r"missing lm_head.weight"):
        from_pretrained(folder)


def test_more_layers_than_the_file_has(folder):
    change_config(folder, num_hidden_layers=3)
    message = r"missing model.layers.2.input_layernorm.weight, .* and 4 more$"
    with pytest.raises(ValueError, match=message):
        from_pretrained(folder)


def test_a_tokenizer_with_more_tokens_than_the_model(folder, tokenizer_file):
    (folder / "tokenizer.model").write_bytes(tokenizer_file.read_bytes())
    size = md.sentencepiece(tokenizer_file).vocab_size
    message = (
        rf"the tokenizer has {size} tokens but the model vocab_size=64; use the tokenizer that"
    )
    with pytest.raises(ValueError, match=message):
        from_pretrained(folder)


def test_a_smaller_tokenizer_or_none_is_no_fault():
    check_vocabulary(None, TINY.config, "here")
    check_vocabulary(SimpleNamespace(vocab_size=64), TINY.config, "here")
    with pytest.raises(ValueError, match=r"here: the tokenizer has 65 tokens"):
        check_vocabulary(SimpleNamespace(vocab_size=65), TINY.config, "here")


def test_the_folder_says_what_the_special_tokens_are(folder):
    model = tokenizers.models.WordLevel({"a": 0, "</s>": 1}, unk_token="a")
    tokenizers.Tokenizer(model).save(str(folder / "tokenizer.json"))
    config = {"eos_token": {"content": "</s>"}, "bos_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = from_pretrained(folder).tokenizer
    assert (tokenizer.eos_id, tokenizer.bos_id) == (1, None)


def test_saving_leaves_no_tokenizer_of_another_model(tmp_path, folder, tokenizer_file):
    model = tokenizers.models.WordLevel({"a": 0}, unk_token="a")
    tokenizers.Tokenizer(model).save("other.json")
    both = (md.sentencepiece(tokenizer_file), md.hf_tokenizer("other.json", eos="a"))
    for tokenizer in both:
        save_pretrained(folder, Pretrained(llama, TINY.config, TINY.params, tokenizer))
    assert not (folder / "tokenizer.model").exists()
    assert from_pretrained(folder).tokenizer == both[1]
    assert from_pretrained(folder).tokenizer.roles == {"eos": "a"}


def test_an_unknown_family_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"'test_auto_family' is no family .*; known are llama"):
        save_pretrained(
            tmp_path,
            Pretrained(SimpleNamespace(__name__="test_auto_family"), TINY.config, TINY.params),
        )
