"""Running what a page shows: its Python blocks in one namespace, its commands up to the point where work would begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command
from typer.testing import CliRunner

from docs.blocks import blocks, commands
from docs.setups import SETUPS
from parsinet import training
from parsinet.cli import commands as cli_commands
from parsinet.cli.app import app
from parsinet.errors import UsageError
from parsinet.training.assembly import build_method


def run_page(text: str, name: str, first: Sequence[str] = ("digits",)) -> dict[str, Any]:
    """Run the Python blocks of a page in order, in one namespace that begins with the setups `first`; returns the namespace.

    Blocks marked as fragments are compiled only. Whatever a block raises is raised, with the page and the line in the traceback.
    """
    names: dict[str, Any] = {"__name__": "__page__"}
    torch.manual_seed(0)
    for setup in first:
        SETUPS[setup](names)
    for block in blocks(text):
        if block.language == "python":
            code = compile("\n" * block.line + block.code, name, "exec")
            if not block.fragment:
                for setup in block.after:
                    SETUPS[setup](names)
                exec(code, names)
    return names


def run_commands(text: str, folder: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """Parse every command of a page as the command line does; `train` and `inspect` also make their recipe. Returns what was refused."""
    patch.setattr(cli_commands, "train", _would_train)
    patch.setattr(cli_commands, "inspect", _would_inspect)
    recipe = training.recipe_from({})
    for name in ("recipe.yaml", "runs/first/recipe.yaml", "sweeps/first/knee.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        training.save_recipe(recipe, folder / name)
    return [f"line {line}: parsinet {' '.join(words)}\n{why}" for line, words in commands(text) if (why := refusal(words))]


def refusal(words: Sequence[str]) -> str:
    """Why the command line would not begin to work on these words; empty if it would."""
    if words[0] in ("train", "inspect"):
        result = CliRunner().invoke(app, list(words))
        return "" if result.exit_code == 0 else result.output or repr(result.exception)
    group: Any = get_command(app)
    try:
        name, command, rest = group.resolve_command(group.make_context("parsinet", list(words)), list(words))
        command.make_context(name, rest)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _would_train(
    out: Any, recipe: Any, options: Mapping[str, Any], settings: Sequence[str], overwrite: bool, resume: Any, auto: bool
) -> None:
    if resume is None:
        build_method(cli_commands.resolved(recipe, options, settings))
    elif settings or any(value is not None for value in options.values()):
        raise UsageError("--resume takes no settings")


def _would_inspect(model: Any, data: Any, shape: Any, classes: int, settings: Sequence[str], json: bool, png: Any) -> None:
    cli_commands.resolved(None, {"model.name": model, "data.source": data}, settings)
