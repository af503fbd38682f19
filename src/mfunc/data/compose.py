"""What a transform is, and how transforms are composed, counted and sent to other processes.

A transform is a function `columns -> columns` with its settings bound. It is written as a builder
that checks its settings and returns the function:

    @transform
    def take(n: int) -> Apply:
        integer("take", "n", n, least=0)
        return lambda columns: take_rows(columns, slice(n))

`take(n=3)` is then a `Transform`: frozen, hashable, equal to every other `take(n=3)`, printed as
`take(n=3)`, and picklable, as it remembers the builder and its settings. A builder's function may
return `(columns, counts)` where it keeps, cuts or drops something: see `counted`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec

import attrs
import numpy as np
from toolz import compose, merge_with, pipe
from toolz.functoolz import Compose

from mfunc.data.check import nearest
from mfunc.data.columns import Columns, num_rows

__all__ = ["Apply", "Counts", "Transform", "carry", "compose", "counted", "pipe", "transform"]

Counts = dict[str, int]
Apply = Callable[[Columns], Any]
P = ParamSpec("P")


@attrs.frozen(eq=False, repr=False)
class Transform:
    """A built transform: call it on columns. Made by builders such as `pack(seq_length=8)`."""

    builder: Callable[..., Transform]
    settings: Mapping[str, Any]
    apply: Apply

    def __call__(self, columns: Columns) -> Any:
        """The columns changed; those given are left as they are."""
        return self.with_counts(columns)[0]

    def with_counts(self, columns: Columns) -> tuple[Any, Counts]:
        """The result and what was counted, `{"pack.rows": 3230, ...}`; see `counted`."""
        out = self.apply(columns)
        result, counts = out if isinstance(out, tuple) else (out, {})
        return result, {f"{self.builder.__name__}.{name}": int(n) for name, n in counts.items()}

    def _key(self) -> tuple[Any, ...]:
        return (self.builder, tuple((name, _hashable(v)) for name, v in self.settings.items()))

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Transform) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.builder, dict(self.settings))

    def __repr__(self) -> str:
        parameters = inspect.signature(self.builder).parameters
        shown = [
            f"{name}={value!r}"
            for name, value in self.settings.items()
            if parameters[name].default is inspect.Parameter.empty
            or _hashable(value) != _hashable(parameters[name].default)
        ]
        return f"{self.builder.__name__}({', '.join(shown)})"


def transform(build: Callable[P, Apply]) -> Callable[P, Transform]:
    """Turn a builder of functions of columns into a builder of `Transform`s.

    Args:
      build: checks its settings and returns a function of columns. It must be a module's own
        function, so that another process finds it.

    Returns:
      The builder. It refuses a missing or unknown setting by name, at once.

    Laws:
      equal settings: equal transforms, equal hashes; pickling keeps the transform.

    Example:
      >>> from mfunc.data import pack
      >>> pack(seq_length=8)
      pack(seq_length=8)
      >>> pack(seq_lenght=8)
      Traceback (most recent call last):
      TypeError: pack: unknown setting 'seq_lenght'; did you mean 'seq_length'?
    """
    signature = inspect.signature(build)

    @functools.wraps(build)
    def builder(*args: P.args, **kwargs: P.kwargs) -> Transform:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(_misuse(build.__name__, signature, kwargs, error)) from None
        bound.apply_defaults()
        settings = {name: _snapshot(value) for name, value in bound.arguments.items()}
        return Transform(builder, settings, build(**settings))  # type: ignore[call-arg]

    return builder


def counted(function: Callable[[Columns], Any], columns: Columns) -> tuple[Any, Counts]:
    """Apply a transform, or a composition of them, and also return what it counted.

    Nothing in this layer logs, and no column carries bookkeeping. Whoever wants to know what was
    kept, cut or dropped asks here, and gets plain integers that add over chunks:
    `merge_with(sum, counts_of_chunks)`. A ratio such as the fill is made from them at the end:
    `counts["pack.tokens"] / counts["pack.slots"]`.

    Args:
      function: a `Transform`, a `compose(...)` of them, or any function of columns (uncounted).
      columns: its input.

    Returns:
      (`function(columns)`, counts), a count being named `transform.what`. Where one transform
      stands twice in a composition its counts are summed.

    Laws:
      `counted(f, x)[0] == f(x)`.

    Example:
      >>> from mfunc.data import Ragged, truncate
      >>> samples = {"input_ids": Ragged.from_rows([[1, 2, 3], [4]])}
      >>> short, counts = counted(truncate(2, policy="drop"), samples)
      >>> counts["truncate.samples"], counts["truncate.dropped"], counts["truncate.tokens_lost"]
      (2, 1, 3)
    """
    steps = (function.first, *function.funcs) if isinstance(function, Compose) else (function,)
    totals: Counts = {}
    for step in steps:
        if isinstance(step, (Transform, Compose)):
            columns, counts = (
                step.with_counts(columns) if isinstance(step, Transform) else counted(step, columns)
            )
            totals = merge_with(sum, totals, counts)
        else:
            columns = step(columns)
    return columns, totals


def counted_chunks(columns: Any) -> Iterator[tuple[Columns, Counts]]:
    """Columns, or an iterable of them or of what `counted` gives, as (chunk, counts) one by one."""
    for chunk in [columns] if isinstance(columns, Mapping) else columns:
        yield chunk if isinstance(chunk, tuple) else (chunk, {})


@transform
def carry(names: Sequence[str], function: Callable[[Columns], Any]) -> Apply:
    """Take columns past a function that makes other columns of the same rows.

    Args:
      names: the columns, such as `["label"]`.
      function: a transform or a composition, such as `tokenize(tokenizer)`, that keeps the rows.

    Returns:
      A transform to the function's columns and those named. It counts what the function
      counts, as `carry.tokenize.samples`.

    Raises:
      ValueError: if there is no column of a name, the function makes one of that name itself, or
        does not keep the number of rows.

    Example:
      >>> rows = {"text": ["a", "b"], "label": [1, 0]}
      >>> upper = lambda columns: {"text": [text.upper() for text in columns["text"]]}
      >>> carry(["label"], upper)(rows)
      {'text': ['A', 'B'], 'label': [1, 0]}
    """
    if isinstance(names, str) or not callable(function):
        raise TypeError(
            f"carry: needs a list of names and a function, got {names!r} and {function!r}"
        )

    def apply(columns: Columns) -> tuple[Columns, Counts]:
        missing = [name for name in names if name not in columns]
        if missing:
            raise ValueError(
                f"carry: no column {missing[0]!r}{nearest(missing[0], columns)}; "
                f"columns are {', '.join(columns)}"
            )
        out, counts = counted(function, columns)
        if clash := sorted(out.keys() & {*names}):
            raise ValueError(f"carry: {function!r} makes column {clash[0]!r} itself")
        out = {**out, **{name: columns[name] for name in names}}
        num_rows("carry", out)
        return out, counts

    return apply


def _rebuild(builder: Callable[..., Transform], settings: dict[str, Any]) -> Transform:
    """Build again, in the process that unpickles."""
    return builder(**settings)


def _misuse(
    name: str, signature: inspect.Signature, given: Mapping[str, Any], error: TypeError
) -> str:
    """Which setting is unknown or missing."""
    for setting in given:
        if setting not in signature.parameters:
            hint = nearest(setting, signature.parameters) or f"; settings: {signature}"
            return f"{name}: unknown setting {setting!r}{hint}"
    return f"{name}: {error}; settings: {str(signature).split(' ->')[0]}"


def _snapshot(value: Any) -> Any:
    """A private copy of a setting that its giver could still change."""
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, list):
        return tuple(value)
    return value.copy() if isinstance(value, np.ndarray) else value


def _hashable(value: Any) -> Any:
    """A setting as something that can be compared and hashed."""
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, dict):
        return tuple(sorted((name, _hashable(v)) for name, v in value.items()))
    if isinstance(value, tuple):
        return tuple(_hashable(v) for v in value)
    return value
