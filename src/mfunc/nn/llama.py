"""LLaMA 1, 2 and 3: RMSNorm, rotary positions, grouped key/value heads, SwiGLU.

Shapes: B rows, S positions, D hidden_size, V vocab_size, H heads, K key/value heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import operations as P

from mfunc import random, spec
from mfunc.cross_entropy import multiplied
from mfunc.depth import block, remat
from mfunc.nn import adapted, attention, kv_cache, position
from mfunc.nn.dense_attention import positions
from mfunc.nn.layers import embed, keep, linear, merge_heads, rms_norm, split_heads, swiglu
from mfunc.spec import Spec
from mfunc.tree import Tree

AXES = ("vocab", "embed", "heads", "kv_heads", "mlp")


def _divides(instance: Config, attribute: Any, value: int) -> None:
    if instance.num_attention_heads % value:
        raise ValueError(
            f"llama.Config: num_attention_heads={instance.num_attention_heads} is not a multiple "
            f"of num_key_value_heads={value}"
        )


@attrs.frozen(kw_only=True)
class Config:
    """The sizes of a LLaMA, by their names in Hugging Face `config.json`.

    Attributes:
      rope_theta: base wavelength of the rotary positions, positions.
      rope_scaling: `None`, or Llama 3.1's (factor, low_freq_factor, high_freq_factor,
        original_max_position_embeddings).

    Raises:
      ValueError: a size is not positive, or the heads do not divide.

    Example:
      >>> Config(vocab_size=8, hidden_size=4, intermediate_size=8, num_hidden_layers=1,
      ...        num_attention_heads=2).head_dim
      2
    """

    vocab_size: int = attrs.field(validator=attrs.validators.gt(0))
    hidden_size: int = attrs.field(validator=attrs.validators.gt(0))
    intermediate_size: int = attrs.field(validator=attrs.validators.gt(0))
    num_hidden_layers: int = attrs.field(validator=attrs.validators.gt(0))
    num_attention_heads: int = attrs.field(validator=attrs.validators.gt(0))
    num_key_value_heads: int = attrs.field(
        default=attrs.Factory(lambda self: self.num_attention_heads, takes_self=True),
        validator=[attrs.validators.gt(0), _divides],
    )
    head_dim: int = attrs.field(
        default=attrs.Factory(
            lambda self: self.hidden_size // self.num_attention_heads, takes_self=True
        ),
        validator=attrs.validators.gt(0),
    )
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_scaling: tuple[float, float, float, int] | None = None
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02


def specs(config: Config) -> Tree:
    """Return what every parameter is; weights are [in, out].

    Example:
      >>> tiny = Config(vocab_size=8, hidden_size=4, intermediate_size=8, num_hidden_layers=1,
      ...               num_attention_heads=2)
      >>> specs(tiny)["layers"][0]["q"].shape
      (4, 4)
    """
    width, mlp, head = config.hidden_size, config.intermediate_size, config.head_dim
    q, kv = config.num_attention_heads * head, config.num_key_value_heads * head

    def weight(rows: int, columns: int, axes: tuple[str, str]) -> Spec:
        return Spec((rows, columns), axes=axes, scale=config.initializer_range)

    norm = Spec((width,), axes=("embed",), init="ones")
    # What joins the residual stream starts smaller, as in GPT-2: their sum keeps its size.
    joining = config.initializer_range / math.sqrt(2 * config.num_hidden_layers)
    layer = {
        "attention_norm": norm,
        "q": weight(width, q, ("embed", "heads")),
        "k": weight(width, kv, ("embed", "kv_heads")),
        "v": weight(width, kv, ("embed", "kv_heads")),
        "o": attrs.evolve(weight(q, width, ("heads", "embed")), scale=joining),
        "mlp_norm": norm,
        "gate": weight(width, mlp, ("embed", "mlp")),
        "up": weight(width, mlp, ("embed", "mlp")),
        "down": attrs.evolve(weight(mlp, width, ("mlp", "embed")), scale=joining),
    }
    tree = {
        "embed": weight(config.vocab_size, width, ("vocab", "embed")),
        "layers": (layer,) * config.num_hidden_layers,
        "norm": norm,
    }
    untied = {"head": weight(width, config.vocab_size, ("embed", "vocab"))}
    return tree if config.tie_word_embeddings else tree | untied


def init(key: random.Key, config: Config) -> Tree:
    """Return fresh parameters; each draws from the key of its own path.

    Example:
      >>> tiny = Config(vocab_size=8, hidden_size=4, intermediate_size=8, num_hidden_layers=1,
      ...               num_attention_heads=2)
      >>> init(random.key(0), tiny)["embed"].shape
      (8, 4)
    """
    return spec.init(specs(config), key)


def apply(
    params: Tree,
    config: Config,
    input_ids: Tensor,
    *,
    segment_ids: Tensor | None = None,
    position_ids: Tensor | None = None,
    blocks: Tree = None,
    recompute: bool = False,
    constrain: Callable[[Tensor, tuple[str | None, ...]], Tensor] = keep,
) -> Tensor:
    """Return the logits of the next token at every position.

    Args:
      params: as `specs(config)`.
      config: the sizes.
      input_ids: int32 [B, S].
      segment_ids: int32 [B, S]; 0 is padding, documents are 1, 2, ...; a document sees only itself.
      position_ids: int32 [B, S]; by default 0, 1, ... along the row (for packed rows behind a
        prefix they must be given).
      blocks: from `data.attention_blocks` of these segments: attention computes no others. A prefix
        does without.
      recompute: keep only the input of each layer for the gradient, and compute the layer again.
      constrain: places activations by their axes; `parallel` gives one.

    Returns:
      [B, S, V], in the dtype of the parameters (see `nn.layers`).

    Raises:
      ValueError: a prefix is laid, and there are `segment_ids` but no `position_ids`; the blocks
        are for another number of tokens.

    Laws:
      Token t changes no logit before t, and no logit of another segment. With and without `blocks`
      the logits of every segment are the same, to rounding.

    Source:
      Touvron et al. 2023; transformers 4.57 `LlamaForCausalLM` agrees to 1e-5 in float32.
    """
    factors = factored(
        params, config, input_ids, segment_ids=segment_ids, position_ids=position_ids,
        blocks=blocks, recompute=recompute, constrain=constrain,
    )  # fmt: skip
    return multiplied(factors)


def factored(
    params: Tree,
    config: Config,
    input_ids: Tensor,
    *,
    segment_ids: Tensor | None = None,
    position_ids: Tensor | None = None,
    blocks: Tree = None,
    recompute: bool = False,
    frozen_head: bool = False,
    constrain: Callable[[Tensor, tuple[str | None, ...]], Tensor] = keep,
) -> Tree:
    """Return the logits of `apply` as two factors, which the losses take in their place.

    The losses multiply them for a few tokens at a time (`cross_entropy`): all logits of a batch
    would need more memory than the model where the vocabulary is large.

    Args:
      params: this and all others but `frozen_head` as for `apply`.
      config: the sizes.
      input_ids: int32 [B, S].
      segment_ids: int32 [B, S].
      position_ids: int32 [B, S].
      blocks: of attention.
      recompute: layers, for the gradient.
      frozen_head: the head (or the table, as the head) is not trained: it gets no gradient.
      constrain: places activations.

    Returns:
      `{"hidden": [B, S, D], "head": [D, V], "frozen"}`, or `"table"` [V, D] in the place of
      `"head"` if embeddings are tied.

    Laws:
      their product is what `apply` returns.
    """
    batch, length = input_ids.shape
    first = params["layers"][0]
    if position_ids is None:
        position_ids = adapted.running_positions(input_ids, segment_ids, first)
    if segment_ids is None:
        segment_ids = ops.ones_like(input_ids)
    x = constrain(embed(params["embed"], input_ids), ("tokens", "embed"))
    prefix = adapted.prefix_length(first) > 0
    seen = attention.see(
        segment_ids, x, config.num_attention_heads, config.head_dim, blocks, prefix
    )
    seen = adapted.see_prefix(seen, first)
    tables = _tables(config, adapted.after_prefix(attention.laid(position_ids, seen), first), x)
    through = _recomputed_layer if recompute else _layer
    for layer in params["layers"]:
        x = constrain(through(layer, config, x, tables, seen), ("tokens", "embed"))
    return _factors(params, config, x, (batch, length, -1), frozen_head)


def _tables(
    config: Config, position_ids: Tensor, x: Tensor
) -> tuple[position.Table, position.Table]:
    """Return the rotary tables of the query heads and of the key heads, in the dtype of `x`."""
    frequency = position.frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
    return (
        position.rotary(position_ids, config.num_attention_heads, frequency, x.dtype),
        position.rotary(position_ids, config.num_key_value_heads, frequency, x.dtype),
    )


def _plain_layer(layer: Tree, config: Config, x: Tensor, tables: Any, seen: Tree) -> Tensor:
    """One layer over whole rows: [N, D] -> [N, D]."""
    q, k, v = _queries_keys_values(layer, config, x, tables)
    return _after_attention(layer, config, x, q, k, v, seen)


_layer, _recomputed_layer = block(_plain_layer), remat(_plain_layer)


def _queries_keys_values(
    layer: Tree, config: Config, x: Tensor, tables: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Return q [B, H, S, D / H] and k, v [B, K, S, D / H], turned by their positions."""
    batch = tables[0][0].shape[0]
    heads, kinds = config.num_attention_heads, config.num_key_value_heads
    normed = rms_norm(x, layer["attention_norm"], config.rms_norm_eps)
    q = split_heads(linear(normed, layer["q"]), batch, heads)
    k = split_heads(linear(normed, layer["k"]), batch, kinds)
    v = split_heads(linear(normed, layer["v"]), batch, kinds)
    return position.rotate(q, tables[0]), position.rotate(k, tables[1]), v


