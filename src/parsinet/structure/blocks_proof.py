"""Every residual branch is taken out of a copy before it is offered: alone with others, together with units, and before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from parsinet.structure.copies import duplicate
from parsinet.structure.groups import UnitGroup
from parsinet.structure.removal import shrink
from parsinet.structure.returned import kept_entries
from parsinet.structure.running import LEAST, Call, close
from parsinet.structure.silencing import silence
from parsinet.structure.traced import Mask, Structure
from parsinet.switches import no_fused_attention

TOLERANCE = 1e-9
COARSE = 1e-3
DIFFERS = "the network without it is not the network in which its addition reads zero"


def prove_blocks(model: nn.Module, structure: Structure, call: Call) -> dict[str, str]:
    """Per removable block that objects, why. Tried all at once and in turns; where that fails in halves, down to the culprits. Of blocks
    that object only together the last one does.

    model: a copy to try on, with the structure and inputs of its present size. Torch's fused pass, which a hook switches off and
    which fills padded positions otherwise, stays off throughout.
    """
    verdicts: dict[str, str] = {}
    names = [group.name for group in structure.blocks if group.removable]
    with no_fused_attention():
        for some in (names, names[::2], names[1::2]):
            _search(model, structure, call, [name for name in some if name not in verdicts], verdicts)
    return verdicts


def judged(group: UnitGroup, verdict: str | None) -> UnitGroup:
    """The group with the verdict on it."""
    return group if verdict is None else replace(group, removable=False, exact=False, reason=verdict)


def _search(
    model: nn.Module, structure: Structure, call: Call, names: Sequence[str], verdicts: dict[str, str], beside: Sequence[str] = ()
) -> None:
    """Judge these blocks, which leave together with those `beside`, known to leave together. What has no verdict afterwards leaves too."""
    verdict = _try(model, structure, call, [*beside, *names]) if names else None
    if verdict is None:
        return
    if len(names) == 1:
        verdicts[names[0]] = _blamed(model, structure, call, names[0], beside, verdict)
        return
    half = len(names) // 2
    _search(model, structure, call, names[:half], verdicts, beside)
    _search(model, structure, call, names[half:], verdicts, [*beside, *(name for name in names[:half] if name not in verdicts)])


def _blamed(model: nn.Module, structure: Structure, call: Call, name: str, beside: Sequence[str], verdict: str) -> str:
    """What is wrong with a block alone, or with which other one it cannot leave."""
    alone = _try(model, structure, call, [name]) if beside else verdict
    if alone is not None:
        return alone
    other = next((known for known in beside if _try(model, structure, call, [known, name]) is not None), "those before it")
    return f"it cannot leave together with {other}: {verdict}"


def _try(model: nn.Module, structure: Structure, call: Call, names: Sequence[str]) -> str | None:
    """None if these blocks can leave: alone, with a third of all units, and before them."""
    blocks: dict[str, Mask] = {name: torch.tensor([False]) for name in names}
    thirds: dict[str, Mask] = {group.name: torch.arange(group.size) % 3 != 1 for group in structure.removable() if group.exact}
    try:
        small, now = _step(model, structure, call, blocks)
        _step(model, structure, call, {**blocks, **thirds})
        left = {name: mask for name, mask in thirds.items() if name in now.layout.groups and now.group(name).removable}
        _step(small, now, call, left)
    except _DiffersError:
        return DIFFERS
    except Exception as error:
        text = str(error).strip()
        return f"the network does not run without it: {text.splitlines()[0] if text else type(error).__name__}"
    return None


class _DiffersError(Exception):
    """The small network is not the silenced one."""


def _step(model: nn.Module, structure: Structure, call: Call, alive: Mapping[str, Mask]) -> tuple[nn.Module, Structure]:
    """The network without these, held against the silenced one."""
    plan = structure.plan(alive)
    with silence(model, plan):
        expected = kept_entries(plan, call.on(model))
    small = duplicate(model)
    shrink(small, plan)
    actual = call.on(small)
    if not close(actual, expected, TOLERANCE if _double(actual) else COARSE, LEAST):
        raise _DiffersError
    return small, structure.after(plan)


def _double(outputs: Sequence[Tensor]) -> bool:
    return all(tensor.dtype == torch.float64 for tensor in outputs if tensor.is_floating_point())
