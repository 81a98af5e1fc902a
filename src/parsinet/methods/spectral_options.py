"""What the spectral method accepts, the groups it may shrink and the parameter groups it makes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import nn

from parsinet import spectral
from parsinet.errors import StructureError, UsageError, suggest
from parsinet.methods.nodes import node_scores
from parsinet.structure import Structure


def eigenvalues_of(model: nn.Module) -> list[nn.Parameter]:
    """All trained eigenvalues."""
    return [p for layer in spectral.spectral_layers(model).values() for p in layer.spectrum.parameters(recurse=False)]


def parameter_groups(
    model: nn.Module, eigenvalue_decay: float, basis_decay: float | None, eigenvalue_lr: float | None
) -> list[dict[str, Any]]:
    """Eigenvalues and eigenvectors with their own decay; other matrices with the optimizer's; biases and norms without."""
    eigenvalues, bases = eigenvalues_of(model), spectral.basis_parameters(model)
    special = {id(p) for p in (*eigenvalues, *bases)}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in special]
    rate = {} if eigenvalue_lr is None else {"lr": eigenvalue_lr}
    decay = {} if basis_decay is None else {"weight_decay": basis_decay}
    groups: list[dict[str, Any]] = [
        {"params": eigenvalues, "weight_decay": eigenvalue_decay, **rate},
        {"params": bases, **decay},
        {"params": [p for p in rest if p.dim() > 1]},
        {"params": [p for p in rest if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def groups_to_shrink(model: nn.Module, structure: Structure, score: str, wanted: Sequence[str] | None, removes: bool) -> list[str]:
    """Names of the groups a removal may take units from: `wanted`, or all that have a score.

    Raises StructureError for wanted groups that cannot shrink, UsageError where there is none and units are to leave.
    """
    scored = node_scores(model, structure, score) if removes or wanted else {}
    for name in wanted or ():
        if name not in scored:
            reason = structure.group(name).reason or "no spectral layer makes its units"
            raise StructureError(f"Spectral: group {name!r} cannot shrink: {reason}.")
    if wanted is not None and not wanted:
        raise UsageError("Spectral: groups names no group; leave it out for all of them, or give share=0 to train only.")
    if removes and not scored:
        raise UsageError("Spectral: no group of this network can lose units; `parsinet inspect` says why. Give share=0 to train only.")
    return list(scored if wanted is None else wanted)


def known(*choices: tuple[str, str, Collection[str]]) -> None:
    """UsageError for a name that is none of those there are; (option, its value, the names) each."""
    for name, value, names in choices:
        if not isinstance(value, str) or value not in names:
            raise UsageError(f"Spectral: there is no {name} {value!r}.{suggest(str(value), names)}")


def not_negative(**rates: float | None) -> None:
    """UsageError for numbers below 0 or without bound; None is none."""
    for name, rate in rates.items():
        if rate is not None and not 0 <= rate < float("inf"):
            raise UsageError(f"Spectral: {name} must be ≥ 0 and finite, got {rate}.")


def usual_initialiser(variant: str) -> str:
    """Where λ_in is held it is held at 0, as published; all keep the network's function."""
    return "gate" if variant in ("one-set", "full-one-set") else "keep"
