"""Constants of a graph that could have been part of the model: plain attributes, and weights of layers in plain lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn


def why_fixed(model: nn.Module, target: str, constant: object) -> str:
    """What is told of units that meet this constant; empty where its maker is not known.

    target: how the graph calls it. constant: its value, anything but a tensor if the graph holds none.
    """
    if _is_attribute(model, target):
        return f"meets {target!r}, a tensor that is no buffer"
    if isinstance(constant, Tensor) and constant.numel():
        for name, weight in _unregistered(model):
            if weight.shape == constant.shape and weight.data_ptr() == constant.data_ptr():
                return f"meets {name!r}, a weight in a plain list or dict"
    return ""


def _unregistered(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Weights of layers that modules keep in plain lists, tuples and dicts, where no optimizer and no state dict finds them."""
    for path, module in model.named_modules():
        for attribute, held in vars(module).items():
            for key, layer in () if attribute.startswith("_") else _items(held):
                if isinstance(layer, nn.Module):
                    prefix = ".".join(filter(None, (path, attribute, str(key))))
                    yield from ((f"{prefix}.{name}", weight) for name, weight in layer.named_parameters())


def _items(held: Any) -> Iterable[tuple[object, object]]:
    if isinstance(held, dict):
        return held.items()
    return enumerate(held) if isinstance(held, list | tuple) else ()


def _is_attribute(model: nn.Module, target: str) -> bool:
    """Whether a constant of the graph is a plain attribute of a module (`self.positions = …`)."""
    path, _, name = target.rpartition(".")
    return path in dict(model.named_modules()) and name in model.get_submodule(path).__dict__
