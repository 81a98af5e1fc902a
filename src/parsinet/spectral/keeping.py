"""How frozen bases are kept: in 16 bits, one for several layers, or as the seeds they are drawn from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from parsinet.errors import UsageError
from parsinet.spectral.bases import FrozenBlock, NarrowBlock
from parsinet.spectral.initialisers import INITIALISERS
from parsinet.spectral.layers import SpectralLayer, spectral_layers
from parsinet.spectral.pairs import nodes_of
from parsinet.spectral.seeds import Draw, SeededBlock


def narrow_bases(model: nn.Module, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """Keep every frozen φ of `model` in 16 bits, in place; returns the model. Weights are still composed in the precision of before.

    φ is rounded once, by at most 2⁻⁹ (bfloat16) or 2⁻¹² (float16, within its range) of each entry. `model.float()` or `.double()` would
    widen it again. Raises UsageError, with nothing changed, for another dtype or where no frozen φ of 32 bits or more is found.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        raise UsageError(f"narrow_bases: dtype must be torch.bfloat16 or torch.float16, got {dtype}.")
    narrow: dict[int, NarrowBlock] = {}
    for layer in _frozen("narrow_bases", model).values():
        old = layer.spectrum.basis
        if old.phi.dtype.itemsize > 2:  # type: ignore[operator]
            layer.spectrum.basis = narrow.setdefault(id(old), NarrowBlock(old.phi, dtype))  # type: ignore[arg-type]
    if not narrow:
        raise UsageError("narrow_bases: all frozen bases are of 16 bits already.")
    return model


def share_bases(model: nn.Module) -> nn.Module:
    """Let layers of equal shape have one frozen φ, that of the first of them, in place; returns the model.

    It stays one tensor in memory, in files, under deepcopy and when units leave: units of two layers that share φ leave together. The
    function of all but the first changes, so this is for bases drawn at random, before training. `fold` gives every layer its own weight.
    Raises UsageError, with nothing changed, where no two layers have frozen bases of one shape. Source: our choice.
    """
    first: dict[tuple[object, ...], SpectralLayer] = {}
    others: list[tuple[SpectralLayer, SpectralLayer]] = []
    for layer in _frozen("share_bases", model).values():
        phi = layer.spectrum.basis.phi
        assert isinstance(phi, Tensor)
        key = (type(layer), tuple(phi.shape), phi.dtype, phi.device)
        if first.setdefault(key, layer) is not layer:
            others.append((layer, first[key]))
    if not others:
        raise UsageError("share_bases: no two layers have a frozen φ of one shape.")
    for layer, owner in others:
        layer.spectrum.basis = owner.spectrum.basis
    return model


def seed_bases(model: nn.Module, generator: torch.Generator, initialiser: str = "glorot") -> nn.Module:
    """Draw every frozen φ of `model` anew from a seed of its own, in place; returns the model. Files then hold the seeds instead of φ.

    The seeds come from `generator`; φ follows the law of the named initialiser, on the CPU. In memory φ is there as before, and units
    leave as before; what the state_dict holds is the seed and a checksum of φ. Loading draws φ from the stored seed; where units have
    left, the loading network must have lost the same ones (`pn.load` sees to it), else it refuses. Call it before training: the function
    changes. Raises UsageError, with nothing changed. Source: our choice.
    """
    if initialiser not in INITIALISERS or initialiser in ("p2-spectral", "p2-svd"):
        raise UsageError(f"seed_bases: initialiser {initialiser!r} draws no φ; use 'glorot' or 'p3', for example.")
    if not isinstance(generator, torch.Generator):
        raise UsageError("seed_bases: expected generator=torch.Generator().manual_seed(…).")
    for layer in _frozen("seed_bases", model).values():
        phi = layer.spectrum.basis.phi
        assert isinstance(phi, Tensor)
        seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
        layer.spectrum.basis = SeededBlock(Draw(initialiser, tuple(phi.shape), nodes_of(layer), seed), phi)
    return model


def _frozen(caller: str, model: nn.Module) -> dict[str, SpectralLayer]:
    """Layers whose φ is one frozen block."""
    found = {name: layer for name, layer in spectral_layers(model).items() if isinstance(layer.spectrum.basis, FrozenBlock)}
    if not found:
        raise UsageError(
            f"{caller}: no spectral layer of this model has a frozen φ; use variant='two-set' or 'one-set', and keep it one way."
        )
    return found
