"""A command whose option `--html` takes the name of a file or nothing."""

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

OPTION = "--html"


def spelled(words: Sequence[str]) -> list[str]:
    """The words with what `--html` takes joined to it: the next word if it names a page (.html, .htm), else nothing, so that
    `report --html runs/first` still names a run."""
    found: list[str] = []
    for word in words:
        if found and found[-1] == OPTION:
            found[-1] = f"{OPTION}={word if _names_page(word) else ''}"
            if _names_page(word):
                continue
        found.append(word)
    return [*found[:-1], f"{OPTION}="] if found and found[-1] == OPTION else found


def _names_page(word: str) -> bool:
    return word.lower().endswith((".html", ".htm"))


class OptionalFile(TyperCommand):
    """Reads `--html` with and without a file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Spell the option out, then parse."""
        return super().parse_args(ctx, spelled(args))
