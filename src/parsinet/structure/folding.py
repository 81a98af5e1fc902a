"""What leaving units still emit, moved into the biases of their readers: planned on a copy, before anything changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from parsinet.errors import StructureError, UsageError
from parsinet.structure.attention import open_attention
from parsinet.structure.behind import NOWHERE, norm_behind
from parsinet.structure.copies import copy_for_tracing, duplicate
from parsinet.structure.linearity import added, reads_as_guessed
from parsinet.structure.plan import Fold, Plan
from parsinet.structure.reading import Seen, border, gains, observed, places, replaced, response
from parsinet.structure.removal import check_fit, check_plan, selections_of, shrink, tensors_of
from parsinet.structure.returned import kept_entries
from parsinet.structure.running import Batches, Call, batches_of, close, in_double, rounding, run
from parsinet.switches import no_fused_attention

Kind = Literal["constant", "mean"]


@dataclass
class _Draft:
    """Changes found so far and what stands against them: `inexact` can be accepted, `impossible` cannot."""

    changes: dict[str, Tensor] = field(default_factory=dict)
    inexact: list[str] = field(default_factory=list)
    impossible: list[str] = field(default_factory=list)


def fold_units(model: nn.Module, plan: Plan, kind: Kind, example_inputs: Batches, *, approximate: bool = False) -> Fold:
    """What to add to the readers' biases when the plan's units leave. The model is not touched.

    A reader with weight W and bias b gets b + Σ_i W[:, i] c_i, summed over the taps of a kernel, i over the inputs that leave.

    kind "constant": c is what the units emit once their incoming weights are zero (activation at its bias, norm bias), in evaluation
    mode. Exact: the network folded and shrunk is the network with those weights zeroed, and that is tried on `example_inputs` (one
    batch) before the fold is returned. kind "mean": c is the mean of what they emit over examples and positions of `example_inputs`:
    a batch (Tensor, tuple of arguments or dict), or a list or any other iterable of batches.

    A convolution without bias is made up for in the running mean of the batch norm directly behind it, if there is one.
    approximate: accept what is not exact: zero padding, which a constant does not reach, units that are read where no module's
    input can be seen, inputs that are not constant (their mean is taken), groups that are not exact.

    Raises StructureError with one line per reader that cannot be made up for, UsageError for other kinds or batches.
    """
    if kind not in ("constant", "mean"):
        raise UsageError(f"fold must be 'constant' or 'mean', got {kind!r}.")
    check_plan("fold", plan)
    check_fit(plan, {**tensors_of(model), **selections_of(model, plan)})
    if plan.empty:
        return Fold({})
    with no_fused_attention():
        return _planned(open_attention(copy_for_tracing(model)), plan, kind, example_inputs, approximate)


def _planned(copied: nn.Module, plan: Plan, kind: Kind, example_inputs: Batches, approximate: bool) -> Fold:
    batches = batches_of(example_inputs) if kind == "mean" else iter([example_inputs])
    twin, calls = in_double(copied, batches)
    emptied = _emptied(twin, plan) if kind == "constant" else twin
    seen = places(emptied, plan)
    with observed(emptied, seen):
        last = run(emptied, calls)
    seen = [entry for entry in seen if entry.slices is None or (entry.count and reads_as_guessed(emptied, entry))]
    draft = _Draft()
    for entry in seen:
        _consider(emptied, entry, kind, last, draft)
    _check_shared(emptied, seen, draft)
    if not (approximate or draft.inexact or draft.impossible):
        with replaced(emptied, seen if kind == "mean" else []):
            expected = last.on(emptied)
        _prove(twin, expected, plan, draft, last)
    _refuse(draft, kind, approximate)
    return Fold(draft.changes)


def _consider(model: nn.Module, entry: Seen, kind: Kind, call: Call, draft: _Draft) -> None:
    """Add one reader's change to the draft, or what stands against it."""
    name = entry.reading.module
    module = model.get_submodule(name)
    if not entry.count:
        draft.inexact.append(f"{name}: it reads the units, but did not run on these inputs")
        return
    if kind == "constant" and not entry.constant(rounding(entry.mean)):
        draft.inexact.append(f"{name}: what it reads of the units is not constant (fold='mean' takes averages)")
    if not isinstance(module, nn.Linear | _ConvNd):
        _consider_unknown(module, entry, draft, model)
        return
    if not gains(module, entry.reading, entry.mean):
        return
    if why := border(module, entry.reading, entry.mean):
        draft.inexact.append(f"{name}: it {why}")
    change = response(module, entry.reading, entry.mean).detach()
    target = f"{name}.bias" if isinstance(module._parameters.get("bias"), Tensor) else norm_behind(model, name, change, call)
    if target is None:
        draft.impossible.append(f"{name}: it has no bias to fold into; build it with bias=True, or with a batch norm directly behind it")
    elif target != NOWHERE:
        _add(model, target, change if target == f"{name}.bias" else -change, draft)


