"""Errors of the compiler in the words of who wrote the function."""

from __future__ import annotations

import linecache
import re
import tempfile
from pathlib import Path

import mindspore

# What MindSpore says -> what to do about it.
ADVICE = {
    r"Unsupported statement 'Try'": "a compiled function cannot hold `try`; check before it runs",
    r"Unsupported statement": "write it with assignments, `if`, `for` and `while`",
    r"is not defined, or not supported in graph mode": (
        "names of a compiled function come from its arguments, its module or the function around it"
    ),
    r"supports 1 'comprehension'": "write one loop in a comprehension",
    r"parameters number of the function": (
        "a function that is differentiated or mapped closes over values of the compiled function "
        "and calls a `block`; pass them as arguments"
    ),
    r"Cannot join the return values": (
        "both branches of an `if` on tensors must return the same containers, shapes and dtypes"
    ),
    r"not allowed more than 6 levels": (
        "a dict stands in more than six containers; make the tree shallower"
    ),
    r"infer for primitive:mfunc_": (
        "part of the result is made by Python or NumPy (`np.sin(x)`, `x.asnumpy()`, a NamedTuple), "
        "which a graph does not hold; use mindspore.ops, methods of Tensors, dicts and tuples"
    ),
    r"issubclass\(\) arg 1": "a compiled function cannot hold `with`",
    r"AbstractNone": "MindSpore cannot map the gradient of a `remat` layer; use `block` there",
    r"func graph is empty": (
        "a `remat` or `custom_vjp` layer calls a function that has an `if` and default arguments "
        "(as ops.softmax, ops.relu and ops.gelu do); use the primitive (ops.operations.ReLU()), "
        "or `block` in place of `remat`"
    ),
    r"source code": "the compiler reads source: define the function in a file",
}
NOISE = ("More details please refer", "For more details", "FunctionGraph ID", "NodeInfo", "    ")
FOREIGN = (
    str(Path(__file__).parent),
    str(Path(mindspore.__file__).parent),
    str(Path(tempfile.gettempdir()) / "mfunc-"),  # the sources that `staging` writes
)


def explain(error: Exception, name: str) -> Exception:
    r"""Return an error of the same type that says what was wrong, where, and what to do.

    Args:
      error: what MindSpore raised.
      name: of the compiled function.

    Example:
      >>> text = "Unsupported statement 'Try'.\n\n-----\nC++ Call Stack"
      >>> print(explain(RuntimeError(text), "step"))
      Unsupported statement 'Try'.
        while compiling step
        a compiled function cannot hold `try`; check before it runs
    """
    text = str(error)
    head = re.split(r"\n+-{5,}|\n+At:\n", text, maxsplit=1)[0].strip()
    if head[:1] in "'\"" and head[-1:] == head[:1]:
        head = head[1:-1]  # of a `raise` in a compiled function
    said = [line for line in head.splitlines() if line.strip() and not line.startswith(NOISE)]
    advice = next((what for found, what in ADVICE.items() if re.search(found, text)), None)
    lines = [*said, f"  while compiling {name}{_place(text)}"]
    if advice:
        lines.append(f"  {advice}")
    kind = type(error) if type(error).__module__ == "builtins" else RuntimeError
    return kind("\n".join(lines))


def _place(text: str) -> str:
    """Return the innermost line of the user's own code that the compiler names."""
    found = re.findall(r"In file (\S+?):(\d+)", text)
    own = [(path, int(line)) for path, line in found if not path.startswith(FOREIGN)]
    if not own:
        return ""
    path, line = own[-1]
    return f", {path}:{line}: {linecache.getline(path, line).strip()}"
