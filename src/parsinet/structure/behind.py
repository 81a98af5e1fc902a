"""Where a constant goes that a module without bias ought to add: into the batch norm directly behind it, or nowhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from parsinet.structure.reading import channels_first
from parsinet.structure.running import Call, close

NOWHERE = ""
"""Whatever the module adds per channel is gone behind it: a norm with statistics of the example subtracts it."""


def norm_behind(model: nn.Module, name: str, change: Tensor, call: Call) -> str | None:
    """The running mean that stands for the bias module `name` lacks; NOWHERE if none is needed, None if there is none.

    A norm behind the module computes (y − mean)/std, so that y + change with `mean` is y with `mean − change`. That holds only if
    nothing else reads y and the norm reads nothing else; both are tried on a run, with changes of the size of y, of both signs.
    model: a copy in evaluation mode.
    """
    module = model.get_submodule(name)
    before, norms = _norms(model, module, call)
    probe = change.new_ones(change.shape) * max(1.0, float(change.abs().max()))
    added = [_with_added(model, module, sign * probe, call) for sign in (1, -1)]
    if all(close(result, before) for result in added):
        return NOWHERE
    for path in norms:
        mean = model.get_submodule(path).running_mean
        if isinstance(mean, Tensor) and len(mean) == len(change):
            moved = [_with_moved(model, mean, -sign * probe, call) for sign in (1, -1)]
            if all(close(one, other) for one, other in zip(moved, added, strict=True)):
                return f"{path}.running_mean"
    return None


def _norms(model: nn.Module, module: nn.Module, call: Call) -> tuple[list[Tensor], list[str]]:
    """A run's outputs, and the batch norms that were given the very tensor the module returned."""
    emitted: list[Any] = []
    found: list[str] = []
    with contextlib.ExitStack() as stack:
        stack.callback(module.register_forward_hook(lambda _module, _args, output: emitted.append(output)).remove)
        for path, norm in model.named_modules():
            if isinstance(norm, _BatchNorm):
                stack.callback(norm.register_forward_pre_hook(_noting(path, emitted, found)).remove)
        return call.on(model), found


def _noting(path: str, emitted: list[Any], found: list[str]) -> Any:
    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        if any(args[0] is output for output in emitted):
            found.append(path)

    return note


def _with_added(model: nn.Module, module: nn.Module, change: Tensor, call: Call) -> list[Tensor]:
    handle = module.register_forward_hook(lambda _module, _args, output: output + channels_first(module, change))
    try:
        return call.on(model)
    finally:
        handle.remove()


def _with_moved(model: nn.Module, mean: Tensor, change: Tensor, call: Call) -> list[Tensor]:
    with _moved(mean, change):
        return call.on(model)


@contextlib.contextmanager
def _moved(mean: Tensor, change: Tensor) -> Iterator[None]:
    saved = mean.clone()
    mean.add_(change.to(mean))
    try:
        yield
    finally:
        mean.copy_(saved)
