"""A running average of a network's weights that goes on when units leave: the network's own steadier self, at any moment."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn as _ema

from parsinet.errors import UsageError
from parsinet.structure import StructureRecord, record_of, replay
from parsinet.structure.at_work import is_at_work
from parsinet.structure.blocks import is_within
from parsinet.structure.copies import duplicate
from parsinet.structure.selecting import KEPT


class RunningAverage:
    """w̄ ← d_k w̄ + (1 − d_k) w after step k = 0, 1 …, with d_k = min(decay, (1 + k)/(10 + k)), for weights and running statistics.

    Weights are the effective ones, of parametrized layers too. When units leave, their entries leave w̄ and the others stay as they are.
    What a removal changes beyond that (a fold into a bias, the scale of a weight norm) reaches w̄ as any other step does.

    model: the original architecture, before a method has touched it; it is copied. decay: in [0, 1).

    Errors: UsageError for a decay out of range, for a model that has lost units already or carries a method's hooks.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise UsageError(f"RunningAverage: decay must be in [0, 1), got {decay}.")
        if record_of(model).removals or is_at_work(model, ("parsinet.",)):
            raise UsageError("RunningAverage: give the model before a method has touched it, before method.prepare and the Pruner.")
        self.decay = decay
        self._original = duplicate(model).eval().requires_grad_(False)
        self._names = _names(self._original)
        self._tensors = {name: attrgetter(name)(self._original).clone() for name in self._names}
        self._steps = 0
        self._adopt(StructureRecord())

    def fits(self, model: nn.Module) -> bool:
        """Whether the model has the units that the average has."""
        return len(record_of(model).removals) == len(self._record.removals)

    def follow(self, model: nn.Module) -> bool:
        """Let the units go that the model has lost.

        False, with nothing changed, where the removal speaks of tensors that the plain network lacks: those of layers in another form.
        """
        record = record_of(model)
        if not all(name in self._names or name.split(".")[-1] == KEPT for name in record.tensors):
            return False
        before = self._record
        self._adopt(record.copy())
        self._tensors = {name: _cut(tensor, name, before, record) for name, tensor in self._tensors.items() if name in self._readers}
        return True

    @torch.no_grad()
    def step(self, model: nn.Module) -> None:
        """Take in the weights that a step has left; the model must fit."""
        decay = min(self.decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        pairs = [(tensor, self._readers[name](model).detach()) for name, tensor in self._tensors.items()]
        for tensor, now in pairs:
            if not tensor.is_floating_point():
                tensor.copy_(now)
        for kind in {tensor.dtype for tensor, _ in pairs if tensor.is_floating_point()}:
            alike = [pair for pair in pairs if pair[0].dtype == kind]
            _ema(decay)([tensor for tensor, _ in alike], [now for _, now in alike], None)  # type: ignore[no-untyped-call]

    def network(self) -> nn.Module:
        """The averaged network: plain, in evaluation mode, with weights that nothing trains."""
        model = duplicate(self._original)
        replay(model, self._record.copy())
        for name, average in self._tensors.items():
            self._readers[name](model).copy_(average)
        return model

    def state_dict(self) -> dict[str, Any]:
        """The averages, which units they are of, the number of steps."""
        tensors = {name: tensor.clone() for name, tensor in self._tensors.items()}
        return {"steps": self._steps, "record": self._record.to_json(), "tensors": tensors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken. UsageError, with nothing changed, if that was another network's."""
        if not state["tensors"].keys() <= self._names.keys():
            raise UsageError("RunningAverage: the saved averages are of another network; build the one they were taken from.")
        self._steps = int(state["steps"])
        self._adopt(StructureRecord.from_json(state["record"]))
        self._tensors = {name: tensor.to(attrgetter(name)(self._original), copy=True) for name, tensor in state["tensors"].items()}

    def _adopt(self, record: StructureRecord) -> None:
        """Take the record over, and read each tensor where it still is: a tied one may outlive the first of its names."""
        self._record = record
        absent = [name for names in self._names.values() for name in names if any(is_within(name, path) for path in record.absent)]
        gone = {*record.bare, *absent}
        present = {first: [name for name in names if name not in gone] for first, names in self._names.items()}
        self._readers = {first: attrgetter(names[0]) for first, names in present.items() if names}


def _names(model: nn.Module) -> dict[str, list[str]]:
    """Every parameter and buffer by its first name, with all of its names."""
    found: dict[int, list[str]] = {}
    for named in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)):
        for name, tensor in named:
            found.setdefault(id(tensor), []).append(name)
    return {names[0]: names for names in found.values()}


def _cut(tensor: Tensor, name: str, before: StructureRecord, after: StructureRecord) -> Tensor:
    """The entries that are left of those that were left before; both records speak of original indices."""
    for dim, kept in after.tensors.get(name, {}).items():
        present = before.tensors.get(name, {}).get(dim, range(after.sizes[name][dim]))
        place = {index: position for position, index in enumerate(present)}
        tensor = tensor.index_select(dim, torch.tensor([place[index] for index in kept], dtype=torch.long, device=tensor.device))
    return tensor
