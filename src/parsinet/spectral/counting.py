"""How many numbers a spectral network trains."""

from __future__ import annotations

from torch import nn

from parsinet.spectral.bases import TriangularBlock


def trained_parameters(model: nn.Module) -> int:
    """Numbers that train in `model`, tied ones once; entries of a triangular R held at zero are not counted."""
    total = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    fixed = (module.free.numel() - int(module.free.sum()) for module in model.modules() if isinstance(module, TriangularBlock))
    return total - sum(fixed)
