"""Sparse training in reciprocal space: masks on the composed weights, while eigenvalues and eigenvectors move freely underneath."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from parsinet.errors import ArgumentTypeError, UsageError, suggest
from parsinet.spectral.layers import SpectralLayer, spectral_layers
from parsinet.spectral.masks import Mask
from parsinet.spectral.sparsifier import Sparsifier, sparsifiers

SCOPES = ("layer", "global")
MODES = ("dynamic", "threshold", "fixed")


def sparsify(
    model: nn.Module,
    sparsity: float = 0.9,
    *,
    scope: str = "layer",
    mode: str = "dynamic",
    every: int = 1,
    layers: Iterable[str | nn.Module] | None = None,
) -> nn.Module:
    """Train spectral layers of `model` with most entries of their composed weights masked, in place; returns the model.

        Ŵ = W where |W| > c, else 0      c: the magnitude of rank r = round((n − 1)·sparsity) of the n entries

    sparsity: the share that is masked, in [0, 1); 0 masks nothing. scope: "layer", every weight by itself, or "global", one c for all.
    mode: "dynamic", c follows the weights; "threshold", c stays what it is now; "fixed", the mask stays what it is now.
    every: training passes of the model from one update to the next; 1, as published, decides before each pass. layers: names or
    modules; None for every spectral layer. A masked entry gets no gradient, yet moves with its eigenvalues and may return.

    Call it after `spectralize`; the optimizer stays valid. `set_sparsity` lets a schedule drive it, `fold` ends it. Masks are
    decided when `model` itself is called, not one of its parts.

    Raises UsageError, with nothing changed, for values out of range, unknown names, layers that are plain or masked already.
    Source: Chicchi et al., arXiv 2106.09021 (per layer, every=1, dynamic and threshold); the rest is ours.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"sparsify: expected an nn.Module, got {type(model).__name__}.")
    _check_sparsity("sparsify", sparsity)
    for name, value, known in (("scope", scope, SCOPES), ("mode", mode, MODES)):
        if value not in known:
            raise UsageError(f"sparsify: unknown {name} {value!r}.{suggest(str(value), known)}")
    if not isinstance(every, int) or every < 1:
        raise UsageError(f"sparsify: every is a number of training passes, at least 1; got {every!r}.")
    chosen = list(_chosen(model, layers).values())
    for layer in chosen:
        layer.spectrum.mask = Mask(layer.weight, sparsity)
    sparsifier = Sparsifier(chosen, scope, mode, every)
    sparsifier.set_sparsity(sparsity)
    if mode == "dynamic":
        sparsifier.refresh()
    model.register_forward_pre_hook(sparsifier)
    return model


def set_sparsity(model: nn.Module, sparsity: float) -> None:
    """Give every masked layer of `model` another sparsity in [0, 1): it holds from the next update, in "threshold" and "fixed" at once.

    Raises UsageError for values out of range and models without masks.
    """
    _check_sparsity("set_sparsity", sparsity)
    for sparsifier in _found("set_sparsity", model):
        sparsifier.set_sparsity(sparsity)


def refresh_masks(model: nn.Module) -> None:
    """Decide every mask of `model` now, for its weights and its sparsity as they are; meant for the end of a schedule.

    Raises UsageError for models without masks.
    """
    for sparsifier in _found("refresh_masks", model):
        sparsifier.refresh()


@dataclass(frozen=True)
class Topology:
    """How the mask of one layer moved.

    entries: of the weight, kept: not masked now. updates: that changed the mask. returned: masked entries that were kept again, over
    all updates; last_return_rate: their share of the masked ones in the last update, return_rate: over all. explored: share of the
    entries that were ever kept.
    """

    entries: int
    kept: int
    updates: int
    returned: int
    return_rate: float
    last_return_rate: float
    explored: float


def topology(model: nn.Module) -> dict[str, Topology]:
    """How the masks of `model` moved so far, by layer; empty without masks. Units that left take their entries along."""
    masks = {name: layer.spectrum.mask for name, layer in spectral_layers(model).items()}
    return {name: _topology(mask) for name, mask in masks.items() if mask is not None}


def _topology(mask: Mask) -> Topology:
    updates, masked, returned, last_masked, last_returned = mask.tally.tolist()
    return Topology(
        entries=mask.kept.numel(),
        kept=int(mask.kept.sum()),
        updates=updates,
        returned=returned,
        return_rate=returned / max(masked, 1),
        last_return_rate=last_returned / max(last_masked, 1),
        explored=float(mask.ever.double().mean()),
    )


def _chosen(model: nn.Module, layers: Iterable[str | nn.Module] | None) -> dict[str, SpectralLayer]:
    known = spectral_layers(model)
    if isinstance(layers, (str, nn.Module)):
        raise UsageError("sparsify: layers must be a list of modules or their names, got a single one; write layers=[…].")
    names = {layer: name for name, layer in known.items()}
    chosen = dict(known) if layers is None else {}
    for layer in layers or ():
        name = names.get(layer) if isinstance(layer, SpectralLayer) else layer
        if name not in known:
            raise UsageError(f"sparsify: {layer!r} is no spectral layer of the model.{suggest(str(name), known)}")
        chosen[str(name)] = known[str(name)]
    if not chosen:
        raise UsageError(f"sparsify: {type(model).__name__} has no spectral layer to mask; call spectralize first.")
    for name, spectral in chosen.items():
        if spectral.spectrum.mask is not None:
            raise UsageError(f"sparsify: {name or 'the model'} is masked already; set_sparsity changes how much, fold ends it.")
    return chosen


def _found(caller: str, model: nn.Module) -> list[Sparsifier]:
    found = sparsifiers(model)
    if not found:
        raise UsageError(f"{caller}: {type(model).__name__} has no masks; call sparsify first.")
    return found


def _check_sparsity(caller: str, sparsity: float) -> None:
    if not isinstance(sparsity, (int, float)) or not 0 <= sparsity < 1:
        raise UsageError(f"{caller}: sparsity is the share of masked entries, in [0, 1); got {sparsity!r}.")
