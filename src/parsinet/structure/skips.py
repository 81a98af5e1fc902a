"""Plain layers that are given a skip: y = f(x) + P(x), f the layer with its norm and activation, so that f can leave whole."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from parsinet.errors import UsageError, suggest
from parsinet.structure.blocks_absent import Absent
from parsinet.structure.blocks_calls import LAYERS
from parsinet.structure.blocks_graph import Graph
from parsinet.structure.calling import ExampleInputs
from parsinet.structure.copies import copy_for_tracing
from parsinet.structure.export import export
from parsinet.structure.origins import first_line
from parsinet.structure.record import StructureRecord, record_of
from parsinet.structure.running import close, in_double
from parsinet.structure.sections import Section, section_of

Start = Literal["identity", "same"]
Generator = torch.Generator | None
POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)


class Skipped(nn.Module):
    """y = f(x) + P(x): a section of layer, norm and activation, and a linear map beside it; P(x) alone once f has left.

    section: the parts of f in their order. shortcut: P, a linear map without bias, `nn.Identity` where it is x itself.
    """

    def __init__(self, section: nn.Sequential, shortcut: nn.Module) -> None:
        super().__init__()
        self.section, self.shortcut = section, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[…] as the section returns it."""
        y: Tensor = self.shortcut(x)
        return y if isinstance(self.section, Absent) else self.section(x) + y


def add_skips(
    model: nn.Module,
    example_inputs: ExampleInputs,
    layers: bool | Iterable[str] = True,
    *,
    start: Start = "identity",
    generator: Generator = None,
) -> tuple[str, ...]:
    """Give layers of a plain network a skip, in place: layer ℓ with its norm and activation, f, becomes `Skipped`, y = f(x) + P(x).

    layers: names of linear layers and convolutions, or all that fit (True). A layer fits if at most a norm and then an activation
    follow it, each a module of its own that is called once, and nothing else reads what is between them. The section moves to
    the layer's place (`fc1` becomes `fc1.section.layer`, `fc1.section.norm`, …); where norm and activation were nothing happens any more.

    P is linear and has no bias: nn.Linear; for a convolution one of 1x1 with its stride, behind an average pooling of its
    geometry where it has no padding that makes up for its kernel. start: "identity": P is x itself where f keeps the shape, else a map with
    orthonormal rows or columns, drawn from `generator` (None: torch's own); "same": a trained map everywhere that starts at zero, so
    that the network computes what it did.

    Returns the names of the layers. The f are blocks of `trace(..., blocks=True)`, which `Gates(blocks=True)` closes. Raises, with the
    model unchanged, UsageError for a layer that does not fit and where none does, or where units have left already; StructureError if
    torch.export cannot capture the model. Source: ours, after the idea of residual connections around sections in arXiv 2406.04549.
    """
    if start not in ("identity", "same"):
        raise UsageError(f"add_skips: start must be 'identity' or 'same', got {start!r}.")
    if record_of(model) != StructureRecord():
        raise UsageError("add_skips: units have left this network already; give it skips before.")
    chosen = _chosen(model, example_inputs, layers)
    _prove(model, example_inputs, chosen)
    for section in chosen:
        layer = model.get_submodule(section.layer)
        _wrap(model, section, _shortcut(layer, start, _from(start, generator)))
    return tuple(section.layer for section in chosen)


def _chosen(model: nn.Module, example_inputs: ExampleInputs, layers: bool | Iterable[str]) -> list[Section]:
    """The sections that begin with these layers, in the order in which the model lists them."""
    known = [path for path, module in model.named_modules() if path and type(module) in LAYERS]
    names = _names(known, layers)
    graph = Graph(export(copy_for_tracing(model, share=True), example_inputs))
    found, reasons = {}, {}
    for name in names:
        try:
            found[name] = _fitting(model, graph, name)
        except UsageError as error:
            reasons[name] = str(error)
    if reasons and layers is not True:
        name, reason = next(iter(reasons.items()))
        raise UsageError(f"add_skips: {name} cannot be given a skip: {reason}.")
    if not found:
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "it has no linear layer and no convolution"
        raise UsageError(f"add_skips: no layer of this network can be given a skip ({told}).")
    return [found[name] for name in known if name in found]


def _names(known: Sequence[str], layers: bool | Iterable[str]) -> list[str]:
    if layers is True:
        return list(known)
    if not layers or isinstance(layers, str):
        raise UsageError(f"add_skips: layers must be True or a list of names, got {layers!r}.")
    names = list(layers)
    for name in names:
        if name not in known:
            raise UsageError(f"add_skips: {name!r} is no linear layer or convolution of the network.{suggest(str(name), known)}")
    return names


