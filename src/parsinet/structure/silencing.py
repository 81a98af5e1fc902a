"""The same units made to contribute nothing, shapes unchanged: the reference every removal is held against."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from parsinet.structure.blocks_removal import check_present
from parsinet.structure.cutting import rescaled
from parsinet.structure.plan import Plan
from parsinet.structure.removal import check_fit, check_plan, selections_of, tensors_of


@dataclass(frozen=True)
class _Mute:
    """A forward hook: zeros instead of what the module returned, or of one element of it."""

    element: int | None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self.element is None:
            return torch.zeros_like(output)
        return tuple(torch.zeros_like(part) if k == self.element else part for k, part in enumerate(output))


@contextlib.contextmanager
def silence(model: nn.Module, plan: Plan) -> Iterator[nn.Module]:
    """Within the context whoever reads a leaving unit reads zero: the reading slices of the parameters are zero.

    Where two activations meet (query · key) there is no reading parameter; there the producing slices are zero. The module that makes
    what a leaving block adds returns zeros. Parameters are restored bitwise on exit; do not train inside.

    Raises ArgumentTypeError for what is no plan, StructureError if it does not fit the model's present shapes, as `shrink` does.
    """
    check_plan("silence", plan)
    tensors = tensors_of(model)
    check_fit(plan, {**tensors, **selections_of(model, plan)})
    check_present(model, plan.absent, plan.bare)
    touched = [*(name for name, _ in plan.silent), *(norm.g for norm in plan.norms)]
    saved = {name: tensors[name].detach().clone() for name in touched}
    try:
        with torch.no_grad():
            for norm in plan.norms:
                kept = {d: indices for (name, d), indices in plan.tensors.items() if name == norm.v and (name, d) in plan.silent}
                tensors[norm.g].copy_(rescaled(norm, tensors, kept))
            for (name, dim), indices in plan.silent.items():
                tensors[name].index_fill_(dim, torch.tensor(indices, device=tensors[name].device), 0)
        with contextlib.ExitStack() as stack:
            for muted in plan.blocks.values():
                stack.callback(model.get_submodule(muted.module).register_forward_hook(_Mute(muted.element)).remove)
            yield model
    finally:
        with torch.no_grad():
            for name, tensor in saved.items():
                tensors[name].copy_(tensor)
