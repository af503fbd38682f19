"""Generation: prompts in, new tokens out, with a cache of keys and values.

One compiled step serves all calls of one model; prompts of different lengths share a batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from tqdm.auto import tqdm

from mfunc import random
from mfunc.transform import jit
from mfunc.tree import Tree

# Prompts and caches are padded to multiples of these, so that few lengths are ever compiled.
_PROMPT_MULTIPLE = 16
_CACHE_MULTIPLE = 64


def generate(
    model: ModuleType,
    params: Tree,
    config: Any,
    input_ids: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_id: int | None = None,
    key: random.Key | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> list[np.ndarray]:
    """Continue prompts.

    Args:
      model: a decoder family with `init_cache` and `decode`.
      params: its parameters.
      config: its sizes.
      input_ids: n prompts of any lengths, tokens.
      max_new_tokens: how many tokens to add at most, for each prompt.
      eos_id: a prompt is finished when this comes; it is not returned.
      key: draws tokens at random with it; without a key the best token is taken each time.
      temperature: scores are divided by it before drawing.
      top_k: draw among the best k only.
      batch_size: prompts that run together.
      progress: show a bar.

    Returns:
      n arrays int32 with the new tokens of each prompt.

    Raises:
      ValueError: a prompt is empty or has a token that the model has not, or a setting is out of
        range.

    Laws:
      Greedy tokens are those that `model.apply` on the whole text would choose; a prompt's tokens
      do not depend on its neighbours in the batch.
    """
    prompts = [np.asarray(prompt, dtype=np.int32) for prompt in input_ids]
    _check(prompts, config, max_new_tokens, temperature, top_k, batch_size)
    choose = _chooser(key, temperature, top_k)
    done: list[np.ndarray] = []
    with tqdm(total=len(prompts), desc="generate", unit="prompt", disable=not progress) as bar:
        for start in range(0, len(prompts), batch_size):
            group = prompts[start : start + batch_size]
            columns = list(
                _tokens(model, params, config, group, max_new_tokens, eos_id, choose, start)
            )
            done += [_until(row, eos_id) for row in np.stack(columns, 1)]
            bar.update(len(group))
    return done


def stream(
    model: ModuleType,
    params: Tree,
    config: Any,
    input_ids: Sequence[int],
    tokenizer: Any,
    *,
    max_new_tokens: int,
    eos_id: int | None = None,
    key: random.Key | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Iterator[str]:
    """Continue one prompt and yield its text as it comes, for a terminal.

    Args:
      model: as for `generate`, like all that is not explained here.
      params: its parameters.
      config: its sizes.
      input_ids: the prompt, tokens.
      tokenizer: has `decode(ids) -> str`.
      max_new_tokens: how many tokens to add at most.
      eos_id: ends the text.
      key: draws tokens at random with it; without a key the best token is taken each time.
      temperature: scores are divided by it before drawing.
      top_k: draw among the best k only.

    Yields:
      The new part of the text; a character of several tokens comes whole.

    Laws:
      Joined, the parts are the decoded tokens of `generate`.
    """
    prompt = np.asarray(input_ids, dtype=np.int32)
    _check([prompt], config, max_new_tokens, temperature, top_k, 1)
    choose = _chooser(key, temperature, top_k)
    # Half a character at the end of the prompt is completed by the first new tokens.
    start, said = tokenizer.decode(prompt).rstrip("\ufffd"), 0
    ids: list[int] = []
    for column in _tokens(model, params, config, [prompt], max_new_tokens, eos_id, choose, 0):
        if int(column[0]) == eos_id:
            break
        ids.append(int(column[0]))
        text = tokenizer.decode([*prompt, *ids])[len(start) :]
        # A replacement character at the end is half of a character that the next token completes.
        if not text.endswith("\ufffd"):
            yield text[said:]
            said = len(text)
    if ids and len(text) > said:
        yield text[said:]


def _check(
    prompts: list[np.ndarray],
    config: Any,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    batch: int,
) -> None:
    """Refuse prompts and settings that cannot be."""
    for name, value in {
        "max_new_tokens": max_new_tokens,
        "top_k": 1 if top_k is None else top_k,
        "batch_size": batch,
    }.items():
        if value < 1:
            raise ValueError(f"generate: {name}={value}; it must be at least 1")
    if not temperature > 0:
        raise ValueError(
            f"generate: temperature={temperature}; it must be positive (no key is greedy)"
        )
    for i, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise ValueError(f"generate: prompt {i} is empty; start it with the bos token")
        if prompt.min() < 0 or prompt.max() >= config.vocab_size:
            token = prompt.min() if prompt.min() < 0 else prompt.max()
            raise ValueError(
                f"generate: prompt {i} has token {token}; "
                f"the model has vocab_size={config.vocab_size}"
            )


Chooser = Callable[[np.ndarray, int, int], np.ndarray]


def _chooser(key: random.Key | None, temperature: float, top_k: int | None) -> Chooser:
    """Return `(logits [B, V], first row, step) -> tokens [B]`."""
    if key is None:
        return lambda logits, first, step: logits.argmax(-1).astype(np.int32)

    def draw(logits: np.ndarray, first: int, step: int) -> np.ndarray:
        scores = logits / np.float32(temperature)
        if top_k is not None and top_k < scores.shape[-1]:
            least = np.partition(scores, -top_k, axis=-1)[:, -top_k, None]
            scores = np.where(scores < least, np.float32(-np.inf), scores)
        # A key for each row and step: what a row draws does not depend on its neighbours.
        keys = [random.fold_in(random.fold_in(key, first + i), step) for i in range(len(scores))]
        drawn = [random.categorical(its, row) for its, row in zip(keys, scores, strict=True)]
        return np.array(drawn, dtype=np.int32)

    return draw


def _tokens(
    model: ModuleType,
    params: Tree,
    config: Any,
    prompts: list[np.ndarray],
    max_new_tokens: int,
    eos_id: int | None,
    choose: Chooser,
    first: int,
) -> Iterator[np.ndarray]:
    """Yield the next token of every prompt, int32 [B], until all are finished."""
    step = _decode_step(model, config)
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int32)
    width = _round_up(int(lengths.max()), _PROMPT_MULTIPLE)
    ids = np.zeros((len(prompts), width), dtype=np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = prompt
    cache = model.init_cache(
        config, len(prompts), _round_up(width + max_new_tokens, _CACHE_MULTIPLE)
    )
    logits, cache = step(params, cache, ids, lengths)
    finished = np.zeros(len(prompts), dtype=bool)
    ones = np.ones(len(prompts), dtype=np.int32)
    for i in range(max_new_tokens):
        tokens = choose(logits.asnumpy(), first, i)
        yield tokens
        finished |= tokens == eos_id
        if finished.all() or i == max_new_tokens - 1:
            return
        logits, cache = step(params, cache, tokens[:, None], ones)


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


@functools.lru_cache(maxsize=16)
def _decode_step(model: ModuleType, config: Any) -> Callable[..., Any]:
    """Return the compiled step of a model: the logits after the last real token of each row."""

    def step(params, cache, input_ids, valid):  # type: ignore[no-untyped-def]
        logits, after = model.decode(params, config, cache, input_ids, valid)
        places = Tensor(np.arange(input_ids.shape[1], dtype=np.int32)).reshape((1, -1, 1))
        last = ops.cast(places == (valid - 1).reshape((-1, 1, 1)), ms.float32)
        return (ops.cast(logits, ms.float32) * last).sum(1), after

    return jit(step)


def _until(row: np.ndarray, eos_id: int | None) -> np.ndarray:
    """Cut a row before its eos."""
    ends = np.flatnonzero(row == eos_id)
    return row[: ends[0]] if len(ends) else row
