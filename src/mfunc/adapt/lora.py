"""LoRA: train W + (alpha / rank) A B, where W is frozen and A, B are small. DoRA and rsLoRA too.

The adapter is a tree beside the parameters: the same containers, `{"a": A, "b": B}` in the place of
each adapted weight and `None` in the place of all others. DoRA has `"magnitude"` as well: the norms
of the columns, [out].

    params   {"q": W, "k": W'}
    adapter  {"q": {"a": A, "b": B}, "k": None}

`apply` lays the adapter over the parameters without multiplying A and B out: `nn.layers.linear`
takes such weights. `merge` multiplies them out.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
import re
from types import MappingProxyType
from typing import Any

import attrs
import mindspore as ms
from mindspore.ops import operations as P

from mfunc import random, spec, tree
from mfunc.nn.dropping import fold_paths
from mfunc.nn.layers import column_norm
from mfunc.spec import Spec
from mfunc.tree import Tree


def _patterns(targets: Any) -> tuple[str, ...]:
    if isinstance(targets, str):
        raise TypeError(f"lora.Config: targets is the string {targets!r}; give a tuple of patterns")
    return tuple(targets)


@attrs.frozen(kw_only=True)
class Config:
    """What is adapted and how.

    Attributes:
      rank: columns of A and rows of B.
      alpha: the update is scaled by alpha / rank.
      targets: patterns of parameter paths, `*` standing for anything: `"layers/*/q"`.
      dropout: probability with which a number that meets A is set to zero; only where `apply` is
        given a key.
      use_rslora: scale by alpha / sqrt(rank).
      use_dora: train the norm of each column apart from its direction.

    Raises:
      ValueError: a number is out of range, or there is no target.
      TypeError: targets is one string.

    Example:
      >>> Config(rank=16, alpha=16, targets=("*/q",)).scale
      1.0
      >>> Config(rank=16, alpha=16, targets=("*/q",), use_rslora=True).scale
      4.0

    Source:
      Hu et al. 2021; Kalajdzievski 2023 (rsLoRA); Liu et al. 2024 (DoRA); names of PEFT.
    """

    rank: int = attrs.field(validator=[attrs.validators.instance_of(int), attrs.validators.gt(0)])
    alpha: float = attrs.field(validator=attrs.validators.gt(0))
    targets: tuple[str, ...] = attrs.field(
        converter=_patterns, validator=attrs.validators.min_len(1)
    )
    dropout: float = attrs.field(
        default=0.0, validator=[attrs.validators.ge(0), attrs.validators.lt(1)]
    )
    use_rslora: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    use_dora: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))

    @property
    def scale(self) -> float:
        """The factor of A B."""
        return self.alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)


_QV, _QKV = ("layers/*/q", "layers/*/v"), ("layers/*/qkv",)

# What MindFormers 0.6 trains, by our paths: wq wk wv wo; dense1 and dense3, which are queries and
# values; query_key_value, one weight for the three. `attrs.evolve(PRESETS["llama"], rank=8)`.
PRESETS = MappingProxyType({
    "llama": Config(
        rank=16, alpha=16, dropout=0.05, targets=(*_QV, "layers/*/k", "layers/*/o")
    ),
    "gpt2": Config(rank=64, alpha=128, dropout=0.1, targets=_QV),
    "glm": Config(rank=8, alpha=32, dropout=0.1, targets=_QKV),
    "glm2": Config(rank=8, alpha=32, dropout=0.1, targets=_QKV),
})  # fmt: skip


def specs(params: Tree, config: Config) -> Tree:
    """Return what every parameter of the adapter is.

    Args:
      params: tree of weights or of `Spec`; adapted weights are [in, out].
      config: rank and targets.

    Raises:
      ValueError: a target matches nothing (the nearest path is named), or a matched leaf is not a
        matrix.

    Example:
      >>> model = {"q": Spec((6, 4), axes=("embed", "heads")), "norm": Spec((6,), axes=("embed",))}
      >>> adapter = specs(model, Config(rank=2, alpha=4, targets=("q",)))
      >>> adapter["norm"], adapter["q"]["a"].shape, adapter["q"]["b"].shape
      (None, (6, 2), (2, 4))
    """
    leaves, structure = tree.flatten(params)
    paths = tree.structure_paths(structure)
    for pattern in config.targets:
        if not any(fnmatch.fnmatchcase(path, pattern) for path in paths):
            known = sorted({re.sub(r"(?<=/)\d+(?=/)", "*", path) for path in paths})
            near = difflib.get_close_matches(pattern, known, n=1, cutoff=0.0)
            hint = f"; the nearest path is {near[0]}" if near else "; there are no parameters"
            raise ValueError(f"lora: target {pattern!r} matches no parameter{hint}")
    named = zip(paths, leaves, strict=True)
    return tree.unflatten(structure, [_pair(path, leaf, config) for path, leaf in named])


def _pair(path: str, leaf: Any, config: Config) -> Tree:
    """Return the specs of A and B for one parameter, or `None` for one that stays as it is."""
    if not any(fnmatch.fnmatchcase(path, pattern) for pattern in config.targets):
        return None
    if len(leaf.shape) != 2:
        raise ValueError(
            f"lora: {path} has shape {tuple(leaf.shape)}; only matrices can be adapted"
        )
    rows, columns = leaf.shape
    axes = getattr(leaf, "axes", (None, None))
    # A deviation of 1 / sqrt(3 in) is that of the uniform start in PEFT.
    pair = {
        "a": Spec((rows, config.rank), axes=(axes[0], None), scale=1 / math.sqrt(3 * rows)),
        "b": Spec((config.rank, columns), axes=(None, axes[1]), init="zeros"),
    }
    if config.use_dora:
        pair["magnitude"] = Spec((columns,), axes=(axes[1],), init="ones")
    return pair


def init(key: random.Key, params: Tree, config: Config) -> Tree:
    """Return a fresh adapter: A random, B zero, the magnitudes of DoRA the norms of the columns.

    Args:
      key: uint32 [2]; each leaf draws from the key of its own path.
      params: the weights.
      config: rank and targets.

    Raises:
      ValueError: as `specs`; or DoRA meets a column of zeros, which has no direction.
      TypeError: DoRA is given specs in the place of weights.

    Laws:
      At init the model computes what it computed without the adapter.

    Source:
      Hu et al. 2021, section 4.1; Liu et al. 2024, section 4.1.

    Example:
      >>> from mindspore import Tensor
      >>> config = Config(rank=1, alpha=1, targets=("q",))
      >>> adapter = init(random.key(0), {"q": Tensor([[1.0], [2.0]])}, config)
      >>> adapter["q"]["a"].shape, adapter["q"]["b"].asnumpy()
      ((2, 1), array([[0.]], dtype=float32))
    """
    fresh = spec.init(specs(params, config), key)
    if not config.use_dora:
        return fresh
    if not all(isinstance(leaf, ms.Tensor) for leaf in tree.leaves(params)):
        raise TypeError(
            "lora.init: DoRA starts at the norms of the weights; give weights, not specs"
        )
    start = norms(params, fresh, config)
    for path, norm in zip(tree.paths(start), tree.leaves(start), strict=True):
        zeros = int((norm.asnumpy() == 0).sum())
        if zeros:
            raise ValueError(
                f"lora: {zeros} columns of {path} are zero; DoRA divides by their norms, so train "
                "this weight without use_dora"
            )

    return tree.overlay(lambda norm, pair: {**pair, "magnitude": norm}, start, fresh)


def norms(params: Tree, adapter: Tree, config: Config) -> Tree:
    """Return the norms of the columns of W + scale A B, [out] for each adapted weight.

    What `unmerge` needs for DoRA, whose `merge` forgets them.

    Example:
      >>> from mindspore import Tensor
      >>> pair = {"a": Tensor([[1.0], [0.0]]), "b": Tensor([[0.0]])}
      >>> config = Config(rank=1, alpha=1, targets=("q",))
      >>> norms({"q": Tensor([[3.0], [4.0]])}, {"q": pair}, config)["q"].asnumpy()
      array([5.], dtype=float32)
    """

    def norm(weight: ms.Tensor, pair: Any) -> ms.Tensor:
        return column_norm(weight, pair["a"], pair["b"], config.scale)

    adapted = {path.removesuffix("a").removesuffix("/") for path in tree.paths(adapter)}
    return tree.partition(lambda path, _: path in adapted, tree.overlay(norm, params, adapter))[0]


def apply(params: Tree, adapter: Tree, config: Config, key: random.Key | None = None) -> Tree:
    """Lay the adapter over the parameters: what each adapted weight becomes, `nn.layers` says.

    Args:
      params: the frozen weights.
      adapter: from `init`.
      config: the settings it was made with.
      key: uint32 [2]; with a key what meets A is dropped out, a fresh key for each step. Without a
        key nothing is, as it should be for evaluation.

    Dropout is dear on a CPU: a mask for 1,024 tokens of 576 numbers takes 1.5 times as long as
    their product with a [576, 576] weight, and once more where a layer is computed again. A step
    with q, k, v, o of such layers takes 1.2 times as long with dropout, 1.0 times with DoRA, and
    1.4 times with both, since PEFT's DoRA drops out what meets W too, in a second product. DoRA
    multiplies A and B out in each call to know the norms: `merge` before generating.

    Laws:
      A model computes the same with `apply` as with `merge`. The same key gives the same masks,
      each adapted weight has masks of its own, and their mean over the keys is `apply` without one.

    Example:
      >>> from mindspore import Tensor
      >>> pair = {"a": Tensor([[1.0]]), "b": Tensor([[5.0]])}
      >>> laid = apply({"q": Tensor([[2.0]])}, {"q": pair}, Config(rank=1, alpha=3, targets=("q",)))
      >>> {name: float(part) for name, part in laid["q"].items()}
      {'weight': 2.0, 'a': 1.0, 'b': 5.0, 'scale': 3.0}
    """
    scale, rate, dora = config.scale, config.dropout, config.use_dora

    def lay(weight, pair):  # type: ignore[no-untyped-def]
        a, b = pair["a"], pair["b"]
        if dora:
            m = pair["magnitude"]
            return {"weight": weight, "a": a, "b": b, "scale": scale, "magnitude": m}
        return {"weight": weight, "a": a, "b": b, "scale": scale}

    def lay_dropping(weight, pair):  # type: ignore[no-untyped-def]
        (a, k), b = pair["a"], pair["b"]
        if dora:
            m = pair["magnitude"]
            return {
                "weight": weight, "a": a, "b": b, "scale": scale, "magnitude": m, "key": k,
                "rate": rate,
            }  # fmt: skip
        return {"weight": weight, "a": a, "b": b, "scale": scale, "key": k, "rate": rate}

    if key is None or rate == 0:
        return tree.overlay(lay, params, adapter)
    return tree.overlay(
        lay_dropping, params, tree.overlay(_beside, adapter, fold_paths(key, adapter, "a"))
    )


def _beside(a: Any, key: Any) -> Any:
    return (a, key)


def merge(params: Tree, adapter: Tree, config: Config) -> Tree:
    """Multiply the adapter into the weights: W + scale A B, with DoRA its columns scaled.

    Laws:
      `unmerge(merge(params)) == params` up to rounding.

    Example:
      >>> from mindspore import Tensor
      >>> pair = {"a": Tensor([[1.0]]), "b": Tensor([[5.0]])}
      >>> config = Config(rank=1, alpha=3, targets=("q",))
      >>> float(merge({"q": Tensor([[2.0]])}, {"q": pair}, config)["q"])
      17.0
    """
    scale, dora = config.scale, config.use_dora

    def add(weight, pair):  # type: ignore[no-untyped-def]
        moved = weight + P.MatMul()(pair["a"], pair["b"]) * scale
        if dora:
            norm = column_norm(weight, pair["a"], pair["b"], scale)
            return moved * (pair["magnitude"] / norm).reshape((1, -1))
        return moved

    return tree.overlay(add, params, adapter)


def unmerge(params: Tree, adapter: Tree, config: Config, norms: Tree = None) -> Tree:
    """Take a merged adapter out of the weights: W - scale A B.

    Args:
      params: from `merge`.
      adapter: the one that was merged.
      config: its settings.
      norms: for DoRA `norms(params, adapter, config)` of the parameters before the merge.

    Raises:
      ValueError: DoRA without `norms`.

    Example:
      >>> from mindspore import Tensor
      >>> pair = {"a": Tensor([[1.0]]), "b": Tensor([[5.0]])}
      >>> config = Config(rank=1, alpha=3, targets=("q",))
      >>> float(unmerge({"q": Tensor([[17.0]])}, {"q": pair}, config)["q"])
      2.0
    """
    scale = config.scale
    if config.use_dora:
        if norms is None:
            raise ValueError(
                "lora.unmerge: DoRA scaled each column to its magnitude, and what its norm was is "
                "gone; take norms = lora.norms(params, adapter, config) before the merge"
            )

        def unscale(merged, norm):  # type: ignore[no-untyped-def]
            return merged * norm.reshape((1, -1))

        def divide(merged, pair):  # type: ignore[no-untyped-def]
            return merged / pair["magnitude"].reshape((1, -1))

        params = tree.overlay(divide, tree.overlay(unscale, params, norms), adapter)

    def subtract(weight, pair):  # type: ignore[no-untyped-def]
        return weight - P.MatMul()(pair["a"], pair["b"]) * scale

    return tree.overlay(subtract, params, adapter)
