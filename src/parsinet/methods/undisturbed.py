"""Evaluations that leave no trace: buffers and attributes of the network, and of what runs around it, and random numbers are as before."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from parsinet.draws import kept
from parsinet.structure.copies import TORCHS

HOOKED = "Using `torch.compile.module.` when there are global hooks"
"""What torch says where compiled networks run under a hook on all modules; this one may well see a module twice."""


class Surroundings:
    """What runs around the network in an evaluation of the loss: a head, say, where the network is the backbone.

    Nothing tells of it beforehand. It is found as it runs for the first time, by a hook on all modules, and known from then on.
    """

    def __init__(self) -> None:
        self._known: WeakSet[nn.Module] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Around a copy may be something else."""
        return Surroundings().__dict__

    @contextmanager
    def kept(self, model: nn.Module) -> Iterator[None]:
        """Afterwards buffers and attributes of what runs around the model are as they were."""
        if self._known is not None:
            with _kept(self._known):
                yield
            return
        inside, found, before = set(model.modules()), WeakSet[nn.Module](), _State()

        def see(module: nn.Module, args: Any) -> None:
            if torch.compiler.is_compiling():
                return  # what is being compiled is part of a module that is called, and was seen then
            for part in module.modules():
                if part not in inside and part not in found:
                    found.add(part)
                    before.add(part)

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", HOOKED)
            handle = register_module_forward_pre_hook(see)
            try:
                yield
            finally:
                handle.remove()
                before.put_back()
        self._known = found


@contextmanager
def undisturbed(model: nn.Module, around: Surroundings | None = None) -> Iterator[None]:
    """Within, the model may run; afterwards its buffers, what its attributes are bound to and the random numbers of torch, Python and NumPy
    are as they were. What is changed within an attribute (a list that grows) stays so.

    around: where more than the model runs.
    """
    with kept(model), _kept(model.modules()), around.kept(model) if around else nullcontext():
        yield


class _State:
    """Buffers as they were, which tensors, None among them, and what they held; and what other attributes were bound to."""

    def __init__(self) -> None:
        self._held: list[tuple[dict[str, Tensor | None], str, Tensor | None, Tensor | None]] = []
        self._bound: list[tuple[dict[str, object], dict[str, object]]] = []

    def add(self, module: nn.Module) -> None:
        """Remember those of one module, without its parts."""
        self._bound.append((module.__dict__, _attributes(module.__dict__)))
        for name, buffer in module._buffers.items():
            self._held.append((module._buffers, name, buffer, None if buffer is None else buffer.clone()))

    def put_back(self) -> None:
        """All of them as they were."""
        for table, name, buffer, values in self._held:
            if buffer is not None and values is not None:
                buffer.copy_(values)
            table[name] = buffer
        for attributes, bound in self._bound:
            for name in _attributes(attributes).keys() - bound.keys():
                del attributes[name]
            attributes.update(bound)


def _attributes(table: Mapping[str, object]) -> dict[str, object]:
    """What a module's forward may keep: a hidden state, a count of calls."""
    return {name: value for name, value in table.items() if name not in TORCHS}


@contextmanager
def _kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    before = _State()
    for module in modules:
        before.add(module)
    try:
        yield
    finally:
        before.put_back()
