"""What users say of their own operators and modules: rules and hints, checked and taken into a tracing. Nothing is registered anywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from torch import nn

from parsinet.errors import ArgumentTypeError, StructureError, UsageError, suggest, told
from parsinet.structure.axes import Axis, labelled
from parsinet.structure.classes import gather
from parsinet.structure.propagate import Rules
from parsinet.structure.tracing import Tracing

Hints = Mapping[str, Mapping[str, str]]
"""Module path → attribute → the group, or the dimension of a tensor ("fc.weight[0]"), whose number it is."""


def checked_rules(rules: Rules) -> Rules:
    """The same rules.

    Errors: ArgumentTypeError for what is no mapping, UsageError for a name that is no operator's or a rule that cannot be called.
    """
    if not isinstance(rules, Mapping):
        raise ArgumentTypeError(f'rules must be a mapping, {{"library::operator": rule}}, got {told(rules)}.')
    for name, rule in rules.items():
        if not isinstance(name, str) or not re.fullmatch(r"\w+::\w+", name):
            raise UsageError(f'rules are named like their operators, "library::operator", got {name!r}.')
        if not callable(rule):
            raise UsageError(f"The rule of {name} must be a function of the tracing and the operator's arguments, got {rule!r}.")
    return rules


def checked_hints(hints: Hints) -> Hints:
    """The same hints; ArgumentTypeError for what is no mapping of modules to mappings of attributes."""
    if not isinstance(hints, Mapping):
        raise ArgumentTypeError(f'hints must be a mapping, {{"module": {{"attribute": "group"}}}}, got {told(hints)}.')
    for path, attributes in hints.items():
        if not isinstance(attributes, Mapping):
            raise ArgumentTypeError(f'hints of {path!r} must be a mapping, {{"attribute": "group"}}, got {told(attributes)}.')
    return hints


def take(tracing: Tracing, axes: Mapping[str, tuple[Axis, ...]], hints: Hints) -> None:
    """Let the hinted attributes count what they are said to; StructureError for one that does not fit the model."""
    if not hints:
        return
    resolved = {(name, d): tracing.labels.resolve(axis) for name, tensor in axes.items() for d, axis in enumerate(tensor)}
    known = {name: labelled(np.array([group.roots])) for name, group in gather(tracing, axes, resolved).items()}
    dimensions = {f"{name}[{d}]": axis for name, tensor in axes.items() for d, axis in enumerate(tensor)}
    for path, attributes in hints.items():
        for attribute, counted in attributes.items():
            axis = known.get(counted) or dimensions.get(counted)
            if axis is None:
                raise StructureError(f"hints: there is no group or tensor dimension {counted!r}.{suggest(counted, [*known, *dimensions])}")
            _check(tracing.model, path, attribute, counted, axis.size)
            tracing.count_of(path, attribute, axis)


def _check(model: nn.Module, path: str, attribute: str, counted: str, size: int) -> None:
    modules = dict(model.named_modules())
    if path not in modules:
        raise StructureError(f"hints: the model has no module {path!r}.{suggest(path, modules)}")
    value = vars(modules[path]).get(attribute)
    if type(value) is not int:
        raise StructureError(f"hints: {attribute!r} of {path or 'the model'} must be a whole number kept on the module, got {value!r}.")
    if value != size:
        raise StructureError(f"hints: {attribute!r} of {path or 'the model'} is {value}, but {counted} has {size} units.")
