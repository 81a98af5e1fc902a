"""How much each unit of a network of spectral layers matters: the relevance of its nodes, gathered group by group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from parsinet.errors import UsageError
from parsinet.spectral import SpectralLayer, eigenvalue_relevance, relevance, spectral_layers
from parsinet.structure import Structure

Rows = Iterator[tuple[str, Tensor, Tensor]]
"""Group, the unit each row belongs to (-1 for none), the relevance of each row."""


def node_scores(model: nn.Module, structure: Structure, kind: str) -> dict[str, Tensor]:
    """Per group [units] the score of every unit, by one of `SCORES`; groups without a spectral layer have none.

    A unit with several rows, such as a residual stream's, gets the root of the sum of their squares.
    """
    return SCORES[kind](model, structure)


def _receivers(model: nn.Module, structure: Structure) -> dict[str, Tensor]:
    """r_i = ‖(λ_in − λ_out,i) ∘ φ_i‖₂ of the maps that make the unit: the norm of its incoming weights."""
    return _gathered(structure, _made(model, structure, relevance))


def _senders(model: nn.Module, structure: Structure) -> dict[str, Tensor]:
    """The same of the maps that read the unit: the norm of its outgoing weights."""
    return _gathered(structure, _read(model, structure))


def _both(model: nn.Module, structure: Structure) -> dict[str, Tensor]:
    """Incoming norm times outgoing norm: does not change if a rectified unit is scaled up and its readers down."""
    made, read = _receivers(model, structure), _senders(model, structure)
    return {name: made[name] * read[name] if name in made and name in read else {**made, **read}[name] for name in {**made, **read}}


def _eigenvalues(model: nn.Module, structure: Structure) -> dict[str, Tensor]:
    """|λ_i| as published: of maps that train one set, the receivers'."""
    return _gathered(structure, _made(model, structure, _of_receivers))


def _of_receivers(layer: nn.Module) -> Tensor:
    """`eigenvalue_relevance`; UsageError for maps that train the senders' set."""
    values = eigenvalue_relevance(layer)
    if isinstance(layer, SpectralLayer) and not layer.spectrum.lambda_out.dim():
        raise UsageError("Spectral: score 'eigenvalue' ranks what receives, and variant 'one-set-in' trains what sends; use 'outgoing'.")
    return values


SCORES: Mapping[str, Callable[[nn.Module, Structure], dict[str, Tensor]]] = {
    "relevance": _receivers,
    "outgoing": _senders,
    "both": _both,
    "eigenvalue": _eigenvalues,
}


def _made(model: nn.Module, structure: Structure, score: Callable[[nn.Module], Tensor]) -> Rows:
    for name, layer in spectral_layers(model).items():
        owners = _row_owners(structure, name, layer)
        if owners:
            rows = score(layer).detach()
            yield from ((group, owner, rows) for group, owner in owners.items() if len(owner) == len(rows))


def _read(model: nn.Module, structure: Structure) -> Rows:
    layers = spectral_layers(model)
    for group in structure.removable():
        for reader in structure.readers(group.name):
            if reader.module in layers:
                rows = relevance(layers[reader.module], "senders").detach()
                if len(rows) == len(reader.owners):
                    yield group.name, reader.owners, rows


def _row_owners(structure: Structure, name: str, layer: SpectralLayer) -> dict[str, Tensor]:
    """The units the layer's receivers belong to, read off whichever of its tensors counts receivers."""
    prefix = f"{name}." if name else ""
    rows = 1 if isinstance(layer, _ConvTransposeNd) else 0
    places = [("spectrum.lambda_out", 0), ("bias", 0), *((f"spectrum.basis.{part}", rows) for part in ("phi", "U", "R"))]
    for tensor, dim in places:
        owners = structure.owners(prefix + tensor, dim)
        if owners:
            return owners
    return {}


def _gathered(structure: Structure, rows: Rows) -> dict[str, Tensor]:
    squares: dict[str, Tensor] = {}
    removable = {group.name: group.size for group in structure.removable() if group.exact}
    for name, owner, values in rows:
        if name in removable:
            total = squares.setdefault(name, torch.zeros(removable[name], dtype=torch.float64))
            real = owner >= 0
            total.index_add_(0, owner[real], values.double().cpu().square()[real])
    return {name: total.sqrt() for name, total in squares.items()}
