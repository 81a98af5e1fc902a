"""Where gates sit: in front of every module that reads a group's units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from parsinet.errors import RunError
from parsinet.gates import Owner
from parsinet.structure import Structure
from parsinet.structure.attention import close_reader, open_reader


class Multiplier(Protocol):
    """What multiplies the inputs of readers by gates."""

    def multiply(self, h: Tensor, group: str, axis: int, owner: Owner | None) -> Tensor:
        """h through the group's gates of the running forward pass. owner: None where index i of the axis is unit i."""


@dataclass(frozen=True, eq=False)
class _Hook:
    """Multiplies a reader's input by its gates. An object, not a function, so that a deep copy of the model has gates of its own."""

    bank: Multiplier
    group: str
    axis: int
    owner: Owner | None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args and isinstance(args[0], Tensor):
            return (self.bank.multiply(args[0], self.group, self.axis, self.owner), *args[1:]), kwargs
        if isinstance(kwargs.get("input"), Tensor):
            return args, {**kwargs, "input": self.bank.multiply(kwargs["input"], self.group, self.axis, self.owner)}
        raise RunError(f"The gates of {self.group} cannot find the input of {type(module).__name__}: pass it as the first argument.")


class Handle(Protocol):
    """What takes a change of the network back."""

    def remove(self) -> None:
        """Take it back."""


@dataclass(frozen=True, eq=False)
class Opened:
    """An attention of torch that calls the layer its heads are read by, as long as there are gates in front of it."""

    attention: nn.MultiheadAttention

    def remove(self) -> None:
        """Let it be torch's own again, where it still can be."""
        close_reader(self.attention)


def _unpacked(module: nn.Module, args: tuple[Any, ...]) -> None:
    module.__dict__["use_nested_tensor"] = False


def _packed(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    module.__dict__["use_nested_tensor"] = True


def _plain_encoders(model: nn.Module) -> Iterator[Handle]:
    """Stacks of torch's encoder layers pack what is padded for a fused pass, which nothing with hooks can take: they do not, for a call."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder) and getattr(module, "use_nested_tensor", False):
            yield module.register_forward_pre_hook(_unpacked)
            yield module.register_forward_hook(_packed, always_call=True)


def place(bank: Multiplier, model: nn.Module, structure: Structure, sizes: Mapping[str, int], device: torch.device) -> Iterator[Handle]:
    """Put the gates of every group of `sizes` (group → units) in front of the modules that read its units; yields the hooks' handles."""
    yield from _plain_encoders(model)
    for group, size in sizes.items():
        for reader in structure.readers(group):
            owners = reader.owners.to(device)
            identity = torch.equal(owners, torch.arange(size, device=owners.device))
            attention = open_reader(model, reader.module)
            if attention is not None:
                yield Opened(attention)
            hook = _Hook(bank, group, reader.axis, None if identity else Owner.of(owners, size))
            yield model.get_submodule(reader.module).register_forward_pre_hook(hook, with_kwargs=True)
