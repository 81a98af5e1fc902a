"""Functions that hold the network they belong to (`self.mid = lambda x: self.b(self.a(x))`): those of a copy must hold the copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial, update_wrapper
from types import CellType, FunctionType, MethodType
from typing import Any

HOLDERS = frozenset({FunctionType, MethodType, partial, tuple})
"""What copy.deepcopy hands on with everything in it, or with the functions in it; containers and objects are copied one by one."""


def rebind(copies: Mapping[int, Any]) -> None:
    """Let the functions that copied objects keep hold copies where they hold what was copied; copy.deepcopy leaves functions alone.

    copies: what took whose place, by identity: the memo of copy.deepcopy.
    """
    binding = _Binding(copies)
    for copied in [entry for key, entry in copies.items() if key != id(copies)]:  # there deepcopy keeps the originals alive
        table: Any = copied if isinstance(copied, list | dict) else getattr(copied, "__dict__", None)
        if not table:
            continue
        entries = enumerate(table) if isinstance(table, list) else table.items()
        for key, value in [(key, value) for key, value in entries if type(value) in HOLDERS]:
            if (new := binding.of(value)) is not value:
                table[key] = new


class _Binding:
    """What takes the place of a value, for functions and what may stand in their closures."""

    def __init__(self, copies: Mapping[int, Any]) -> None:
        self._copies = copies
        self._made: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        """Its copy; the value itself where it holds nothing that was copied."""
        if id(value) in self._copies or not self._holds(value, set()):
            return self._copies.get(id(value), value)
        if id(value) in self._made:
            return self._made[id(value)]
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            return MethodType(self.of(value.__func__), self.of(value.__self__))
        if isinstance(value, partial):
            return partial(self.of(value.func), *self._all(value.args), **self._each(value.keywords))
        return self._each(value) if isinstance(value, dict) else type(value)(self._all(value))

    def _holds(self, value: Any, seen: set[int]) -> bool:
        """Whether something that was copied is the value or stands in it."""
        if id(value) in self._copies:
            return True
        if id(value) in seen:
            return False
        seen.add(id(value))
        return any(self._holds(part, seen) for part in _parts(value))

    def _function(self, function: FunctionType) -> FunctionType:
        cells = [self._made.setdefault(id(cell), CellType()) if self._holds(cell, set()) else cell for cell in function.__closure__ or ()]
        new = FunctionType(function.__code__, function.__globals__, function.__name__, None, tuple(cells))
        self._made[id(function)] = new
        for cell, old in zip(cells, function.__closure__ or (), strict=True):
            if cell is not old:
                cell.cell_contents = self.of(old.cell_contents)
        new.__defaults__ = None if function.__defaults__ is None else tuple(self._all(function.__defaults__))
        new.__kwdefaults__ = None if function.__kwdefaults__ is None else self._each(function.__kwdefaults__)
        update_wrapper(new, function, updated=())
        vars(new).clear()
        vars(new).update(self._each(vars(function)))
        return new

    def _all(self, values: Iterable[Any]) -> list[Any]:
        return [self.of(value) for value in values]

    def _each(self, values: Mapping[Any, Any]) -> dict[Any, Any]:
        return {key: self.of(value) for key, value in values.items()}


def _parts(value: Any) -> Iterable[Any]:
    """What stands in a function, a cell of its closure, a bound method or a plain container."""
    if isinstance(value, FunctionType):
        return (*(value.__closure__ or ()), *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *vars(value).values())
    if isinstance(value, CellType):
        return () if value == CellType() else (value.cell_contents,)
    if isinstance(value, MethodType):
        return value.__func__, value.__self__
    if isinstance(value, partial):
        return value.func, *value.args, *value.keywords.values()
    if type(value) is dict:
        return value.values()
    return value if type(value) in (list, tuple) else ()
