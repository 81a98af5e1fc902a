"""The public way to shrink a network: plan the fold, if one is asked for, then remove the units."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from parsinet.errors import UsageError
from parsinet.structure import removal
from parsinet.structure.folding import Kind, fold_units
from parsinet.structure.plan import Fold, Plan
from parsinet.structure.running import Batches


def shrink(
    model: nn.Module,
    plan: Plan,
    *,
    optimizers: Iterable[torch.optim.Optimizer] = (),
    fold: Kind | Fold | None = None,
    example_inputs: Batches | None = None,
    approximate: bool = False,
) -> None:
    """Remove the units and blocks `plan` lets go, in place, from the model and from every optimizer that trains it.

    A block's modules turn into parameterless ones that answer with zeros; its parameters leave the optimizers' groups.
    Without `fold` whoever read a leaving unit now reads zero. fold "constant" or "mean": what the units still emit moves into the
    biases of their readers, planned by `fold_units` on `example_inputs`; a Fold planned earlier is taken as it is. approximate:
    accept a fold that is not exact.

    Parameters keep their identity, so parameter groups, schedulers and hooks stay valid; gradients and the optimizer's state are cut
    with them. ParsinetWarning if optimizer state has to start afresh.

    Raises StructureError if the plan does not fit the model, an optimizer cannot go on, or the fold is not exact; UsageError for
    arguments that contradict each other. Whatever fails, model and optimizers are left exactly as they were.
    """
    removal.check_plan("shrink", plan)
    if fold is not None and plan.blocks:
        blocks = ", ".join(plan.blocks)
        raise UsageError(f"shrink: whole blocks leave without a fold, and {blocks} would: let them go in a plan of their own.")
    if isinstance(fold, Fold) or fold is None:
        if example_inputs is not None or approximate:
            raise UsageError("shrink: example_inputs and approximate belong to fold='constant' or fold='mean'; give fold too.")
        removal.shrink(model, plan, optimizers=optimizers, fold=fold)
        return
    if example_inputs is None:
        raise UsageError(f"shrink: fold={fold!r} needs example_inputs, what the model takes, to see what the units emit.")
    removal.shrink(model, plan, optimizers=optimizers, fold=fold_units(model, plan, fold, example_inputs, approximate=approximate))
