"""From plain layers to spectral ones and back, in place: class, identity, attributes and state names return as they were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from parsinet.errors import ArgumentTypeError, UsageError, suggest
from parsinet.spectral.directions import check_order
from parsinet.spectral.initialisers import INITIALISERS, Drawn, Place
from parsinet.spectral.layers import LAYERS, PLAIN, SpectralLayer, Spectrum, spectral_layers
from parsinet.spectral.pairs import nodes_of, pairs_of
from parsinet.spectral.record import fold_record
from parsinet.spectral.sparsifier import forget_masks, sparsifiers
from parsinet.spectral.variants import VARIANTS, Map, assemble

KEEP, GATE = "keep", "gate"
"""Initialisers that keep the layer's own weight: W = (1 − 0)·φ with φ = W, and W = (0 − 1)·φ with φ = −W."""

OWN_WEIGHT = ("full", "full-one-set")
"""Variants whose φ is the layer's own Parameter under "keep"."""


def spectralize(
    model: nn.Module,
    variant: str = "two-set",
    *,
    initialiser: str = KEEP,
    layers: Iterable[str | nn.Module] | None = None,
    generator: torch.Generator | None = None,
    p: float | None = None,
) -> nn.Module:
    """Turn layers of `model` into spectral ones, w_ij = (λ_in,j − λ_out,i)·φ_ij, in place; returns the model.

    variant: what trains: "one-set", "one-set-in", "two-set", "svd", "svd-gaussian", "qr", "qr-full", "full", "full-one-set" or "unit".
    initialiser: "keep" keeps the function: φ = W, λ_in = 1, λ_out = 0, and the composed weight is bitwise W (svd, qr and unit reproduce it
    to rounding); "gate" likewise with φ = −W, λ_in = 0, λ_out = 1; every other name draws a new basis with `generator`, the bias becomes
    zero. layers: modules of the model or their names; None for every Linear, Conv and ConvTranspose. p: of variant "unit" alone, the order
    of the norm in which the rows of φ have unit length, 1 < p < ∞ (2 unless given). Build the optimizer afterwards: weights leave the
    model's parameters, eigenvalues enter.

    Raises UsageError, with nothing changed, for unknown names, tied weights, layers already spectral or parametrized, a missing or a
    superfluous generator; ArgumentTypeError for what is no module.
    Sources: arXiv 2005.14436, 2106.09021; convolutions are our generalisation.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"spectralize: expected an nn.Module, got {type(model).__name__}.")
    _check_names(variant, initialiser, generator)
    order = _check_order(variant, p)
    chosen = _chosen(model, layers)
    _check_layers(model, chosen)
    spectra = [(layer, *_spectrum(name, layer, variant, initialiser, generator, order)) for name, layer in chosen.items()]
    for layer, spectrum, bias in spectra:
        _convert(layer, spectrum, bias)
    return model


def fold(model: nn.Module) -> nn.Module:
    """Turn every spectral layer of `model` into the plain layer it came from, in place; returns the model.

    The weight is bitwise the composed one, with exact zeros where it was masked. What the removal engine has noted on `model` follows,
    so that `pn.load` rebuilds a small network from the plain architecture. Build a new optimizer if training goes on: eigenvalues leave the
    model's parameters. Raises UsageError, with nothing changed, if something else was parametrized on top of a spectral layer.
    """
    layers = spectral_layers(model)
    for name, layer in layers.items():
        if type(layer) not in PLAIN:
            raise UsageError(f"fold: {name or 'the model'} has become a {type(layer).__name__}; remove_parametrizations from it first.")
    for sparsifier in sparsifiers(model):
        sparsifier.refresh_if_stale()
    fold_record(model, layers)
    with torch.no_grad():
        for layer in layers.values():
            spectrum = layer.spectrum
            weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=not spectrum.frozen_weight)
            del layer.spectrum
            layer.__class__ = PLAIN[type(layer)]  # type: ignore[assignment]
            layer._parameters = {"weight": weight, **{name: value for name, value in layer._parameters.items() if name != "weight"}}
    forget_masks(model)
    return model


def _check_order(variant: str, p: float | None) -> float:
    if p is not None and not VARIANTS[variant].unit:
        raise UsageError(f"spectralize: p is the norm of the rows of φ in variant 'unit'; variant {variant!r} has none, leave p out.")
    return check_order(p)


def _check_names(variant: str, initialiser: str, generator: torch.Generator | None) -> None:
    if variant not in VARIANTS:
        raise UsageError(f"spectralize: unknown variant {variant!r}.{suggest(str(variant), VARIANTS)}")
    if initialiser not in INITIALISERS and initialiser not in (KEEP, GATE):
        raise UsageError(f"spectralize: unknown initialiser {initialiser!r}.{suggest(str(initialiser), [KEEP, GATE, *INITIALISERS])}")
    if initialiser in (KEEP, GATE) and generator is not None:
        raise UsageError(f"spectralize: initialiser {initialiser!r} draws nothing; leave generator out, or draw a basis.")
    if initialiser not in (KEEP, GATE) and not isinstance(generator, torch.Generator):
        raise UsageError(f"spectralize: initialiser {initialiser!r} draws a basis and needs generator=torch.Generator().manual_seed(…).")


def _chosen(model: nn.Module, layers: Iterable[str | nn.Module] | None) -> dict[str, nn.Module]:
    """The layers to convert by name; named ones must be of a known kind, otherwise every layer of exactly a known kind."""
    modules = dict(model.named_modules())
    if layers is None:
        found = {name: module for name, module in modules.items() if type(module) in LAYERS or isinstance(module, SpectralLayer)}
        if not found:
            computed = _parametrized(model)
            remedy = f" that is not parametrized; remove_parametrizations from {', '.join(computed)} first" if computed else ""
            raise UsageError(f"spectralize: {type(model).__name__} has no Linear, Conv or ConvTranspose layer{remedy}.")
        return found
    if isinstance(layers, (str, nn.Module)):
        raise UsageError("spectralize: layers must be a list of modules or their names, got a single one; write layers=[…].")
    names = {module: name for name, module in modules.items()}
    chosen = {}
    for layer in layers:
        if isinstance(layer, nn.Module) and layer not in names:
            raise UsageError(f"spectralize: layers names a {type(layer).__name__} that is not part of the model.")
        name = names[layer] if isinstance(layer, nn.Module) else layer
        if name not in modules:
            raise UsageError(f"spectralize: layers names {name!r}, which the model does not have.{suggest(str(name), modules)}")
        chosen[name] = modules[name]
    return chosen


def _parametrized(model: nn.Module) -> list[str]:
    """Names of the layers of a known kind whose class a parametrization has changed."""
    kinds = tuple(LAYERS)
    return [name or "the model" for name, layer in model.named_modules() if isinstance(layer, kinds) and is_parametrized(layer)]


def _check_layers(model: nn.Module, chosen: Mapping[str, nn.Module]) -> None:
    holders = _holders(model)
    for name, layer in chosen.items():
        if isinstance(layer, SpectralLayer):
            raise UsageError(f"spectralize: {name or 'the model'} is spectral already; fold(model) first, or leave it out of layers=[…].")
        if is_parametrized(layer):
            raise UsageError(f"spectralize: {name or 'the model'} is parametrized already; remove_parametrizations first, or leave it out.")
        if type(layer) not in LAYERS:
            known = ", ".join(kind.__name__ for kind in LAYERS)
            raise UsageError(f"spectralize: {name or 'the model'} is a {type(layer).__name__}; spectral forms exist for {known}.")
        weight = layer._parameters.get("weight")
        if weight is None:
            raise UsageError(f"spectralize: the weight of {name} is computed by a hook (weight_norm, prune); remove it first.")
        if not weight.is_floating_point():
            raise UsageError(f"spectralize: the weight of {name} is {weight.dtype}; real floating-point weights are expected.")
        if len(holders[id(weight)]) > 1:
            shared = ", ".join(sorted(holders[id(weight)]))
            raise UsageError(f"spectralize: {shared} are one tied tensor; untie them first, or name only others in layers=[…].")


def _holders(model: nn.Module) -> dict[int, list[str]]:
    """Names of every parameter by identity, a module called twice counted once."""
    holders: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                holders.setdefault(id(parameter), []).append(f"{path}.{name}" if path else name)
    return holders


def _spectrum(
    name: str, layer: nn.Module, variant: str, initialiser: str, generator: torch.Generator | None, p: float
) -> tuple[Spectrum, Tensor | None]:
    """The layer's spectrum, and its new bias: None where it keeps the one it has."""
    weight = layer._parameters["weight"]
    assert weight is not None
    nodes = nodes_of(layer)
    wide = weight.dtype if weight.dtype in (torch.float32, torch.float64) else torch.float32
    place = Place(tuple(weight.shape), *nodes, dtype=wide, device=weight.device, generator=generator)
    bias = layer._parameters.get("bias")
    new_bias = None
    if initialiser in (KEEP, GATE):
        drawn = _kept(weight, variant, place, negated=initialiser == GATE)
    else:
        drawn = INITIALISERS[initialiser](place)
        drawn = Drawn(_narrow(drawn.phi, weight.dtype), drawn.lambda_in, drawn.lambda_out, drawn.bias)
        if bias is not None:
            new_bias = torch.zeros_like(bias) if drawn.bias is None else drawn.bias.to(bias)
    of = Map(*nodes, pairs_of(layer), p, name or "the model")
    return assemble(variant, initialiser, drawn, of, frozen_weight=not weight.requires_grad), new_bias


def _kept(weight: nn.Parameter, variant: str, place: Place, *, negated: bool) -> Drawn:
    """φ = ±W and the constants that undo the sign. A φ that trains is the layer's own Parameter."""
    if negated:
        return Drawn(-weight.detach(), place.constant(0.0), place.constant(1.0))
    phi = weight if variant in OWN_WEIGHT and weight.requires_grad else weight.detach().clone()
    return Drawn(phi, place.constant(1.0), place.constant(0.0))


def _narrow(phi: Tensor | tuple[Tensor, Tensor, Tensor], dtype: torch.dtype) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    return phi.to(dtype) if isinstance(phi, Tensor) else (phi[0].to(dtype), phi[1].to(dtype), phi[2].to(dtype))


def _convert(layer: nn.Module, spectrum: Spectrum, bias: Tensor | None) -> None:
    del layer._parameters["weight"]
    layer.__class__ = LAYERS[type(layer)]
    layer.spectrum = spectrum.train(layer.training)
    own = layer._parameters.get("bias")
    if bias is not None and own is not None:
        with torch.no_grad():
            own.copy_(bias)
