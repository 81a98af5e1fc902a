"""Every reason for which the engine keeps a unit, read from its source: the text with an ellipsis where something is put in."""

from __future__ import annotations

import ast
from pathlib import Path

CALLS = ("freeze", "freeze_label", "_unite_or_freeze", "_refuse")
"""Whose last argument is a reason."""
NAMES = ("reason", "single", "DIFFERS", "OTHERS", "UNSTEADY", "why", "cuts")
"""What a reason is assigned to, or passed as."""
FUNCTIONS = ("_against", "_try", "_blamed", "why_fixed")
"""What returns a reason."""


def reasons(source: str) -> set[str]:
    """All reasons in the source of a module."""
    candidates = [value for node in ast.walk(ast.parse(source)) for value in _candidates(node)]
    return {text for value in candidates for text in _texts(value) if " " in text.strip()}


def _texts(value: ast.AST) -> list[str]:
    """The strings of an expression, but not those within calls, which are arguments of something else."""
    if text := template(value):
        return [text]
    inner = [] if isinstance(value, ast.Call | ast.JoinedStr) else ast.iter_child_nodes(value)
    return [text for node in inner for text in _texts(node)]


def template(node: ast.AST) -> str:
    """The text of a string, `…` for what an f-string puts in; empty for everything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _candidates(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        told = [keyword.value for keyword in node.keywords if keyword.arg in NAMES]
        if name in CALLS and node.args:
            return [*told, node.args[-1]]
        owner = getattr(getattr(node.func, "value", None), "attr", "")
        return [*told, *(node.args if name in ("append", "extend") and owner == "inexact" else [])]
    if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id in (*NAMES, "folded") for t in node.targets):
        return [node.value]
    if isinstance(node, ast.FunctionDef) and node.name in FUNCTIONS:
        return [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Return) and inner.value is not None]
    return []


def of_engine(structure: Path) -> dict[str, str]:
    """Reason → file, over the whole engine."""
    files = sorted(structure.rglob("*.py"))
    return {reason: path.name for path in files for reason in reasons(path.read_text(encoding="utf-8"))}
