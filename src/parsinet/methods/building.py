"""Methods by name: what options one takes, and one made of a table's name and a mapping of options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args

from parsinet.errors import UsageError, suggest
from parsinet.methods.base import Method

Kind = Callable[..., Method]


def options_of(kind: Kind) -> tuple[str, ...]:
    """Names of the options a method takes: its arguments by name, and the keys of what its `**options` unpack."""
    names: list[str] = []
    for name, parameter in inspect.signature(kind, eval_str=True).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            names.extend(key for shared in get_args(parameter.annotation) for key in shared.__annotations__)
        else:
            names.append(name)
    return tuple(names)


def build_from(table: Mapping[str, Kind], name: str, options: Mapping[str, Any]) -> Method:
    """A method from a table of names; UsageError names the nearest method or option if there is none of that name."""
    if name not in table:
        raise UsageError(f"There is no method {name!r}.{suggest(name, table)}")
    known = options_of(table[name])
    for option in options:
        if option not in known:
            raise UsageError(f"Method {name!r} has no option {option!r}.{suggest(option, known)}")
    return table[name](**options)
