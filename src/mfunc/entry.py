"""Entries: the graph of flat tensors behind a jitted function, and a call of it.

Only flat tensors go in and come out: a dict in the result of a graph can make the gradients in it
wrong, and a dict among its arguments would be a constant.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import mindspore as ms
from mindspore import Tensor
from mindspore.ops import operations as P

from mfunc import direct, donation, staging, tree, tree_forms
from mfunc.donation import Home, Resident
from mfunc.dynamic import Dim
from mfunc.explain import explain
from mfunc.staging import SLOT, Seen, Stage, listed

Function = Callable[..., Any]


class Donation(NamedTuple):
    """Which leaves of the arguments are donated, in leaf order, which not, and where they live."""

    places: tuple[int, ...]
    others: tuple[int, ...]
    argnums: tuple[int, ...]
    home: Home


class Graph(NamedTuple):
    """A compiled function of flat tensors.

    Attributes:
      call: the graph itself.
      structures: its compilation adds the structure of the result.
      destinations: its compilation adds, for each leaf of the result, the place of the home that it
        is written to, or `None`.
      donation: of the arguments, or `None`.
      later: the first call adds what later ones call in its place, or `None`.
    """

    call: Function
    structures: list[tree.Structure]
    destinations: list[list[int | None]]
    donation: Donation | None
    later: list[direct.Caller | None]


def donation_of(
    structure: tree.Structure,
    kinds: Sequence[Any],
    argnums: Sequence[int],
    leaves: Sequence[Any],
    inputs: Sequence[Any],
    homes: dict[Any, Home],
    name: str,
) -> Donation | None:
    """Return what a call donates; its home is one of `homes`, or a new one that joins them.

    Raises:
      ValueError: a donated leaf has a dynamic size, or stands at another place, too.
    """
    places, start = [], 0
    arguments = structure[2][0][2]
    for i, argument in enumerate(arguments):
        stop = start + tree.count(argument)
        if i in argnums or i - len(arguments) in argnums:
            places += [j for j in range(start, stop) if isinstance(kinds[j], tuple)]
        start = stop
    if not places:
        return None
    others = tuple(sorted(set(range(len(leaves))) - set(places)))
    for j in places:
        if _is_dynamic(kinds[j]):
            path = tree.structure_paths(structure)[j].partition("/")[2]
            raise ValueError(f"jit: {path} is donated and has a dynamic size; it can be one only")
    chosen = tuple(sorted({i % len(arguments) for i in argnums if i < len(arguments)}))
    key = tuple([arguments[i] for i in chosen]), tuple([kinds[j] for j in places])
    if key not in homes:
        _check_apart(places, others, leaves, name)
        homes[key] = donation.settle([leaves[j] for j in places], [inputs[j] for j in places])
    return Donation(tuple(places), others, chosen, homes[key])


def build(
    fn: Function,
    structure: tree.Structure,
    fixed: tuple[Any, ...],
    kinds: list[Any],
    donated: Donation | None,
    home: str | None,
    name: str,
) -> Graph:
    """Make the graph: build the trees, call `fn`, take its result apart.

    Args:
      fn: a function of trees.
      structure: of (args, kwargs) without the static values.
      fixed: the static values, ((where, value), ...).
      kinds: (shape, dtype) of each leaf, with a `Dim` for a size that may change; or a number type.
      donated: the leaves that are no arguments of the graph.
      home: the keyword argument that gets their memory.
      name: of the function.
    """
    patterns = tree.unflatten(structure, [SLOT] * tree.count(structure))
    args, kwargs = patterns
    names, trees, constants = staging.rebuild([*args, *kwargs.values()])
    arguments = trees[: len(args)]
    keywords = dict(zip(kwargs, trees[len(args) :], strict=True))
    for i, (where, value) in enumerate(fixed):
        constants[f"static{i}"] = value
        if isinstance(where, int):
            arguments[where] = f"static{i}"
        else:
            keywords[where] = f"static{i}"
    graph = Graph(_none, [], [], donated, [])
    lines: list[str] = []
    if donated is not None:
        lines, memory = _at_home(names, donated, args, constants)
        names, kinds = ([each[j] for j in donated.others] for each in (names, kinds))
        keywords |= {home: memory} if home else {}
    passed = [*arguments, *[f"{key}={text}" for key, text in keywords.items()]]
    text = "\n".join([
        f"def entry({listed(names)}):", *lines,
        f"    out = fn({listed(passed)})",
        f"    return leaves_of(out)(out{', home' if donated else ''})",
    ])  # fmt: skip
    stage = _result_stage(graph, structure, name)
    entry = ms.jit(staging.write("entry", text, fn=fn, leaves_of=stage, **constants))
    flexible = _flexible(names, kinds)
    if not flexible:
        return graph._replace(call=entry)
    graph.later.append(None)  # MindSpore has to look at the sizes
    return graph._replace(call=ms.enable_dynamic(**flexible)(entry))


def _none(*_: Any) -> Any:
    raise AssertionError("the graph is not built")


def _at_home(
    names: list[str], donated: Donation, args: Sequence[Any], constants: dict[str, Any]
) -> tuple[list[str], str]:
    """Return the lines that read the home, and the text of it.

    What is read goes through `Identity`: then a kernel that overwrites the home before the last use
    of the old numbers makes MindSpore keep a copy of them, and else there is none.
    """
    memory = {}
    lines = []
    for i, place in enumerate(donated.places):
        constants[f"home{i}"] = donated.home.parameters[i]
        memory[names[place]] = f"home{i}"
        lines.append(f"    {names[place]} = identity(home{i})")
    lines.append(f"    home = ({listed([*memory.values(), ''])})")
    constants["identity"] = P.Identity()
    start = [tree.count(tree.flatten(arg)[1]) for arg in args]
    texts = []
    for i in donated.argnums:
        mine = iter(names[sum(start[:i]) : sum(start[: i + 1])])
        texts.append(staging.build(args[i], functools.partial(_next_of, mine, memory)))
    whole = texts[0] if len(texts) == 1 else f"({listed(texts)})"
    return lines, whole


def _next_of(names: Iterator[str], texts: dict[str, str], _: Any) -> str:
    return texts[next(names)]


def _flexible(names: list[str], kinds: list[Any]) -> dict[str, Tensor]:
    """Return what `enable_dynamic` wants to know."""
    return {
        name: Tensor(shape=[None if isinstance(n, Dim) else n for n in kind[0]], dtype=kind[1])
        for name, kind in zip(names, kinds, strict=True)
        if _is_dynamic(kind)
    }


def _is_dynamic(kind: Any) -> bool:
    return isinstance(kind, tuple) and any(isinstance(n, Dim) for n in kind[0])


def _result_stage(graph: Graph, structure: tree.Structure, name: str) -> Stage:
    """Return the stage that takes the result apart, and remembers what it was."""
    donated = graph.donation
    first: list[Seen] = []

    def write_leaves(seen: list[Seen]) -> Function:
        result = seen[0]
        first.append(result)
        graph.structures.append(tree.flatten(result.pattern)[1])
        # After a kernel that writes in place, or Python's own functions, the compiler asks again,
        # with tuples for dicts.
        again = graph.structures[0] != graph.structures[-1]
        result = first[0] if again else result
        if donated is None:
            return _leaves_of(result, again)
        reached = staging.opened(result.pattern, "out", as_tuples=again)
        paths = tree.structure_paths(structure)
        own = [paths[j] for j in donated.places]
        graph.destinations.append(donation.places(donated.home, result, own, name))
        return donation.write_finish(donated.home, result, reached, graph.destinations[-1])

    return Stage(write_leaves)


def _leaves_of(result: Seen, as_tuples: bool) -> Function:
    """Return what takes the result of a graph apart."""
    if result.pattern is SLOT:
        return staging.unchanged
    return tree_forms.write_leaves([result], as_tuples=as_tuples)


def run(
    graph: Graph, leaves: Sequence[Any], inputs: Sequence[Any], name: str, compiled: list[int]
) -> Any:
    """Call a graph and put its result together; what goes wrong is said in the user's words.

    Args:
      graph: from `build`.
      leaves: the arguments as the user gave them.
      inputs: the same, as they may cross the border.
      name: of the function.
      compiled: one number, to which the compilations that this call takes are added.
    """
    donated = graph.donation
    if donated is None:
        found = _call(graph, inputs, name, compiled)
        found = [found] if graph.structures[0] is tree.LEAF else found
        return tree.unflatten(graph.structures[0], _apart(found, inputs))
    others = [inputs[j] for j in donated.others]
    given = [leaves[j] for j in donated.places]
    _check_apart(donated.places, donated.others, leaves, name)
    try:
        donation.move_in(donated.home, given, [inputs[j] for j in donated.places])
        found = _call(graph, others, name, compiled)
        # Wait here: touching a tensor while the graph runs would wait in a loop, on a core that
        # the graph could use.
        found[-1].asnumpy()
        rest = iter(_apart(found, others))
    except Exception:
        donation.revive(donated.home, given)
        raise
    holders = donation.hand_out(donated.home, given)
    result = [next(rest) if place is None else holders[place] for place in graph.destinations[0]]
    return tree.unflatten(graph.structures[0], result)


def _check_apart(
    places: Sequence[int], others: Sequence[int], leaves: Sequence[Any], name: str
) -> None:
    """Refuse a tensor that is donated and stands at another place, too."""
    ids = {id(leaves[j]) for j in places}
    if len(ids) < len(places) or any(id(leaves[j]) in ids for j in others):
        raise ValueError(
            f"jit({name}): one tensor stands at two places of the arguments and is donated at one; "
            "the call would overwrite what it reads. Pass a copy at the other"
        )


def _apart(found: Sequence[Any], inputs: Sequence[Any]) -> Sequence[Any]:
    """Return results of their own memory: an argument that is passed through shares its own."""
    shared = {x._data_ptr() for x in inputs if type(x) is Resident}
    if not shared:
        return found
    return [
        donation.copied(x) if isinstance(x, Tensor) and x._data_ptr() in shared else x
        for x in found
    ]


def _call(graph: Graph, inputs: Sequence[Any], name: str, compiled: list[int]) -> Any:
    recording = direct.recording()
    first = not graph.later and not recording
    try:
        if graph.later and graph.later[0] and not recording:
            return graph.later[0](inputs)
        count, before = direct.count(), direct.graphs() if first else frozenset()
        found = graph.call(*inputs)
    except Exception as error:
        raise explain(error, name) from error
    compiled[0] += direct.count() - count
    if first:
        graph.later.append(direct.caller(before, inputs))
    return found
