"""The shape of the project, checked: who may import whom, what has a test, how large things are."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "mfunc"

# A part (a file or a folder of src/mfunc) imports parts of its own line and of the lines above
# it, never of a line below. A new part is added here, in its place, or the test fails.
LAYERS = (
    ("data", "tree", "random", "dynamic", "explain", "purity"),
    (
        "spec",
        "staging",
        "tree_forms",
        "forms",
        "vector",
        "gradient",
        "batching",
        "depth",
        "custom",
        "donation",
        "direct",
        "entry",
        "transform",
        "products",
    ),
    (
        "cross_entropy",
        "loss",
        "optim",
        "schedule",
        "metrics",
        "checkpoint",
        "draw",
        "gguf_file",
        "nn",
        "parallel",
    ),
    ("adapt", "generation", "train"),
    ("auto", "pipeline"),
    ("recipe", "comparison"),
    ("cli",),
    ("__init__",),
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}

# Parts of which neither knows the other although the layers would let it: they meet in user code.
STRANGERS = (
    ("data", "tree"), ("data", "random"), ("data", "spec"), ("data", "transform"),
    ("data", "nn"), ("data", "parallel"), ("nn", "parallel"),
)  # fmt: skip

# MindSpore's compiler, whose traps only these parts know.
KNOW_THE_COMPILER = ("transform", "entry", "depth")
COMPILER = {"jit", "no_inline", "enable_dynamic", "mutable"}

MAX_FILE, MAX_FUNCTION = 350, 40
LONG_FILES: dict[str, str] = {}  # path: why it is one file
LONG_FUNCTIONS: dict[str, str] = {}  # "path:function": why it is one function

# Absolute paths of somebody's machine. (The pattern does not match itself.)
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|home|Users|tmp)/\w")

SOURCES = sorted(PACKAGE.rglob("*.py"))
SIZED = [
    *SOURCES,
    *sorted((ROOT / "examples").rglob("*.py")),
    *sorted((ROOT / "bench").rglob("*.py")),
]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part_of(module: str) -> str:
    """'mfunc.data.packing.pack' -> 'data'; 'mfunc' -> '__init__'."""
    return [*module.split("."), "__init__"][1]


def within(package: str, module: str | None) -> bool:
    return module == package or (module or "").startswith(f"{package}.")


def mfunc_imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every (line, part of mfunc) that a file imports, at its top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names if within("mfunc", a.name)]
            yield from ((node.lineno, part_of(name)) for name in names)
        elif isinstance(node, ast.ImportFrom) and node.module == "mfunc":
            # `from mfunc import tree` is the part; `from mfunc import fit` goes through __init__.
            yield from ((node.lineno, a.name if a.name in RANK else "__init__") for a in node.names)
        elif isinstance(node, ast.ImportFrom) and within("mfunc", node.module):
            yield node.lineno, part_of(node.module)


def wrong_imports(part: str, tree: ast.AST) -> list[str]:
    strangers = {b for a, b in STRANGERS if a == part} | {a for a, b in STRANGERS if b == part}
    return [
        f"line {line}: {part} imports {other}"
        for line, other in mfunc_imports(tree)
        if RANK.get(other, len(LAYERS)) > RANK[part] or other in strangers
    ]


def compiler_uses(tree: ast.AST) -> list[str]:
    """Where a file reaches MindSpore's compiler, as `ms.jit` or as `from mindspore import jit`."""
    nodes = list(ast.walk(tree))
    names = [a for n in nodes if isinstance(n, ast.Import) for a in n.names]
    aliases = {a.asname or "mindspore" for a in names if within("mindspore", a.name)}
    froms = [n for n in nodes if isinstance(n, ast.ImportFrom) and within("mindspore", n.module)]
    attributes = [
        n for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
    ]
    return [
        *(f"line {n.lineno}: {a.name}" for n in froms for a in n.names if a.name in COMPILER),
        *(
            f"line {n.lineno}: {n.value.id}.{n.attr}"
            for n in attributes
            if n.value.id in aliases and n.attr in COMPILER
        ),
    ]


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, the docstring not counted."""
    first = function.body[0]
    docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) else 0
    return function.end_lineno - function.lineno + 1 - docstring


def project_files() -> list[Path]:
    """What git tracks or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout, so which files are tracked is unknown")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_there_are_sources():
    assert SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_go_down_only(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert part in RANK, f"{name_of(path)} is in no layer: add {part!r} to LAYERS in this file"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert wrong_imports(part, tree) == []
    assert part in KNOW_THE_COMPILER or compiler_uses(tree) == []


@pytest.mark.parametrize(
    ("part", "line", "wrong"),
    [
        ("tree", "import mfunc.train", True),
        ("optim", "from mfunc.auto import from_pretrained", True),
        ("nn", "def f():\n  from mfunc import data", True),
        ("nn", "from mfunc.parallel.mesh import Mesh", True),
        ("data", "from mfunc import random", True),
        ("loss", "import mfunc", True),
        ("train", "from mfunc import tree, optim", False),
        ("optim", "import mfunc.schedule", False),
        ("auto", "import mfunc.data as md", False),
        ("data", "from mfunc.data.columns import Ragged", False),
    ],
)
def test_the_import_check_itself(part, line, wrong):
    assert bool(wrong_imports(part, ast.parse(line))) is wrong


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("import mindspore as ms\nf = ms.jit(g)", 1),
        ("from mindspore import jit, Tensor", 1),
        ("import mfunc as mf\nf = mf.jit(g)", 0),
        ("import mindspore as ms\nx = ms.Tensor(1)", 0),
    ],
)
def test_the_compiler_check_itself(code, count):
    assert len(compiler_uses(ast.parse(code))) == count


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name != "__init__.py"], ids=name_of)
def test_every_source_has_its_test(path):
    twin = ROOT / "tests" / path.relative_to(PACKAGE).with_name(f"test_{path.name}")
    assert twin.is_file(), f"{name_of(path)} has no {name_of(twin)}"


@pytest.mark.parametrize("part", ["data", "metrics"])
def test_importing_loads_nothing_heavy(part):
    heavy = {"mindspore", "matplotlib", "pyarrow", "tokenizers", "torch", "backports.zstd"}
    heavy |= {"nltk", "rouge_score", "sacrebleu", "seqeval", "sklearn", "scipy"}
    code = f"import sys, mfunc.{part}; print(sorted({heavy} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize("path", SIZED, ids=name_of)
def test_files_are_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert (lines > MAX_FILE) == (name_of(path) in LONG_FILES), f"{lines} lines"


@pytest.mark.parametrize("path", SIZED, ids=name_of)
def test_functions_are_short(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f"{name_of(path)}:{f.name}" for f in functions if code_lines(f) > MAX_FUNCTION}
    assert long == {name for name in LONG_FUNCTIONS if name.startswith(f"{name_of(path)}:")}


def test_the_lists_of_long_things_are_current():
    listed = {*LONG_FILES, *(name.split(":")[0] for name in LONG_FUNCTIONS)}
    assert listed <= {name_of(path) for path in SIZED}
    assert all([*LONG_FILES.values(), *LONG_FUNCTIONS.values()]), "say why it is long"


def test_no_file_names_a_path_of_somebodys_machine():
    found = []
    for path in project_files():
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{name_of(path)}: {m.group()}" for m in MACHINE_PATH.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "machine"),
    [
        ("open('" + "/home" + "/ann/x')", True),
        ("https://example.org/home/x", False),
        ("../shared/tmp/x", False),
    ],
)
def test_the_path_check_itself(text, machine):
    assert bool(MACHINE_PATH.search(text)) is machine
