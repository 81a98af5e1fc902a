"""Which units a network has, before anything is trained."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from parsinet import structure
from parsinet.training.datasets import load_data
from parsinet.training.networks import check_output, fresh_model
from parsinet.training.recipe import Recipe


@dataclass(frozen=True)
class UnitRow:
    """One group of units. parameters: entries of the tensors that get smaller when a unit leaves. reason: why it must stay."""

    name: str
    size: int
    parameters: int
    exact: bool
    removable: bool
    reason: str

    def plain(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Inspection:
    """A network's groups in the order in which it computes them. parameters: of the whole network; removable: those of them that
    lose entries when units of removable groups leave, each counted once. blocks: its residual branches, whose parameters lie in groups
    as well."""

    model: str
    parameters: int
    removable: int
    groups: tuple[UnitRow, ...]
    blocks: tuple[UnitRow, ...] = ()

    @property
    def share(self) -> float:
        """Of all parameters, the fraction that sits in removable groups."""
        return self.removable / self.parameters if self.parameters else 0.0

    def plain(self) -> dict[str, Any]:
        """Plain values for JSON; `blocks` only where there are any."""
        rows = [row.plain() for row in self.groups]
        blocks = {"blocks": [row.plain() for row in self.blocks]} if self.blocks else {}
        return {"model": self.model, "parameters": self.parameters, "removable_share": round(self.share, 4), "groups": rows, **blocks}


def inspect(recipe: Recipe, input_shape: Sequence[int] | None = None, classes: int = 10) -> Inspection:
    """The groups of the recipe's model on its data; with `input_shape` on random numbers of that shape and `classes` outputs instead.

    Errors: those of the parts; RunError if the model does not take the inputs.
    """
    inputs, expected, outputs = _inputs(recipe, input_shape, classes)
    model = fresh_model(recipe, inputs, outputs)
    advice = "" if input_shape is None else f"Say how many it has: --classes, here {classes}."
    check_output(model, inputs, expected, recipe, advice)
    traced = structure.trace(model, inputs, ignored_layers=recipe.ignored_layers, inputs=recipe.inputs, blocks=True)
    sizes = {name: tensor.numel() for name, tensor in (*model.named_parameters(remove_duplicate=False), *model.named_buffers())}

    def rows(groups: Iterable[structure.UnitGroup]) -> tuple[UnitRow, ...]:
        return tuple(
            UnitRow(group.name, group.size, sum(sizes[name] for name in group.parameters), group.exact, group.removable, group.reason)
            for group in groups
        )

    touched = {name for group in traced.removable() for name in group.parameters}
    own = {id(parameter): parameter.numel() for parameter in model.parameters()}
    named = dict(model.named_parameters(remove_duplicate=False))
    removable = {id(named[name]): own[id(named[name])] for name in touched if name in named}
    return Inspection(recipe.model.name, sum(own.values()), sum(removable.values()), rows(traced.groups), rows(traced.blocks))


def _inputs(recipe: Recipe, input_shape: Sequence[int] | None, classes: int) -> tuple[Tensor, tuple[int, ...], int]:
    """Two examples, the shape the model's output must have, the number of classes."""
    if input_shape is not None:
        numbers = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))
        return numbers.to(getattr(torch, recipe.dtype)), (2, classes), classes
    dataset = load_data(recipe.data, recipe.dtype)
    targets = dataset.train.targets[:2]
    return dataset.train.inputs[:2], (*targets.shape, dataset.num_classes), dataset.num_classes
