"""All or nothing: a removal that fails half-way leaves model and optimizers exactly as they were."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.structure.cutting import resize_


@contextlib.contextmanager
def all_or_nothing(model: nn.Module, tensors: Iterable[Tensor], optimizers: Iterable[torch.optim.Optimizer]) -> Iterator[None]:
    """Put everything a removal touches back if the context is left by an exception (Ctrl-C included).

    tensors: those that get new data. Nothing is copied: a removal replaces data, gradients, state tensors and attributes and
    writes into none of them, so it is enough to hold the old ones.
    """
    optimizers = list(optimizers)
    data = [(tensor, tensor.data, tensor.grad) for tensor in tensors]
    classes = [(module, module.__class__) for module in model.modules()]
    contents = [(mapping, dict(mapping)) for module in model.modules() for mapping in _mappings(module)]
    states = [(optimizer.state, tensor) for optimizer in optimizers for tensor, _, _ in data if tensor in optimizer.state]
    saved = [(state, tensor, state[tensor], dict(state[tensor])) for state, tensor in states]
    held: list[dict[Any, Any]] = []
    for optimizer in optimizers:
        held.extend([optimizer.state, *optimizer.param_groups])
    groups = [(table, dict(table)) for table in held]
    try:
        yield
    except BaseException:
        for tensor, values, gradient in data:
            resize_(tensor, values, gradient)
        for module, kind in classes:
            module.__class__ = kind
        for mapping, content in (*contents, *groups):
            mapping.clear()
            mapping.update(content)
        for state, tensor, entry, content in saved:
            entry.clear()
            entry.update(content)
            state[tensor] = entry
        raise


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C, and SIGTERM where the program handles it, wait until the context is left: what is done here is done as a whole.

    Outside the main thread neither arrives.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[tuple[int, FrameType | None]] = []

    def wait(number: int, frame: FrameType | None) -> None:
        arrived.append((number, frame))

    handlers = {number: handler for number in (signal.SIGINT, signal.SIGTERM) if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, wait)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for received, frame in arrived:
            handlers[signal.Signals(received)](received, frame)


def _mappings(module: nn.Module) -> list[dict[str, Any]]:
    """What a module keeps its attributes in, and what its configuration does (Hugging Face)."""
    configuration = getattr(module.__dict__.get("config"), "__dict__", None)
    own: list[dict[str, Any]] = [module.__dict__, module._parameters, module._buffers, module._modules]
    return own if configuration is None else [*own, configuration]
