"""A dry run on a copy proves each group's removal before it is offered: the shrunk network runs and equals the silenced one."""

from __future__ import annotations

import re
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from parsinet.errors import StructureError
from parsinet.structure.blocks_proof import judged, prove_blocks
from parsinet.structure.calling import ExampleInputs
from parsinet.structure.copies import duplicate
from parsinet.structure.core import Core, core_of
from parsinet.structure.groups import UnitGroup
from parsinet.structure.in_training import training_shapes
from parsinet.structure.origins import first_line
from parsinet.structure.plan import Plan
from parsinet.structure.removal import shrink
from parsinet.structure.returned import kept_entries, kept_shapes
from parsinet.structure.running import LEAST, Call, close, widened
from parsinet.structure.silencing import silence
from parsinet.structure.telling import telling
from parsinet.structure.traced import Structure
from parsinet.switches import no_fused_attention

LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
"""Frames in torch and in this package are not the user's."""

Mask = NDArray[np.bool_]

DIFFERS = "removal changes more than silence does: a size enters the computation"
"""Of groups whose trial found a difference that no rule had announced."""

OTHERS = {
    "Python": "forward draws other random numbers of Python's without some of the units: removal cannot be compared with silence",
    "NumPy": "forward draws other random numbers of NumPy's without some of the units: removal cannot be compared with silence",
}
UNSTEADY = "two passes differ (a random generator of its own, a state that forward keeps): removal cannot be compared with silence"
INEXACT = (DIFFERS, *OTHERS.values(), UNSTEADY)
"""Verdicts with which a group may leave all the same."""

COINS = 8
"""Passes with other draws in which removals are tried, where a coin of Python's or NumPy's may decide what runs."""

TOLERANCE = 1e-9
"""Largest difference, relative to the outputs' size: float64 rounding of a deep network stays orders below."""
COARSE = 1e-3
"""The same where a network insists on a lower precision."""


def prove(
    model: nn.Module, structure: Structure, example_inputs: ExampleInputs, training: Call | None = None, *, coins: bool = False
) -> Structure:
    """Try every removable group and block on a float64 copy of `model`: what fails is frozen, what runs but differs becomes inexact.

    model: its faint weights are drawn anew first (`telling`), in memory of their own.
    training: what the model is called with in training mode, in which it has to run without the groups too; None if it is not tried.
    coins: whether it draws from Python or NumPy; removals are then tried in passes with other draws too, and at full size.
    All groups are tried at once; only if that fails are they tried in halves, down to the culprits. Of large groups most units
    are left out beforehand (`core_of`), which is itself held to account at full size.
    """
    with no_fused_attention():
        call = telling(model, Call.of(example_inputs))
    names = [group.name for group in structure.removable()]
    verdicts: dict[str, str] = {}
    core = Core(duplicate(model), structure) if coins else core_of(model, structure, call, training)
    subject = _subject(core, call, training)
    elsewhere = list(_elsewhere(subject)) if coins else []
    with no_fused_attention():  # it fills padded positions otherwise, and what has lost heads cannot take it
        _search(subject, names, verdicts)
        _search_anew(subject, [name for name in names if name in structure.layout.cuts and name not in verdicts], verdicts)
        for other in elsewhere:
            _search_elsewhere(other, verdicts)
    units = _with(structure, verdicts)
    if not any(block.removable for block in structure.blocks):
        return units
    judging = _with(subject.structure, verdicts)
    calls = [tried.call for tried in (subject, *elsewhere)]
    against, found = _against(subject.model, judging, calls), units.layout.blocks
    if against:
        found, judging = found.without_identities(), Structure(replace(judging.layout, blocks=judging.layout.blocks.without_identities()))
        against = _against(subject.model, judging, calls)
    blocks = {name: judged(group, against.get(name)) for name, group in structure.layout.block_groups.items()}
    return Structure(replace(units.layout, blocks=found, block_groups=blocks))


def _against(model: nn.Module, structure: Structure, calls: Sequence[Call]) -> dict[str, str]:
    """Per block that objects, why; the first call on which it does tells."""
    return {name: reason for call in reversed(calls) for name, reason in prove_blocks(model, structure, call).items()}


def _with(structure: Structure, verdicts: Mapping[str, str]) -> Structure:
    cuts = structure.layout.cuts
    groups = {name: _judged(group, verdicts.get(name), cuts.get(name, "")) for name, group in structure.layout.groups.items()}
    return Structure(replace(structure.layout, groups=groups))


