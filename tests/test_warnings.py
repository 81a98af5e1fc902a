"""What the package says as a warning can be told from everybody else's."""

import ast
from collections.abc import Iterator
from pathlib import Path

import parsinet


def calls() -> Iterator[tuple[Path, ast.Call]]:
    """Every call of `warnings.warn` in the package."""
    for path in sorted(Path(parsinet.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                yield path, node


def test_every_warning_has_the_package_s_category() -> None:
    """So that one filter finds, silences or raises them all; a target that was missed among them."""
    found = list(calls())
    assert len(found) > 20
    assert not [
        f"{path.name}:{call.lineno}" for path, call in found if len(call.args) < 2 or ast.unparse(call.args[1]) != "ParsinetWarning"
    ]
