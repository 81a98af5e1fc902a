"""Imports point one way, every module says what it is, and importing parsinet changes nothing of the process."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "parsinet"
MODULES = sorted(SOURCE.rglob("*.py"))
LEVELS = (
    ("draws", "errors", "files", "lettering", "switches"),
    ("spectral", "sphere", "gates", "topology", "structure", "measure", "data", "distributed"),
    ("methods", "models"),
    ("baselines",),
    ("training",),
    ("export",),
    ("report", "integrations"),
    ("tuning", "bench"),
    ("cli",),
    ("__main__",),
)
"""Who may import whom: a package imports itself and what stands on an earlier level."""
LEVEL = {package: number for number, packages in enumerate(LEVELS) for package in packages}
NARROWER = {
    "files": {"errors"},
    "errors": set(),
    "switches": set(),
    "lettering": set(),
    "draws": set(),
    "report": {"errors", "files", "measure"},
    "topology": {"errors"},
    "distributed": {"errors"},
}
"""Packages that may import less than their level allows. Reports are made from records alone."""


def allowed(package: str) -> set[str]:
    """What a package may import besides itself. Packages of one level do not import each other."""
    if package in NARROWER:
        return NARROWER[package]
    return {other for other, level in LEVEL.items() if level < LEVEL[package]}


def imported(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[str]:
    """Every parsinet package a module imports, wherever in its code: relative imports are resolved, strings of importlib are read."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "parsinet" else [base]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("import_module", "__import__"):
            names = [argument.value for argument in node.args if isinstance(argument, ast.Constant) and isinstance(argument.value, str)]
        yield from (name.split(".")[1] for name in names if name.startswith("parsinet."))


def offences(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What is wrong with a module's imports, in words."""
    package = module.split(".")[1]
    if package not in LEVEL:
        return [f"{module}: the package {package!r} stands on no level of the import order; add it to DESIGN.md and to LEVELS"]
    found = set(imported(ast.parse(source), module, is_package=is_package)) - {package, "__version__"}
    return [f"{module} imports {other}" for other in sorted(found - allowed(package))]


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent != SOURCE or path.stem != "__init__"], ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8"), name_of(path), is_package=path.stem == "__init__") == []


@pytest.mark.parametrize(
    ("module", "source", "words"),
    [
        ("parsinet.gates.gate", "from parsinet.methods import Gates", "gates.gate imports methods"),
        ("parsinet.structure.plan", "from parsinet.gates import gate", "imports gates"),
        ("parsinet.structure.plan", "def f():\n    import parsinet.training.loop", "imports training"),
        ("parsinet.report.table", "from parsinet.training import Recipe", "imports training"),
        ("parsinet.report.table", "from parsinet import errors, methods", "imports methods"),
        ("parsinet.report.table", "import importlib\nimportlib.import_module('parsinet.models')", "imports models"),
        ("parsinet.methods.gates", "from ..training.loop import fit", "imports training"),
        ("parsinet.methods.gates", "from .. import cli", "imports cli"),
        ("parsinet.methods", "from ..cli import main", "imports cli"),
        ("parsinet.training.run", "from parsinet.report import write", "imports report"),
        ("parsinet.report.sweeps", "from parsinet.tuning import tune", "imports tuning"),
        ("parsinet.training.run", "from parsinet.export import onnx", "imports export"),
        ("parsinet.errors", "from parsinet.files import write_text", "imports files"),
        ("parsinet.topology.masks", "from parsinet.structure import Plan", "imports structure"),
        ("parsinet.methods.masking", "from parsinet.baselines import GMP", "imports baselines"),
        ("parsinet.novelty", "import torch", "stands on no level"),
    ],
)
def test_the_check_objects(module: str, source: str, words: str) -> None:
    found = offences(source, module, is_package=module == "parsinet.methods")
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("parsinet.methods.gates", "from parsinet import gates\nfrom parsinet.structure import trace\nfrom .base import Method"),
        ("parsinet.spectral.basis", "from parsinet.errors import UsageError"),
        ("parsinet.baselines.magnitude", "from parsinet.methods import Method\nfrom parsinet.topology import Masks"),
        ("parsinet.integrations.lightning", "from parsinet.training import fit"),
        ("parsinet.tuning.sweep", "from parsinet import report, training"),
        ("parsinet.cli.app", "from parsinet import report, training, tuning"),
    ],
)
def test_the_check_lets_the_right_way_pass(module: str, source: str) -> None:
    assert offences(source, module) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_in_its_first_line_what_it_is(path: Path) -> None:
    first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    assert len(first) > 10
    assert first[-1] in ".!?:…", f"the first line is no sentence: {first!r}"


