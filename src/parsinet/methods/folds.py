"""Folding as a choice for a whole run: at every removal what the units still emit moves into the biases of their readers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import get_args

import torch
from torch import nn

from parsinet.draws import kept
from parsinet.errors import StructureError, UsageError
from parsinet.methods.base import Method
from parsinet.structure import Fold, Plan, Structure, fold_units
from parsinet.structure.calling import ExampleInputs
from parsinet.structure.copies import copy_for_tracing
from parsinet.structure.folding import Kind
from parsinet.structure.running import Batches, batches_of

FoldInputs = Batches | Callable[[], Batches]
"""Batches, without targets: one, an iterable that can be gone through again and again, or a function that returns either."""

SHIFT = 0.1
"""How far weights are moved for the trial: at the start of a run biases are zero, and then few units emit anything."""


@dataclass(frozen=True)
class Folding:
    """What is folded at every removal: the kind, the inputs to see it on, whether a fold that is not exact is accepted."""

    kind: Kind
    inputs: FoldInputs
    approximate: bool = False

    def plan(self, model: nn.Module, plan: Plan) -> Fold:
        """The fold of one removal; StructureError or UsageError, with nothing changed, if there is none."""
        return fold_units(model, plan, self.kind, self._batches(), approximate=self.approximate)

    def check(self, model: nn.Module, structure: Structure) -> None:
        """Refuse at the start what would be refused in the middle of the run.

        Every third unit of every exact group leaves a copy whose weights are shifted; one batch of the inputs is tried on. Raises
        StructureError if a reader cannot be made up for, UsageError if the model rejects the batch.
        """
        with kept():
            batch = next(batches_of(self._batches()), None) if self.kind == "mean" else self._batches()
            if batch is None:
                raise UsageError("Pruner: fold='mean' needs fold_inputs with at least one batch.")
            try:
                fold_units(_shifted(model), _thinned(structure), self.kind, batch, approximate=self.approximate)
            except StructureError as error:
                raise StructureError(
                    f"Pruner, on a trial before the run: {error}\nLayers named in ignored_layers keep their units and need no fold."
                ) from error

    def _batches(self) -> Batches:
        return self.inputs() if callable(self.inputs) else self.inputs


def folding_of(
    fold: Kind | None, fold_inputs: FoldInputs | None, example_inputs: ExampleInputs, approximate: bool, method: Method
) -> Folding | None:
    """The pruner's arguments as a choice; UsageError if they contradict each other or the method."""
    if fold is None:
        if fold_inputs is not None or approximate:
            raise UsageError("Pruner: fold_inputs and approximate belong to fold='constant' or fold='mean'; give fold too.")
        return None
    if fold not in get_args(Kind):
        raise UsageError(f"Pruner: fold must be 'constant', 'mean' or None, got {fold!r}.")
    if method.silences:
        raise UsageError(f"Pruner: {method.name} silences units before they leave, so their readers read zero: leave fold out.")
    if fold == "constant":
        if fold_inputs is not None:
            raise UsageError("Pruner: fold_inputs belongs to fold='mean'; what fold='constant' needs it sees on example_inputs.")
        return Folding(fold, example_inputs, approximate)
    if fold_inputs is None:
        raise UsageError("Pruner: fold='mean' needs fold_inputs: batches of data, without targets, to take the mean over.")
    if isinstance(fold_inputs, Iterator):
        raise UsageError("Pruner: fold_inputs is an iterator, which is used up at the first removal; give a list or a function.")
    return Folding(fold, fold_inputs, approximate)


def _thinned(structure: Structure) -> Plan:
    groups = [group for group in structure.removable() if group.exact]
    return structure.plan({group.name: torch.arange(group.size) % 3 != 1 for group in groups})


def _shifted(model: nn.Module) -> nn.Module:
    """A copy with other weights, all a little larger: what is positive stays so."""
    twin, generator = copy_for_tracing(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.is_floating_point():
                parameter.add_(SHIFT * torch.rand(parameter.shape, generator=generator).to(parameter))
    return twin