def _after_attention(
    layer: Tree, config: Config, x: Tensor, q: Tensor, k: Tensor, v: Tensor, seen: Tree
) -> Tensor:
    """Attend, project, and go through the mlp, each beside the residual stream."""
    k = adapted.behind_prefix(k, layer, "prefix_k")
    v = adapted.behind_prefix(v, layer, "prefix_v")
    mixed = linear(merge_heads(attention.attend(q, k, v, seen)), layer["o"])
    x = x + adapted.through_adapter(mixed, layer, "attention_adapter")
    normed = rms_norm(x, layer["mlp_norm"], config.rms_norm_eps)
    computed = swiglu(normed, layer["gate"], layer["up"], layer["down"])
    return x + adapted.through_adapter(computed, layer, "mlp_adapter")


def _factors(params: Tree, config: Config, x: Tensor, shape: Any, frozen: bool) -> Tree:
    """Norm the last hidden states and lay the head beside them."""
    hidden = rms_norm(x, params["norm"], config.rms_norm_eps).reshape(shape)
    if config.tie_word_embeddings:
        return {"hidden": hidden, "table": params["embed"], "frozen": frozen}
    return {"hidden": hidden, "head": params["head"], "frozen": frozen}


def init_cache(config: Config, batch: int, length: int, dtype: Any = ms.float32) -> Tree:
    """Return an empty cache of keys and values for rows of up to `length` tokens.

    Args:
      config: the sizes.
      batch: B.
      length: prompt and answer, tokens.
      dtype: of keys and values.

    Returns:
      `{"k": L x [B, K, length, D / H], "v": the same, "length": int32 [B]}`.
    """
    shape = (batch, config.num_key_value_heads, length, config.head_dim)
    return kv_cache.empty(config.num_hidden_layers, shape, dtype)


