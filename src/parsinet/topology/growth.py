"""How much a hidden weight deserves to come back: by its gradient, by the momentum of its gradients, or by lot."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

GROWTHS = ("gradient", "momentum", "random")


def magnitudes(gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """|g| per entry, also of momenta: growth by gradient (arXiv 1911.11134) or by momentum (arXiv 1907.04840)."""
    return {name: gradient.abs() for name, gradient in gradients.items()}


def lots(masks: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Uniform numbers per entry from a CPU generator, the same on every device: growth by lot (arXiv 1707.04780)."""
    return {name: torch.rand(mask.shape, generator=generator).to(mask.device) for name, mask in masks.items()}


def average_(average: Tensor, gradient: Tensor, momentum: float) -> None:
    """m ← μm + (1 − μ)g, in place."""
    average.mul_(momentum).add_(gradient, alpha=1 - momentum)


def saliency(weight: Tensor, gradient: Tensor) -> Tensor:
    """w·g per entry, what the loss loses to first order when the weight does; its magnitude is SNIP's score (arXiv 1810.02340)."""
    return weight * gradient
