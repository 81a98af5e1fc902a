"""What the spectral methods accept: the form of their layers, and the rates and decays of eigenvalues and eigenvectors."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from parsinet import spectral, topology
from parsinet.errors import ParsinetWarning, UsageError
from parsinet.methods.base import generator
from parsinet.methods.coverage import shown
from parsinet.methods.options import check_number


@dataclass(frozen=True)
class Form:
    """How layers are made spectral, see `spectral.spectralize`.

    initialiser: None for the one that is usual. layers: None for those whose weight trains. seed: of a drawn basis.
    """

    variant: str
    initialiser: str | None
    layers: Sequence[str] | None
    seed: int

    def apply(self, model: nn.Module) -> None:
        """Turn the layers into spectral ones. ParsinetWarning for layers that are left as they are because they are parametrized."""
        initialiser = self.initialiser or self._usual()
        source = None if initialiser in ("keep", "gate") else generator(self.seed)
        layers = _trained(model) if self.layers is None else self.layers
        computed = _computed(model) if self.layers is None else []
        spectral.spectralize(model, self.variant, initialiser=initialiser, layers=layers, generator=source)
        if computed:
            _tell(computed)

    def _usual(self) -> str:
        """Where λ_in is held it is held at 0, as published; all keep the network's function."""
        return "gate" if self.variant in ("one-set", "full-one-set") else "keep"


@dataclass(frozen=True)
class Rates:
    """How eigenvalues and eigenvectors are held small, and how fast eigenvalues learn. See `Spectral`."""

    eigenvalue_decay: float = 0.0
    basis_decay: float | None = None
    eigenvalue_lasso: float = 0.0
    eigenvalue_lr: float | None = None

    def __post_init__(self) -> None:
        """UsageError for numbers below 0 or without bound."""
        for name, rate in asdict(self).items():
            check_number("Spectral", name, rate, least=0, below=math.inf)

    def check(self, model: nn.Module, variant: str) -> None:
        """UsageError for a decay of eigenvectors that do not train."""
        if self.basis_decay is not None and not spectral.basis_parameters(model):
            raise UsageError(f"Spectral: variant {variant!r} trains eigenvalues only, so basis_decay has nothing to act on. Leave it out.")

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Eigenvalues and eigenvectors with their own decay; other matrices with the optimizer's; biases and norms without."""
        eigenvalues, bases = eigenvalues_of(model), spectral.basis_parameters(model)
        special = {id(p) for p in (*eigenvalues, *bases)}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in special]
        rate = {} if self.eigenvalue_lr is None else {"lr": self.eigenvalue_lr}
        decay = {} if self.basis_decay is None else {"weight_decay": self.basis_decay}
        groups: list[dict[str, Any]] = [
            {"params": eigenvalues, "weight_decay": self.eigenvalue_decay, **rate},
            {"params": bases, **decay},
            {"params": [p for p in rest if p.dim() > 1]},
            {"params": [p for p in rest if p.dim() <= 1], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def penalty(self, eigenvalues: Sequence[Tensor]) -> Tensor | float:
        """eigenvalue_lasso · Σ|λ|."""
        if not self.eigenvalue_lasso:
            return 0.0
        return self.eigenvalue_lasso * torch.stack([values.abs().sum() for values in eigenvalues]).sum()


def _trained(model: nn.Module) -> list[str] | None:
    """The layers to convert where none is named: all but frozen ones; None for all. UsageError if every layer is frozen."""
    known = {
        name: layer for name, layer in model.named_modules() if isinstance(layer, spectral.SpectralLayer) or type(layer) in spectral.LAYERS
    }
    found = [name for name, layer in known.items() if not _frozen(layer)]
    if known and not found:
        raise UsageError("Every layer that could become spectral is frozen: let weights train, or name layers=[…].")
    return found if len(found) < len(known) else None


def _computed(model: nn.Module) -> list[str]:
    """The Linear and convolution layers that are parametrized."""
    return [name for name, module in model.named_modules() if isinstance(module, topology.KINDS) and is_parametrized(module)]


def _tell(computed: Sequence[str]) -> None:
    warnings.warn(
        f"{shown(computed)} {'does' if len(computed) == 1 else 'do'} not become spectral, because something computes the weight "
        "(weight_norm, another parametrization). Call torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight') before "
        "method.prepare, or name the layers that are to become spectral in layers=[…].",
        ParsinetWarning,
        stacklevel=4,
    )


def _frozen(layer: nn.Module) -> bool:
    weight = layer._parameters.get("weight")
    return weight is not None and not weight.requires_grad


def eigenvalues_of(model: nn.Module) -> list[nn.Parameter]:
    """All trained eigenvalues."""
    return [p for layer in spectral.spectral_layers(model).values() for p in layer.spectrum.parameters(recurse=False)]