def decode(
    params: Tree, config: Config, cache: Tree, input_ids: Tensor, valid: Tensor | None = None
) -> tuple[Tensor, Tree]:
    """Continue rows from their caches; the first call takes the prompts, later ones a token a row.

    Args:
      params: as `specs(config)`.
      config: the sizes.
      cache: from `init_cache` or the last call.
      input_ids: int32 [B, T], the next tokens of each row, padded on the right.
      valid: int32 [B], how many of the T tokens are real; by default all.

    Returns:
      Logits [B, T, V], and the new cache.

    Laws:
      Logits equal those of `apply` on the whole rows.
    """
    batch, new = input_ids.shape
    place = ops.expand_dims(cache["length"], 1) + positions(input_ids)
    first = params["layers"][0]
    written, bias = kv_cache.plan(place, cache["k"][0].shape[2], config.num_attention_heads)
    seen = adapted.see_prefix({"bias": bias}, first)
    x = embed(params["embed"], input_ids)
    tables = _tables(config, adapted.after_prefix(place, first), x)
    keys, values = [], []
    for i in range(config.num_hidden_layers):
        x, k, v = _cached_layer(
            params["layers"][i], config, x, tables, seen, written, cache["k"][i], cache["v"][i]
        )
        keys.append(k)
        values.append(v)
    count = new if valid is None else valid
    after = {"k": tuple(keys), "v": tuple(values), "length": cache["length"] + count}
    return multiplied(_factors(params, config, x, (batch, new, -1), False)), after


@block
def _cached_layer(
    layer: Tree,
    config: Config,
    x: Tensor,
    tables: Any,
    seen: Tree,
    written: Tensor,
    old_k: Tensor,
    old_v: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer over new tokens, which are written into the cache."""
    q, k, v = _queries_keys_values(layer, config, x, tables)
    k, v = kv_cache.write(old_k, k, written), kv_cache.write(old_v, v, written)
    seen_k, seen_v = P.Cast()(k, q.dtype), P.Cast()(v, q.dtype)
    return _after_attention(layer, config, x, q, seen_k, seen_v, seen), k, v
