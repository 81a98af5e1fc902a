"""Numbers that modules keep (`self.heads`, `self.sizes[1]`, `self.cfg.width`), followed to the operators that take a size from them.

While the network is exported every such number is one that knows where it is kept, so an operator's size is known to come from
there and not by coincidence; so does every size read off a tensor. `counting` says what follows of them.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.traceback import annotate, preserve_node_meta
from torch.overrides import TorchFunctionMode

from parsinet.errors import ParsinetWarning, StructureError
from parsinet.structure.attributes import LENGTHS, RULES, numbers_of_class
from parsinet.structure.calling import ExampleInputs
from parsinet.structure.configs import is_named_tuple
from parsinet.structure.export import Exported, export
from parsinet.structure.numbers import Kept, Marked, Seen, comparisons_noted
from parsinet.structure.origins import in_words, line_of
from parsinet.structure.secluded import OWN
from parsinet.switches import replaced

KEY = "parsinet sizes"
"""Under which name an operator's sizes stand in its node."""

SHAPE = "parsinet shape"
"""Under which name the number of a reading of a tensor's shape stands in its node."""

READING = (Tensor.size, Tensor.shape.__get__)  # type: ignore[attr-defined]

WITHOUT_SIZES = {f"torch.nn.modules.{kind}" for kind in ("activation", "container", "dropout", "padding", "pooling")}
"""Modules of torch that keep strides, paddings and dimensions. A watched export is slower, so they are not looked at."""


def export_watched(model: nn.Module, example_inputs: ExampleInputs, understood: Callable[[Any], bool]) -> Exported:
    """`export`, with the kept numbers among every operator's sizes noted in its node; without, and a ParsinetWarning, where the model
    minds numbers that know where they are kept."""
    try:
        with numbers_marked(model) as found, contextlib.ExitStack() as watching:
            if not found:
                return export(model, example_inputs, understood)
            watching.enter_context(preserve_node_meta())
            watching.enter_context(_Watch())
            watching.enter_context(_nothing_remembered())
            equal = watching.enter_context(comparisons_noted())
            return replace(export(model, example_inputs, understood), equal=tuple(equal))
    except StructureError as error:
        unwatched, fault = export(model, example_inputs, understood), error.__cause__
    reason = f" ({in_words(fault)}{line_of(fault)})" if isinstance(fault, Exception) else ""
    warnings.warn(
        f"trace: numbers that modules of {type(model).__name__} keep (self.heads, self.width) are not followed, as its forward cannot run "
        f"on numbers that know where they are kept{reason}. Units that such a number counts may stay although they could leave.",
        ParsinetWarning,
        stacklevel=2,
    )
    return unwatched


@contextlib.contextmanager
def _nothing_remembered() -> Iterator[None]:
    """Einops keeps the sizes it makes of shapes, for the next tensor of the same shape; these know of which tensor they are."""
    names = vars(sys.modules["einops.einops"]) if "einops.einops" in sys.modules else {}
    computed = names.get("_reconstruct_from_shape_uncached")
    with replaced(names, {} if computed is None else {"_reconstruct_from_shape": computed}):
        yield