def listed(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def surface_faults(source: str) -> list[str]:
    """What is wrong with a package's list of public names: it is there, sorted, and lists what the package imports from itself."""
    tree = ast.parse(source)
    names = listed(tree)
    if names is None:
        return ["there is no __all__"]
    inner = [node for node in tree.body if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("parsinet.")]
    offered = {alias.asname or alias.name for node in inner for alias in node.names}
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")}
    faults = [] if names == sorted(names, key=_order) else [f"__all__ is not sorted: {names}"]
    return faults + [f"{name} is public and not in __all__" for name in sorted(defined - set(names))] + _unknown(names, offered, tree)


def _order(name: str) -> tuple[int, str]:
    """Constants, classes, functions, as ruff sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def _unknown(names: list[str], offered: set[str], tree: ast.Module) -> list[str]:
    bound = offered | {name.id for node in ast.walk(tree) for name in ast.walk(node) if isinstance(name, ast.Name)}
    bound |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    bound |= {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    return [f"{name} is in __all__ and not in the package" for name in names if name not in bound]


PACKAGES = [path for path in MODULES if path.stem == "__init__" and len(path.relative_to(SOURCE).parts) <= 2]
"""The public ones: parsinet itself and the packages right below it."""


@pytest.mark.parametrize("path", PACKAGES, ids=name_of)
def test_public_names_are_listed(path: Path) -> None:
    assert surface_faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def f(): ...", "there is no __all__"),
        ("from parsinet.gates.gate import gate, QSink\n__all__ = ['gate', 'QSink']", "not sorted"),
        ("__all__ = ['f']\ndef f(): ...\ndef g(): ...", "g is public and not in __all__"),
        ("__all__ = ['f']", "f is in __all__ and not in the package"),
    ],
)
def test_the_check_of_public_names_objects(source: str, words: str) -> None:
    assert any(words in fault for fault in surface_faults(source))


UNTOUCHED = """
import locale, os, random, signal, sys, warnings
import numpy, torch
def state():
    return (torch.get_rng_state().tolist(), random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_num_threads(),
            torch.get_default_dtype(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(), list(warnings.filters),
            dict(os.environ), os.getcwd(), locale.setlocale(locale.LC_ALL), signal.getsignal(signal.SIGINT))
import sklearn, scipy, matplotlib, matplotlib.pyplot, pydantic, rich.console, typer, yaml, torch.export
before = state()
import parsinet
for name in parsinet.__all__:
    getattr(parsinet, name)
import parsinet.cli
PLANT
changed = [i for i, (a, b) in enumerate(zip(before, state(), strict=True)) if a != b]
sys.exit(f"import changed {changed}" if changed else 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "words"),
    [("", ""), ("torch.manual_seed(0)", "import changed [0]"), ("warnings.simplefilter('ignore')", "import changed [7]")],
    ids=["parsinet", "planted seed", "planted filter"],
)
def test_importing_changes_no_global_state(plant: str, words: str) -> None:
    code = UNTOUCHED.replace("PLANT", plant)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "agg"})
    assert words in done.stderr
    assert (done.returncode == 0) == (not plant), done.stderr
