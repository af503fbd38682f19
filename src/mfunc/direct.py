"""A compiled graph called again, without MindSpore's second look at its arguments.

`ms.jit` finds the graph of a call by making a key of all arguments, about half of what a call
costs. `transform.jit` has found it already, so later calls name the graph (its *phase*) and hand
over the tensors. What this stands on is pinned in `tests/test_direct.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mindspore import Parameter, Tensor
from mindspore.graph import api

Caller = Callable[[Sequence[Tensor]], Any]


def count() -> int:
    """Return how many graphs this process has compiled."""
    return len(api.ms_compile_cache)


def graphs() -> frozenset[str]:
    """Return the phases of all graphs of this process."""
    return frozenset(api.ms_compile_cache)


def caller(before: frozenset[str], inputs: Sequence[Any]) -> Caller | None:
    """Return what calls the one graph that has been compiled since.

    Args:
      before: from `graphs()`, before the graph's first call.
      inputs: of that call.

    Returns:
      A function of the inputs, flat tensors of the same shapes and dtypes; or `None` where
      MindSpore has to look at them: numbers, Parameters, a graph that was there before.
    """
    new = api.ms_compile_cache - before
    if len(new) != 1 or not all(map(_is_plain, inputs)):
        return None
    (phase,) = new
    executor = (api.JitExecutor_ if api._run_jit_pipeline() else api.GraphExecutor_).get_instance()

    def call(inputs: Sequence[Tensor]) -> Any:
        api._pynative_executor.set_jit_compile_phase(phase)
        executor.set_jit_config(api._DEFAULT_JIT_CONFIG)
        return api._convert_python_data(api._pynative_executor.grad_jit(*inputs))

    return call


def _is_plain(x: Any) -> bool:
    return isinstance(x, Tensor) and not isinstance(x, Parameter)


def recording() -> bool:
    """Tell whether an eager gradient is being recorded: then a call is another graph."""
    return bool(api._pynative_executor.requires_grad())