def _consider_unknown(module: nn.Module, entry: Seen, draft: _Draft, model: nn.Module) -> None:
    """The same for a module that no table knows: what it makes of its input is tried."""
    found = added(module, entry)
    name = entry.reading.module
    if found is None:
        draft.inexact.append(f"{name}: what it makes of the units is not added to a bias of its own, as far as a run shows")
    elif bool(found[1].any()):
        _add(model, f"{name}.{found[0]}" if name else found[0], found[1], draft)


def _add(model: nn.Module, target: str, change: Tensor, draft: _Draft) -> None:
    """Note a change; a tensor that two readers share must change alike for both, and keeps its first name."""
    tensors = tensors_of(model)
    first = next(name for name, tensor in tensors.items() if tensor is tensors[target])
    known = draft.changes.get(first)
    if known is not None and not torch.allclose(known, change, rtol=rounding(change), atol=rounding(change)):
        draft.impossible.append(f"{target}: its readers share it but need different changes; give each a bias of its own")
    draft.changes[first] = change


def _check_shared(model: nn.Module, seen: Sequence[Seen], draft: _Draft) -> None:
    """A bias that changes must belong to readers only."""
    tensors, readers = tensors_of(model), {model.get_submodule(entry.reading.module) for entry in seen}
    for changed in list(draft.changes):
        if changed.endswith("running_mean"):
            continue
        for name, module in model.named_modules():
            if module not in readers and any(tensor is tensors[changed] for tensor in module._parameters.values()):
                draft.impossible.append(f"{changed}: {name or 'the model'} uses it too and would change; give the reader a bias of its own")


def _prove(twin: nn.Module, expected: list[Tensor], plan: Plan, draft: _Draft, call: Call) -> None:
    """Hold the folded and shrunk copy against what the whole one gives with the units' incoming weights zeroed, or with their means."""
    smaller = duplicate(twin)
    shrink(smaller, plan, fold=Fold(draft.changes))
    if close(call.on(smaller), kept_entries(plan, expected)):
        return
    different = "the folded network does not compute what it computes with the units' incoming weights zeroed, or with their means"
    draft.inexact.extend(_elsewhere(plan) or [different])


def _refuse(draft: _Draft, kind: Kind, approximate: bool) -> None:
    problems = [*draft.impossible, *([] if approximate else draft.inexact)]
    if not problems:
        return
    advice = "" if draft.impossible else "\nPass approximate=True to accept this, or keep these units."
    raise StructureError("\n  ".join([f"fold={kind!r} cannot make up exactly for what the units emit:", *problems]) + advice)


def _elsewhere(plan: Plan) -> list[str]:
    """Groups that matter to more than the readers seen."""
    where = "read where no module's input can be seen (products of attention, recurrent layers, raw parameters)"
    more = "without them more changes than what they emit (UnitGroup.reason says why)"
    return [f"{', '.join(names)}: {reason}" for names, reason in ((plan.unseen, where), (plan.inexact, more)) if names]


def _emptied(model: nn.Module, plan: Plan) -> nn.Module:
    """A copy in which the leaving units' incoming weights are zero."""
    emptied = duplicate(model)
    tensors = tensors_of(emptied)
    with torch.no_grad():
        for (name, dim), indices in plan.incoming.items():
            tensors[name].index_fill_(dim, torch.tensor(indices, device=tensors[name].device), 0)
    return emptied
