"""What a removal leaves that torch cannot run, or not safely, said before it happens: the crash that follows says nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeGuard

import torch
from torch import nn

from parsinet.errors import StructureError
from parsinet.structure.cutting import is_channels_last

PROJECTION = "weight_hr_l0"
"""[projection, hidden] of an LSTM."""
LEAST = 8
"""Input channels below which oneDNN's backward pass of a strided 1×1 convolution leaves its memory (uxlfoundation/oneDNN, issue 6035)."""


def strided_messages(model: nn.Module, keeps: Mapping[str, Mapping[int, tuple[int, ...]]]) -> Iterator[str]:
    """One sentence for each convolution that by this removal comes to be one of those, on a CPU that has the fault."""
    for name, module in fragile(model).items():
        kept = keeps.get(f"{name}.weight", {}).get(1)
        if kept is not None and module.in_channels >= LEAST > (after := len(kept)):
            yield (
                f"{name}, a strided 1×1 convolution, is left with {after} input channels. With channels last and fewer than {LEAST} of "
                "them, torch's backward pass on CPUs without AVX-512 writes past its memory (oneDNN, issue 6035): gradients are wrong "
                "or the process dies. Use model.to(memory_format=torch.contiguous_format) and inputs of that format, or keep "
                f"multiples of {LEAST} (round_to={LEAST})."
            )


def check_projections(model: nn.Module, keeps: Mapping[str, Mapping[int, tuple[int, ...]]]) -> None:
    """StructureError for an LSTM whose projection would be as wide as it is: torch tells by the difference that there is one."""
    for path, module in projected(model):
        kept = keeps.get(f"{path}.{PROJECTION}".removeprefix("."), {})
        shape = module.get_parameter(PROJECTION).shape
        projection, hidden = (len(kept[d]) if d in kept else shape[d] for d in (0, 1))
        if kept and hidden == projection:
            raise StructureError(
                f"{path or 'The LSTM'} would be left with {hidden} hidden units and a projection of as many, which torch cannot run. Keep "
                "one more, or one less"
            )


def projected(model: nn.Module) -> Iterator[tuple[str, nn.LSTM]]:
    """The LSTMs with a projection, by path."""
    yield from ((path, module) for path, module in model.named_modules() if isinstance(module, nn.LSTM) and module.proj_size)


def fragile(model: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions that must not come to be one of those; none where the processor or the network's format is safe."""
    return {name: module for name, module in model.named_modules() if _strided(module)} if _at_fault(model) else {}


def _at_fault(model: nn.Module) -> bool:
    """Whether the network runs with channels last, in float32, on such a CPU."""
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        return False
    return any(p.device.type == "cpu" and p.dtype == torch.float32 and p.dim() == 4 and is_channels_last(p) for p in model.parameters())


def _strided(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and max(module.stride) > 1 and module.groups == 1