@dataclass(frozen=True)
class _Subject:
    """What is tried on: a network, its structure, a call, and the shapes the call returns; the same in training mode, where it is tried."""

    model: nn.Module
    structure: Structure
    call: Call
    shapes: list[torch.Size]
    training: Call | None
    trained: list[torch.Size]


def _search(subject: _Subject, names: Sequence[str], verdicts: dict[str, str], beside: Sequence[str] = ()) -> None:
    """Judge these groups, whose units leave together with those of the groups `beside`, which are known to leave together.

    What has no verdict afterwards leaves with them, all at once: a group that objects only to another of them is found too.
    """
    if not names:
        return
    verdicts_now = (_try(subject, [*beside, *names], uneven) for uneven in (False, True))
    verdict = next((found for found in verdicts_now if found is not None), None)
    if verdict is None:
        return
    if len(names) == 1:
        verdicts[names[0]] = verdict
        return
    half = len(names) // 2
    _search(subject, names[:half], verdicts, beside)
    _search(subject, names[half:], verdicts, [*beside, *(name for name in names[:half] if name not in verdicts)])


def _search_anew(subject: _Subject, names: Sequence[str], verdicts: dict[str, str]) -> None:
    """Judge groups that slices cut under other signs of the parameters too: a ReLU that is shut hides that units changed places."""
    for flipped in _flipped(subject) if names else ():
        _search(flipped, [name for name in names if name not in verdicts], verdicts)


def _search_elsewhere(subject: _Subject, verdicts: dict[str, str]) -> None:
    """Judge all groups that may still leave in a pass with other draws, which may run other parts of the network."""
    judging = _with(subject.structure, verdicts)
    found: dict[str, str] = {}
    _search(replace(subject, structure=judging), [group.name for group in judging.removable()], found)
    for name, why in found.items():
        reason = f"where forward draws other random numbers of Python's or NumPy's, {why}"
        verdicts[name] = why if why in INEXACT else reason


def _elsewhere(subject: _Subject) -> Iterator[_Subject]:
    """The same network in passes that draw other numbers from Python and NumPy. Left out where it does not run."""
    calls = subject.call.elsewhere(COINS)
    trainings = [None] * COINS if subject.training is None else subject.training.elsewhere(COINS)
    for call, training in zip(calls, trainings, strict=True):
        try:
            found = _subject_of(subject.model, subject.structure, call, training)
        except Exception:
            continue
        yield found


def _flipped(subject: _Subject) -> Iterator[_Subject]:
    """The same network with parameters of other signs: all turned, a random half, the other half. Left out where it does not run."""
    draw = torch.Generator().manual_seed(0)
    random = [1.0 - 2.0 * torch.randint(2, tensor.shape, generator=draw) for tensor in subject.model.parameters()]
    for signs in ([-torch.ones_like(sign) for sign in random], random, [-sign for sign in random]):
        model = duplicate(subject.model)
        with torch.no_grad():
            for tensor, sign in zip(model.parameters(), signs, strict=True):
                tensor.mul_(sign.to(tensor))
        if _finite(model, subject.call):
            yield replace(subject, model=model)


def _finite(model: nn.Module, call: Call) -> bool:
    try:
        return all(bool(tensor.isfinite().all()) for tensor in call.on(model))
    except Exception:
        return False


def _try(subject: _Subject, names: Sequence[str], uneven: bool) -> str | None:
    """None if removing units of these groups runs and (where exact is claimed) equals silence; else why not."""
    structure = subject.structure
    masks = _uneven(structure) if uneven else {name: _third(structure.group(name).size) for name in names}
    exact = [name for name in names if structure.group(name).exact]
    try:
        plan = structure.plan({name: masks[name] for name in names})
        smaller = _without(subject, plan)
        actual = subject.call.on(smaller)
        if [tensor.shape for tensor in actual] != kept_shapes(plan, subject.shapes):
            return "the network's output changes its shape without some of its units"
        if uneven and subject.training is not None and not (_trains(subject, plan) and _trains(subject, _pairs(subject, names))):
            return "in training mode the network's output changes its shape without some of its units"
        if len(exact) < len(names):
            return _try(subject, exact, uneven) if exact else None
        with silence(subject.model, plan):
            expected = kept_entries(plan, subject.call.on(subject.model))
    except Exception as error:
        return f"the network does not run without some of its units: {_place(error)}{_message(error)}"
    precise = all(tensor.dtype == torch.float64 for tensor in actual if tensor.is_floating_point())
    tolerance = TOLERANCE if precise else COARSE
    return None if close(actual, expected, tolerance, LEAST) else _why_it_differs(subject, smaller, tolerance)


