"""Capturing a network without leaving a trace in it, in torch, or on the screen."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.distributions import Distribution

from parsinet.structure.calling import results

OWN = frozenset(vars(nn.Module()))
"""Tables that torch keeps in every module and looks after itself."""

HOOKS = frozenset(name for name in OWN if name.endswith(("hooks", "hooks_with_kwargs", "hooks_always_called")))
"""Those of hooks, which a pass may put there, and note that it has (transformers, where hidden states are asked for)."""

CHATTY = ("torch.fx.experimental.symbolic_shapes", "torch._subclasses.fake_tensor")
"""Loggers of torch's that speak while a network is captured."""


@contextlib.contextmanager
def secluded(model: nn.Module) -> Iterator[None]:
    """The model gives its results alone and is afterwards as it was; neither torch's distributions nor its loggers have a say."""
    with _results_only(model), _as_before(model), unvalidated(), _quiet():
        yield


@contextlib.contextmanager
def _results_only(model: nn.Module) -> Iterator[None]:
    """Caches are not exported: their classes are unknown to torch.export, and their shapes bind nothing."""
    handle = model.register_forward_hook(lambda _module, _args, output: results(output))
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _as_before(model: nn.Module) -> Iterator[None]:
    """What modules keep from their forward passes (anchors, masks, the shape they were made for) would be torch's stand-ins afterwards."""
    kept = [
        (module.__dict__, {name: _content(value) for name, value in module.__dict__.items() if name not in OWN or name in HOOKS})
        for module in model.modules()
    ]
    try:
        yield
    finally:
        for table, before in kept:
            for name in [name for name in table if name not in OWN and name not in before]:
                del table[name]
            for name, (value, content) in before.items():
                table[name] = value
                if content is not None:
                    value.clear()
                    (value.extend if isinstance(value, list) else value.update)(content)


def _content(value: Any) -> tuple[Any, Any]:
    """A value and, where it is a plain container that a forward pass can write to, what is in it."""
    return value, value.copy() if type(value) in (list, dict, set, OrderedDict) else None


@contextlib.contextmanager
def unvalidated() -> Iterator[None]:
    """Torch's distributions look at the values of their parameters."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Torch prints the graph it had so far, or where it was, beside an error that says what matters."""
    logs = [logging.getLogger(name) for name in CHATTY]
    before = [log.disabled for log in logs]
    try:
        for log in logs:
            log.disabled = True
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, disabled in zip(logs, before, strict=True):
            log.disabled = disabled
