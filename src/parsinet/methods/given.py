"""What a run was begun with: the length of the run and the options of its method, so that a state that meets others is told apart."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any, Self

from parsinet.errors import ParsinetWarning, few
from parsinet.methods.base import Method

PLAIN = (bool, int, float, str, type(None))
UNSAID = "not given"
LATER = frozenset({"examples"})
"""What older saved runs do not tell."""
FORGOTTEN = frozenset({"self", "options", "seed"})
"""Arguments that are no options, and a seed: the state of what it drew is saved."""


class Remembering:
    """Remembers what its constructor was given, defaults among it, as text; what is neither number nor word, nor made of these, is left
    out."""

    _given: Mapping[str, str]

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Copies are made without arguments and get what the original remembers; wrong arguments are the constructor's to refuse."""
        made = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(made, *args, **options)
        except TypeError:
            made._given = {}
            return made
        bound.apply_defaults()
        found = {**bound.arguments, **bound.arguments.get("options", {})}
        made._given = {name: repr(value) for name, value in found.items() if name not in FORGOTTEN and _plain(value)}
        return made


def given(method: Method, **others: object) -> dict[str, str]:
    """Names → values as text: the options of a method that remembers them, and `others` that are not None."""
    return {**getattr(method, "_given", {}), **{name: repr(value) for name, value in others.items() if value is not None}}


def tell_changes(saved: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Warn where a saved run had other values: it goes on with those that are here. Nothing saved tells nothing."""
    if changed := changes(saved, here):
        warnings.warn(
            f"Pruner: the saved run had other settings: {changed}. It goes on with those that are here, not as it would have gone; for "
            "an exact resume build method and Pruner as they were.",
            ParsinetWarning,
            stacklevel=3,
        )


def changes(saved: Mapping[str, str], here: Mapping[str, str]) -> str:
    """What differs, in words, the first of it one by one; "" for nothing, and where nothing was saved."""
    names = sorted({*saved, *here} - (LATER - saved.keys())) if saved else ()
    changed = [(name, saved.get(name, UNSAID), here.get(name, UNSAID)) for name in names if saved.get(name) != here.get(name)]
    return few([f"{name} was {was}, here it is {now}" for name, was, now in changed], "; ")


def _plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(_plain(entry) for pair in value.items() for entry in pair)
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return isinstance(value, PLAIN)