def _why_it_differs(subject: _Subject, smaller: nn.Module, tolerance: float) -> str:
    """One of `INEXACT`: draws that are others in the smaller network, or in every pass, and else a size."""
    call, model = subject.call, subject.model
    for whose in call.drawn(model).moved(call.drawn(smaller)):
        return OTHERS[whose]
    return DIFFERS if close(call.on(model), call.on(model), tolerance, LEAST) else UNSTEADY


def _without(subject: _Subject, plan: Plan) -> nn.Module:
    smaller = duplicate(subject.model)
    shrink(smaller, plan)
    return smaller


def _pairs(subject: _Subject, names: Sequence[str]) -> Plan:
    """Uneven losses that leave no unit alone: a size of 1 fits any other (`target.lerp_(online, 0.1)`)."""
    masks = _uneven(subject.structure, least=2)
    return subject.structure.plan({name: masks[name] for name in names})


def _trains(subject: _Subject, plan: Plan) -> bool:
    """Whether the network without the plan's units returns in training mode what the whole one does, as far as shapes tell."""
    assert subject.training is not None
    return training_shapes(_without(subject, plan), subject.training) == kept_shapes(plan, subject.trained)


def _third(size: int) -> Mask:
    """Every third unit leaves, from the second on: irregular enough to catch a wrong index, and never all."""
    mask = np.ones(size, dtype=bool)
    mask[1::3] = False
    return mask


def _uneven(structure: Structure, least: int = 1) -> dict[str, Mask]:
    """As many different losses as sizes allow, from one unit to all but `least`, each spread over the group and with its first unit.

    Groups that only fit each other while they lose equally many (halves cut by `x[:, : n // 2]`) are found out.
    """
    masks, used = {}, Counter[int]()
    groups = sorted(structure.removable(), key=lambda group: group.size)
    for rank, group in enumerate(groups):
        most = max(1, group.size - least)
        losses = range(most, 0, -1) if rank % 2 else range(1, most + 1)
        loss = min(losses[: len(groups)], key=used.__getitem__)
        used[loss] += 1
        masks[group.name] = np.ones(group.size, dtype=bool)
        masks[group.name][np.arange(loss) * group.size // loss] = False
    return masks


def _judged(group: UnitGroup, verdict: str | None, cut: str) -> UnitGroup:
    """The group after its trial. cut: what is said of a slice that cuts it by position; there units would take each other's places."""
    if verdict is None:
        return group
    if verdict in INEXACT and cut:
        return replace(group, removable=False, reason=cut)
    if verdict in INEXACT:
        return replace(group, exact=False, reason=verdict)
    return replace(group, removable=False, reason=verdict)


def _subject(core: Core, call: Call, training: Call | None) -> _Subject:
    """The core in float64, or as it is where the network insists on its own precision."""
    double = widened(duplicate(core.model, share=True))
    try:
        return _subject_of(double, core.structure, call.double(), None if training is None else training.double())
    except Exception:
        return _subject_of(core.model, core.structure, call, training)


def _subject_of(model: nn.Module, structure: Structure, call: Call, training: Call | None) -> _Subject:
    trained = [] if training is None else training_shapes(model, training)
    try:
        shapes = [tensor.shape for tensor in call.on(model)]
    except RuntimeError as error:
        raise StructureError(
            f"The model does not run on the example inputs: {first_line(error)}. Check that model(example_inputs) runs."
        ) from error
    return _Subject(model, structure, call, shapes, training, trained)


def _place(error: Exception) -> str:
    """The line of the user's code that failed, as `source` at file:line, what to write instead of a division there, and a colon."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(LIBRARIES)]
    if not frames:
        return ""
    quotient = re.search(r"(int\()?[\w.]+ //? [\w.]+(?(1)\))", frames[-1].line or "")
    advice = f" (keep `{quotient[0]}` as an attribute of its own, which then follows, or write -1)" if quotient else ""
    return f"`{frames[-1].line}` at {Path(frames[-1].filename).name}:{frames[-1].lineno} needs its present size{advice}, "


def _message(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
