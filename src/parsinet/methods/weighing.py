"""Gates in the weights that read: where no module's input can be multiplied, the reading slices are, while the model runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from parsinet.errors import RunError
from parsinet.gates.backward import in_backward
from parsinet.structure import Structure

FLAT = ("_flat_weights", "_flat_weight_refs")
"""Where recurrent layers of torch keep their weights a second time; they renew it themselves when a weight has been exchanged."""


class WholeSink:
    """Hears the derivative of the loss in one group's gates, [n] or [B, n], all examples together [n], of the first backward pass.

    unscale: one over the scale of the loss that is differentiated, None where it is not scaled.
    """

    def __init__(self, unscale: Tensor | None = None) -> None:
        self._unscale = unscale
        self._total: Tensor | None = None
        self._heard = False

    @property
    def empty(self) -> bool:
        """True if no backward pass went through the gates since the last `take`."""
        return self._total is None

    def add(self, gradient: Tensor) -> None:
        """What autograd hands over, summed over all uses of the gates."""
        if not self._heard:
            whole = gradient.detach() if gradient.dim() == 1 else gradient.detach().sum(0)
            self._total = whole if self._unscale is None else whole * self._unscale
            self._heard = True

    def take(self) -> Tensor:
        """The derivative [n], and forget it; RunError if there is none."""
        total, self._total = self._total, None
        if total is None:
            raise RunError("WholeSink: nothing to take: no backward pass went through these gates since the last take().")
        return total


def spread(values: Tensor, index: Tensor, dim: int, dims: int) -> Tensor:
    """One value per unit [n] as a factor that broadcasts along dimension `dim` of a tensor of so many `dims`.

    index: the unit of each index of the dimension, n for none; the factor is 1 there.
    """
    factor = torch.cat([values, values.new_ones(1)]).index_select(0, index)
    return factor.view([-1 if d == dim else 1 for d in range(dims)])


class Factors(Protocol):
    """What knows the gates of the running forward pass."""

    def factor(self, group: str) -> Tensor:
        """ξ of one group [n], differentiable where the group's derivative is wanted."""


@dataclass(frozen=True, eq=False)
class _Slice:
    """One group's units along one dimension of a tensor; `index` [size of the dimension] holds n where an index belongs to none."""

    group: str
    dim: int
    index: Tensor

    def of(self, gates: Factors, tensor: Tensor) -> Tensor:
        """The factors in a shape that multiplies the tensor."""
        return spread(gates.factor(self.group).to(tensor.dtype), self.index, self.dim, tensor.dim())


class Weights:
    """W ∘ ξ in the place of W while the model runs, for every tensor that reads a gated group.

    (W ∘ ξ) h = W (ξ ∘ h): the reader sees what it sees behind a gate in front of it, wherever it reads. The parameters themselves stay
    what they are; autograd carries the derivatives to them and to ξ. An object, not a function, so that a deep copy of the model
    exchanges weights of its own: tensors are held by the names of the places they are kept in.
    """

    def __init__(self, gates: Factors, slices: Mapping[str, list[_Slice]], aliases: Mapping[str, list[str]]) -> None:
        self._gates, self._slices, self._aliases = gates, slices, aliases
        self._held: list[tuple[dict[str, Any], str, Any]] = []
        self._caller: FrameType | None = None

    def put(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        """Before the forward pass."""
        self.mend()
        if self._held:
            raise RunError("The gates of this model are at work already: do not call it from within its own forward pass.")
        self._caller = sys._getframe(1)
        for name, slices in self._slices.items():
            tensor = _find(model, name)
            whole = tensor
            for entry in slices:
                whole = whole * entry.of(self._gates, tensor)
            for alias in self._aliases[name]:
                self._exchange(model, alias, whole)

    def back(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """After the forward pass, whether it succeeded or not."""
        self._back()

    def guard(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Before a module that keeps such weights runs: RunError where it would run with the whole ones instead."""
        if not self._held and in_backward():
            raise RunError(
                f"Gates: a {type(module).__name__} runs again in the backward pass (gradient checkpointing), when its gated weights are "
                f"whole again, and the gradients would be wrong. Checkpoint other parts of the model, with use_reentrant=False, or leave "
                "its groups out: Gates(groups=[...])."
            )

    def mend(self, *_: Any) -> None:
        """Put back what a forward pass has left that Ctrl-C ended: torch calls no hook then."""
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame is not self._caller:
            frame = frame.f_back
        if frame is None:
            self._back()

    def remove(self) -> None:
        """No forward pass will come any more."""
        self._back()

    def __getstate__(self) -> dict[str, Any]:
        """A copy is in no forward pass."""
        return {**self.__dict__, "_caller": None}

    def _back(self) -> None:
        self._caller = None
        while self._held:
            table, name, value = self._held.pop()
            table[name] = value

    def _exchange(self, model: nn.Module, alias: str, tensor: Tensor) -> None:
        path, _, name = alias.rpartition(".")
        module = model.get_submodule(path)
        self._held.extend((module.__dict__, key, module.__dict__[key]) for key in FLAT if key in module.__dict__)
        table: dict[str, Any] = module._parameters if name in module._parameters else module._buffers
        self._held.append((table, name, table[name]))
        table[name] = tensor


def weigh(
    gates: Factors, model: nn.Module, structure: Structure, groups: Mapping[str, int], device: torch.device
) -> Iterator[RemovableHandle | Weights]:
    """Gate these groups (name → units) in the tensors that read them; yields the hooks' handles.

    Call it once the hook that draws the gates is in place: hooks run in their order.
    """
    slices: dict[str, list[_Slice]] = {}
    for group, size in groups.items():
        for weigher in structure.weighers(group):
            index = weigher.owners.to(device)
            slices.setdefault(weigher.tensor, []).append(_Slice(group, weigher.dim, index.where(index >= 0, size)))
    if not slices:
        return
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    aliases = {name: [alias for alias, tensor in named if tensor is _find(model, name)] for name in slices}
    weights = Weights(gates, slices, aliases)
    yield weights
    yield model.register_state_dict_pre_hook(weights.mend)  # type: ignore[no-untyped-call]
    yield model.register_forward_pre_hook(weights.put)
    keepers = {alias.rpartition(".")[0] for names in aliases.values() for alias in names} - {""}
    for path in sorted(keepers):
        yield model.get_submodule(path).register_forward_pre_hook(weights.guard)
    yield model.register_forward_hook(weights.back, always_call=True)


def _find(model: nn.Module, name: str) -> Tensor:
    path, _, last = name.rpartition(".")
    module = model.get_submodule(path)
    found = module._parameters.get(last)
    tensor = module._buffers[last] if found is None else found
    assert tensor is not None, f"{name} is a tensor of the traced model"
    return tensor
