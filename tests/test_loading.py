"""What is loaded when: neither the package nor a command brings in a heavy package before it is used."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "parsinet"
OPTIONAL = {"accelerate", "lightning", "mlflow", "onnx", "onnxruntime", "onnxscript", "optuna", "PIL", "pyarrow", "tensorboard"}
OPTIONAL |= {"geotorch", "torch_pruning", "torchao", "trackio", "transformers", "wandb"}
"""Packages that parsinet works without. None is loaded before someone asks for what needs it."""
RARE = {"matplotlib", "pandas", "scipy", "sklearn"}
"""Those that plots and small data sets need."""
LIBRARY = {"numpy", "pydantic", "torch", "yaml"}
TERMINAL = {"rich", "typer"}

EVERYTHING = "import parsinet\nfor name in parsinet.__all__: getattr(parsinet, name)\nimport parsinet.cli.commands"
COMMAND = """
from parsinet.cli import main
try:
    main()
except SystemExit as left:
    assert not left.code
"""
LOADED = "\nprint()\nprint(*sorted({name.partition('.')[0] for name in sys.modules}))"

CASES = {
    "parsinet": ("import parsinet", LIBRARY | TERMINAL),
    "parsinet.report": ("import parsinet.report", LIBRARY - {"numpy"}),
    "parsinet --help": (COMMAND, LIBRARY - {"pydantic"}),
    "parsinet train --help": (COMMAND, LIBRARY - {"pydantic"}),
    "parsinet watch run": (COMMAND, {"torch", "yaml"}),
}
"""What is done, and what it loads none of, beside the optional and the rare packages (typer itself uses pydantic)."""


def loaded(code: str, arguments: list[str], folder: Path) -> set[str]:
    """Packages that a process has loaded once it has run the code; with warnings as errors, and silent besides."""
    whole = f"import sys\nsys.argv = {arguments!r}\n{code}{LOADED}"
    done = subprocess.run([sys.executable, "-W", "error", "-c", whole], capture_output=True, text=True, cwd=folder, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.splitlines()[-1].split())


def at_once(source: str) -> set[str]:
    """Packages that a module imports as soon as it is imported itself."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


def put_run(folder: Path) -> None:
    """A run of one epoch, over."""
    sizes = {"parameters": 20, "nonzeros": 20, "macs": 20, "bytes": 80}
    start = {"format": 1, "recipe": {"method": {"name": "gates"}, "model": {"name": "mlp"}}, "parameters": 30, "macs": 30, "bytes": 120}
    start |= {"groups": [{"name": "fc1", "size": 3, "removable": True, "exact": True, "reason": ""}], "seed": 0}
    epoch = {"epoch": 1, "step": 9, "seconds": 1.0, "train_loss": 0.4, "train_error": 0.1, "validation_error": 0.1, **sizes}
    end = {
        "status": "complete",
        "steps": 9,
        "epochs": 1,
        "seconds": 1.0,
        "test_loss": 0.3,
        "test_error": 0.1,
        "before": sizes,
        "after": sizes,
    }
    events = [{"event": "start", **start}, {"event": "epoch", **epoch}, {"event": "end", **end}]
    folder.mkdir()
    (folder / "record.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


@pytest.mark.parametrize("case", CASES)
def test_nothing_heavy_is_loaded_before_it_is_used(case: str, tmp_path: Path) -> None:
    code, besides = CASES[case]
    put_run(tmp_path / "run")
    assert loaded(code, case.split(), tmp_path) & (OPTIONAL | RARE | besides) == set()


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_rare_packages_are_imported_where_they_are_used(path: Path) -> None:
    assert at_once(path.read_text(encoding="utf-8")) & RARE == set()


@pytest.mark.parametrize("line", ["import matplotlib", "from matplotlib.figure import Figure", "import scipy.stats as st"])
def test_the_check_of_modules_objects(line: str) -> None:
    assert at_once(f"import sys\n{line}\n") & RARE
    assert at_once(f"if TYPE_CHECKING:\n    {line}\n\ndef f() -> None:\n    {line}\n") == set()


def test_the_check_sees_what_is_loaded(tmp_path: Path) -> None:
    assert loaded("import parsinet\nimport matplotlib", [], tmp_path) & (OPTIONAL | RARE) >= {"matplotlib"}


def test_the_benchmarks_are_there_without_an_import_of_their_own(tmp_path: Path) -> None:
    assert "parsinet" in loaded("import parsinet\nassert parsinet.bench.names()", [], tmp_path)


@pytest.mark.slow
def test_every_public_name_loads_no_optional_package(tmp_path: Path) -> None:
    assert loaded(EVERYTHING, [], tmp_path) & (OPTIONAL | RARE) == set()


@pytest.mark.slow
def test_training_loads_no_plots(tmp_path: Path) -> None:
    run = ["parsinet", "train", "--data", "digits", "--model", "mlp", "--set", "model.widths=[8]", "--epochs", "1", "--out", "run"]
    assert loaded(COMMAND, run, tmp_path) & (OPTIONAL | {"matplotlib"}) == set()
