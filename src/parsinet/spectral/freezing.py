"""Eigenvalues first, eigenvectors later: what the basis trains, switched off and on."""

from __future__ import annotations

from torch import nn

from parsinet.spectral.layers import spectral_layers


def basis_parameters(model: nn.Module) -> list[nn.Parameter]:
    """What the eigenvectors of `model` can train: φ, R, s or directions; empty where all of them are buffers."""
    return [parameter for layer in spectral_layers(model).values() for parameter in layer.spectrum.basis.parameters()]


def freeze_basis(model: nn.Module) -> None:
    """Train eigenvalues and biases alone from now on. Layers that train one set then need no gradient of their weight.

    Build the optimizer of all parameters beforehand: it skips those without gradient, and finds them again after `train_basis`.
    """
    for parameter in basis_parameters(model):
        parameter.requires_grad_(False)
        parameter.grad = None


def train_basis(model: nn.Module) -> None:
    """Train the eigenvectors too, the inverse of `freeze_basis`."""
    for parameter in basis_parameters(model):
        parameter.requires_grad_(True)