def _fitting(model: nn.Module, graph: Graph, name: str) -> Section:
    owners = [".".join(name.split(".")[:depth]) for depth in range(name.count(".") + 1)]
    if any(isinstance(model.get_submodule(owner), Skipped) for owner in owners):
        raise UsageError("it has a skip")
    layer = model.get_submodule(name)
    if isinstance(layer, _ConvNd):
        _geometry(layer)
    return section_of(model, graph, name)


def _prove(model: nn.Module, example_inputs: ExampleInputs, chosen: Sequence[Section]) -> None:
    """UsageError unless a copy with shortcuts of zero computes what the model does."""
    twin, calls = in_double(copy_for_tracing(model), iter([example_inputs]))
    call = next(calls)
    expected = call.on(twin)
    for section in chosen:
        _wrap(twin, section, _shortcut(twin.get_submodule(section.layer), "same", nn.init.zeros_))
    try:
        actual = call.on(twin)
    except Exception as error:
        raise UsageError(f"add_skips: the network does not run with its layers wrapped ({first_line(error)}).") from error
    if not close(actual, expected):
        raise UsageError("add_skips: the network uses its layers in other ways than by calling them, and would compute something else.")


def _wrap(model: nn.Module, section: Section, shortcut: nn.Module) -> None:
    """Put the section's modules into one in the layer's place, and nothing into theirs."""
    parts = OrderedDict((role, model.get_submodule(path)) for role, path in section.parts().items())
    skipped = Skipped(nn.Sequential(parts), shortcut)
    for module in (skipped, skipped.section, *skipped.shortcut.modules()):
        module.training = parts["layer"].training
    for role, path in section.parts().items():
        owner, _, name = path.rpartition(".")
        model.get_submodule(owner)._modules[name] = skipped if role == "layer" else nn.Identity().train(parts[role].training)


def _from(start: Start, generator: Generator) -> Callable[[Tensor], Tensor]:
    """How a shortcut's weight begins."""
    return nn.init.zeros_ if start == "same" else lambda weight: _orthonormal(weight, generator)


def _orthonormal(weight: Tensor, generator: Generator) -> Tensor:
    """Drawn in single precision at least: torch factorises no matrix in half."""
    drawn = torch.empty(weight.shape, dtype=torch.promote_types(weight.dtype, torch.float32), device=weight.device)
    return weight.data.copy_(nn.init.orthogonal_(drawn, generator=generator))


def _shortcut(layer: nn.Module, start: Start, initialise: Callable[[Tensor], Tensor]) -> nn.Module:
    """P for a layer; UsageError for a convolution whose geometry no pooling has."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    pool, stride = _geometry(layer) if isinstance(layer, _ConvNd) else (None, ())
    ends = (layer.in_channels, layer.out_channels) if isinstance(layer, _ConvNd) else weight.shape[::-1]
    parts = [] if pool is None else [pool]
    if start == "same" or ends[0] != ends[1] or any(step > 1 for step in stride):
        options = {"kernel_size": 1, "stride": stride} if isinstance(layer, _ConvNd) else {}
        kind: Callable[..., nn.Module] = type(layer)
        linear = kind(*ends, bias=False, device="meta", dtype=weight.dtype, **options).to_empty(device=weight.device)
        initialise(linear.get_parameter("weight"))
        parts.append(linear)
    if not parts:
        return nn.Identity()
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)


def _geometry(layer: _ConvNd) -> tuple[nn.Module | None, tuple[int, ...]]:
    """An average pooling with the convolution's positions, and the stride that is left to do behind it."""
    reach = [dilation * (kernel - 1) for dilation, kernel in zip(layer.dilation, layer.kernel_size, strict=True)]
    named = {"same": None, "valid": [0] * len(reach)}
    padding = named[layer.padding] if isinstance(layer.padding, str) else list(layer.padding)
    if padding is None or all(2 * pad == span for pad, span in zip(padding, reach, strict=True)):
        return None, layer.stride
    fits = all(2 * pad <= kernel for pad, kernel in zip(padding, layer.kernel_size, strict=True))
    if any(step > 1 for step in layer.dilation) or not fits:
        raise UsageError(f"no pooling has the positions of {layer}")
    pool: Callable[..., nn.Module] = POOLS[len(reach) - 1]
    return pool(tuple(layer.kernel_size), stride=tuple(layer.stride), padding=tuple(padding)), (1,) * len(reach)
