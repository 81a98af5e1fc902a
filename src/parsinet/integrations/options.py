"""What every adapter takes and checks: the pruner's options, the method's parameter groups, the gradient of its penalty."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import torch
from torch import Tensor, nn

from parsinet.errors import UsageError
from parsinet.methods import Method
from parsinet.methods.door import unmet
from parsinet.methods.folds import FoldInputs
from parsinet.structure.folding import Kind
from parsinet.structure.own import Hints
from parsinet.structure.propagate import Rules


class PrunerOptions(TypedDict, total=False):
    """Options of `Pruner` that an adapter hands on, with the same meaning and default."""

    ignored_layers: Iterable[str | nn.Module]
    round_to: int
    inputs: bool
    removable_outputs: bool
    rules: Rules | None
    hints: Hints | None
    fold: Kind | None
    fold_inputs: FoldInputs | None
    approximate: bool


def check_options(who: str, method: Method, options: PrunerOptions) -> None:
    """UsageError for what is no method, and for an option no pruner takes."""
    if isinstance(method, type) or not hasattr(method, "prepare"):
        what = f"the class {method.__name__}" if isinstance(method, type) else f"a {type(method).__name__}"
        raise UsageError(f"{who}: method must be a method such as parsinet.methods.Gates(price=1e-3), got {what}.")
    unknown = sorted(options.keys() - PrunerOptions.__annotations__.keys())
    if unknown:
        raise UsageError(f"{who}: takes no {unknown[0]!r}. Of a Pruner's options: {', '.join(PrunerOptions.__annotations__)}.")


def check_groups(who: str, method: Method, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """UsageError where the optimizer lacks what the method wants of it, such as a learning rate of eigenvalues."""
    if wanted := unmet(method, network, [optimizer]):
        raise UsageError(f"{who}: {wanted}")


def add_gradient(penalty: Tensor | float) -> None:
    """Add the gradient of a method's penalty to those of the loss: as if both had been one sum, up to the order of sums."""
    if isinstance(penalty, Tensor) and penalty.requires_grad:
        with torch.enable_grad():
            penalty.backward()  # type: ignore[no-untyped-call]
