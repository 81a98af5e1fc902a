"""What a network returns: which of its entries are units that may leave, and what is left of results once these are gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.structure.export import Exported
from parsinet.structure.plan import Plan
from parsinet.structure.propagate import outputs
from parsinet.structure.tracing import Tracing


def note_returned(tracing: Tracing, exported: Exported, values: Mapping[str, Any]) -> None:
    """Entries of the results may leave. Whoever calls the network reads them, where no gate and no weight can stand in for silence."""
    named = _labels(tracing.model)
    for number, value in enumerate(outputs(exported, values)):
        for d, axis in enumerate(value.axes):
            if axis.tracked and axis.size == named:
                tracing.labels.freeze(
                    axis, "the configuration names what the network returns (`id2label`): entries would take others' names"
                )
            elif axis.tracked:
                tracing.returned[number, d] = axis
                tracing.blind.append(axis)


def _labels(model: nn.Module) -> int | None:
    """How many labels a classifier of transformers has; its configuration names them."""
    config = getattr(model, "config", None)
    return getattr(model, "num_labels", None) if hasattr(config, "id2label") else None


def kept_entries(plan: Plan, results: Sequence[Tensor]) -> list[Tensor]:
    """Of the tensors a network returns the entries that it still returns without the plan's units.

    An axis of another length than was traced (training may return something else than evaluation) stays whole.
    """
    kept = list(results)
    for number, d, mask in _masks(plan, [tensor.shape for tensor in results]):
        kept[number] = kept[number].index_select(d, torch.tensor(mask).nonzero()[:, 0].to(kept[number].device))
    return kept


def kept_shapes(plan: Plan, shapes: Sequence[torch.Size]) -> list[torch.Size]:
    """The same of their shapes."""
    left = [list(shape) for shape in shapes]
    for number, d, mask in _masks(plan, shapes):
        left[number][d] = sum(mask)
    return [torch.Size(shape) for shape in left]


def _masks(plan: Plan, shapes: Sequence[torch.Size]) -> Iterator[tuple[int, int, tuple[bool, ...]]]:
    for (number, d), mask in plan.returned.items():
        if number < len(shapes) and shapes[number][d : d + 1] == (len(mask),):
            yield number, d, mask