class _Watch(TorchFunctionMode):
    """Notes the whole numbers and slices among a call's arguments if one of them is marked; marks sizes read off tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.readings = 0
        self._handled = sys.exception()

    def __torch_function__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        options = kwargs or {}
        if sys.exception() is not self._handled:  # torch prints the graph into its error: notes would be printed too, without end
            return function(*args, **options)
        if function in READING:
            return self._read(args[0], function(*args, **options), *args[1:], **options)
        sizes = list(_sizes((args, tuple(options.values()))))
        if not any(isinstance(number, Marked) for entry in sizes for number in _numbers(entry)):
            return function(*args, **options)
        with annotate({KEY: sizes}):
            return function(*args, **options)

    def _read(self, tensor: Tensor, found: Any, dim: int | None = None) -> Any:
        """The shape or size as marked numbers; an operator that does nothing tells the graph which tensor it is of.

        Not so of a real tensor: torch reads example inputs, and what they are views of, before it runs the model on stand-ins.
        """
        sizes = (found,) if dim is not None else tuple(found)
        known = type(tensor) is Tensor or isinstance(tensor, nn.Parameter)
        if tensor.dim() < 2 or known or not all(type(size) is int for size in sizes):
            return found
        self.readings += 1
        try:
            with annotate({SHAPE: self.readings}):
                torch.ops.aten._assert_tensor_metadata.default(tensor, dtype=tensor.dtype)
        except RuntimeError:  # torch's own look at what it has traced, between two of its passes: no operator can be noted there
            return found
        if dim is not None:
            return Seen(found, self.readings, dim)
        return torch.Size([Seen(size, self.readings, d) for d, size in enumerate(sizes)])


def _sizes(argument: Any) -> Iterator[int | slice]:
    if isinstance(argument, int | slice) and not isinstance(argument, bool):
        yield argument
    elif isinstance(argument, tuple | list):
        for part in argument:
            yield from _sizes(part)


def _numbers(entry: int | slice) -> tuple[Any, ...]:
    return (entry.start, entry.stop) if isinstance(entry, slice) else (entry,)


@contextlib.contextmanager
def numbers_marked(model: nn.Module) -> Iterator[bool]:
    """Within the context the numbers that modules keep know where they are kept; gives whether there are any.

    Torch's layers have rules of their own, and the numbers of others of its modules (WITHOUT_SIZES) count no units. A number in the body
    of a class is kept by every module of it meanwhile.
    """
    modules = [(path, module) for path, module in model.named_modules() if _may_keep_sizes(module)]
    tables = [(path, module.__dict__, numbers_of_class(module)) for path, module in modules]
    undo: list[tuple[dict[str, Any], dict[str, Any]]] = []
    seen: set[int] = set()
    try:
        for path, table, _ in tables:
            for name, value in list(table.items()):
                inner = getattr(value, "__dict__", None)
                if name in OWN:
                    continue
                if name == LENGTHS:
                    undo.append((table, {name: value}))
                    table[name] = tuple((axis, _mark(length, path, f"axes_lengths.{axis}")) for axis, length in value)
                elif _is_configuration(value) and isinstance(inner, dict):
                    if id(value) not in seen:
                        seen.add(id(value))
                        undo.append((inner, dict(inner)))
                        inner.update(_marked(inner, path, name))
                elif (new := _mark(value, path, name)) is not value:
                    undo.append((table, {name: value}))
                    table[name] = new
        for path, table, numbers in tables:
            table.update({name: Kept(number, path, name) for name, number in numbers.items()})
        yield bool(undo) or any(numbers for _, _, numbers in tables)
    finally:
        for table, values in reversed(undo):
            table.update(values)
        for _, table, numbers in tables:
            for name in numbers:
                table.pop(name, None)


def _may_keep_sizes(module: nn.Module) -> bool:
    return type(module).__module__ not in WITHOUT_SIZES and not any(isinstance(module, kind) for kind, _ in RULES)


def _mark(value: Any, path: str, name: str) -> Any:
    """The number, or the container of numbers, with marks; itself where there is nothing to mark."""
    if type(value) is int:
        return Kept(value, path, name)
    if type(value) in (tuple, list) and all(isinstance(entry, int | float | str | None) for entry in value):
        entries = [Kept(entry, path, f"{name}[{k}]") if type(entry) is int else entry for k, entry in enumerate(value)]
        return entries if type(value) is list else tuple(entries)
    if type(value) is dict:
        return {**value, **_marked(value, path, name)}
    return value._replace(**_marked(value._asdict(), path, name)) if is_named_tuple(value) else value


def _marked(entries: dict[Any, Any], path: str, name: str) -> dict[str, Kept]:
    """The whole numbers among the entries, with marks."""
    return {key: Kept(entry, path, f"{name}.{key}") for key, entry in entries.items() if _is_number(key, entry)}


def _is_number(key: Any, entry: Any) -> bool:
    """Whether an entry of a dict or configuration is a whole number under a plain name."""
    return type(entry) is int and isinstance(key, str) and key.isidentifier() and not key.startswith("_")


def _is_configuration(value: Any) -> bool:
    """An object of plain data: no module, tensor, function, class or container."""
    return hasattr(value, "__dict__") and not (
        isinstance(value, nn.Module | Tensor | type | int | str) or is_named_tuple(value) or callable(value)
    )
