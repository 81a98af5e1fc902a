"""A dry run on a copy proves each group's removal before it is offered: the shrunk network runs and equals the silenced one."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from parsinet.structure.export import ExampleInputs, as_call
from parsinet.structure.groups import UnitGroup
from parsinet.structure.plan import Structure
from parsinet.structure.removal import shrink
from parsinet.structure.silencing import silence

LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
"""Frames in torch and in this package are not the user's."""

TOLERANCE = 1e-9
"""Largest difference, relative to the outputs' size: float64 rounding of a deep network stays orders below."""


def prove(model: nn.Module, structure: Structure, example_inputs: ExampleInputs) -> Structure:
    """Try every removable group on a float64 copy of `model`: what fails is frozen, what runs but differs becomes inexact.

    All groups are tried at once; only if that fails are they tried in halves, down to the culprits.
    """
    double, inputs = _in_double(model, example_inputs)
    names = [group.name for group in structure.removable()]
    verdicts: dict[str, str] = {}
    _search(double, structure, inputs, names, verdicts)
    groups = {name: _judged(group, verdicts.get(name)) for name, group in structure.layout.groups.items()}
    return Structure(replace(structure.layout, groups=groups))


def _search(model: nn.Module, structure: Structure, inputs: Any, names: Sequence[str], verdicts: dict[str, str]) -> None:
    if not names:
        return
    verdicts_now = (_try(model, structure, inputs, names, uneven) for uneven in (False, True))
    verdict = next((found for found in verdicts_now if found is not None), None)
    if verdict is None:
        return
    if len(names) == 1:
        verdicts[names[0]] = verdict
        return
    half = len(names) // 2
    _search(model, structure, inputs, names[:half], verdicts)
    _search(model, structure, inputs, names[half:], verdicts)


def _try(model: nn.Module, structure: Structure, inputs: Any, names: Sequence[str], uneven: bool) -> str | None:
    """None if removing units of these groups runs and (where exact is claimed) equals silence; else why not."""
    order = list(structure.layout.groups)
    args, kwargs = inputs
    try:
        plan = structure.plan({name: _mask(structure.group(name), order.index(name) if uneven else None) for name in names})
        with silence(model, plan), torch.no_grad():
            expected = _tensors(model(*args, **kwargs))
        smaller = copy.deepcopy(model)
        shrink(smaller, plan)
        with torch.no_grad():
            actual = _tensors(smaller(*args, **kwargs))
    except Exception as error:
        return f"the network does not run without some of its units: {_place(error)}{_message(error)}"
    if [tensor.shape for tensor in actual] != [tensor.shape for tensor in expected]:
        return "the network's output changes its shape without some of its units"
    if not all(structure.group(name).exact for name in names):
        return None if len(names) == 1 else _try_exact(model, structure, inputs, names, uneven)
    return None if _equal(actual, expected) else "inexact"


def _try_exact(model: nn.Module, structure: Structure, inputs: Any, names: Sequence[str], uneven: bool) -> str | None:
    exact = [name for name in names if structure.group(name).exact]
    return _try(model, structure, inputs, exact, uneven) if exact else None


def _mask(group: UnitGroup, number: int | None) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Every third unit leaves, from the second on: irregular enough to catch a wrong index, and never all.

    With a number: by turns the first unit, every second and all but the last, so that groups that only fit each other
    while they lose equally many (halves cut by `x[:, : n // 2]`) are found out.
    """
    mask = np.ones(group.size, dtype=bool)
    shares = (slice(0, 1), slice(0, group.size - 1, 2), slice(0, group.size - 1))
    mask[slice(1, None, 3) if number is None else shares[number % 3]] = False
    return mask


def _judged(group: UnitGroup, verdict: str | None) -> UnitGroup:
    if verdict is None:
        return group
    if verdict == "inexact":
        return replace(group, exact=False, reason="removal changes more than silence does: a size enters the computation")
    return replace(group, removable=False, reason=verdict)


def _in_double(model: nn.Module, example_inputs: ExampleInputs) -> tuple[nn.Module, Any]:
    """The model and inputs in float64, or as they are where the model insists on its own precision."""
    args, kwargs = as_call(example_inputs)
    double = copy.deepcopy(model).double()
    inputs = tree_map(lambda leaf: leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, (args, kwargs))
    try:
        with torch.no_grad():
            double(*inputs[0], **inputs[1])
    except Exception:
        return model, (args, kwargs)
    return double, inputs


def _tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(dict(output) if hasattr(output, "to_tuple") else output) if isinstance(leaf, Tensor)]


def _equal(actual: list[Tensor], expected: list[Tensor]) -> bool:
    for a, b in zip(actual, expected, strict=True):
        tolerance = TOLERANCE if a.dtype == torch.float64 else 1e-3
        scale = float(b.abs().max()) if b.numel() and b.is_floating_point() else 0.0
        if not torch.allclose(a, b, rtol=0, atol=tolerance * max(1.0, scale), equal_nan=True):
            return False
    return True


def _place(error: Exception) -> str:
    """The line of the user's code that failed, as `source` at file:line, and a colon."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(LIBRARIES)]
    return f"`{frames[-1].line}` at {Path(frames[-1].filename).name}:{frames[-1].lineno} needs its present size, " if frames else ""


def _message(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
