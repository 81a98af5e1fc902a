"""From a model and example inputs to its structure: export, label, group, prove."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import nn

from parsinet.errors import ArgumentTypeError, StructureError, UsageError, suggest, told
from parsinet.structure.blocks_finding import with_blocks
from parsinet.structure.blocks_sizes import Carried
from parsinet.structure.calling import ExampleInputs
from parsinet.structure.capture import capture
from parsinet.structure.computed import Computed, note_terms
from parsinet.structure.copies import copy_for_tracing
from parsinet.structure.counting import count_compared
from parsinet.structure.groups import build_layout
from parsinet.structure.inputs import Inputs
from parsinet.structure.outside import freeze_outside, named_outside
from parsinet.structure.own import Hints, checked_hints, checked_rules, take
from parsinet.structure.proof import prove
from parsinet.structure.propagate import Rules, freeze_unused, ignore, outputs, propagate, seed
from parsinet.structure.returned import note_returned
from parsinet.structure.shared_memory import check_memory
from parsinet.structure.sizes import follow
from parsinet.structure.still import still
from parsinet.structure.traced import Structure
from parsinet.structure.tracing import Tracing
from parsinet.switches import no_collection

SERVES = "_parsinet_serves"
"""Attribute of a class whose modules only serve."""


@no_collection()
@torch.inference_mode(False)
@torch.no_grad()
def trace(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    ignored_layers: Iterable[str | nn.Module] = (),
    removable_outputs: bool = False,
    inputs: bool = False,
    blocks: bool = False,
    rules: Rules | None = None,
    hints: Hints | None = None,
) -> Structure:
    """Find the units of a network and what leaves with each of them. The model itself is not touched.

    example_inputs: a Tensor, a tuple of positional arguments or a dict of keyword arguments the model accepts.
    ignored_layers: modules (or their names) whose own units must stay; UsageError for one that is not there.
    removable_outputs: whether entries of the model's output may leave: the network then returns fewer of them, `Structure.outputs` names
    their groups. Entries that all others depend on (softmax, normalised) may leave, but not exactly.
    inputs: whether features of the model's inputs may: group `input` (`input.<argument>` where there are several) of what linear layers
    and convolutions alone read; the model is called as before, its readers select. UsageError, with the reason, if there is none.
    blocks: whether residual branches are looked for, which leave whole: `Structure.blocks`. It takes longer, as each is taken out once.
    rules: how operators of your own pass units on, {"mylib::my_op": rule}. hints: what attributes of your own modules count, a group
    or a dimension of a tensor: {"block.attn": {"n_head": "block.attn.heads"}}, "block.fc.weight[0]". docs/structure.md shows both.

    What no rule understands keeps its units, with a reason in the group; every group offered as removable has been removed
    from a copy once and compared with its silenced twin. Raises StructureError if torch.export cannot capture the model.
    """
    _check_model(model)
    check_memory(model)
    ignored, own, counted = _names(model, ignored_layers), checked_rules(rules or {}), checked_hints(hints or {})
    twin = copy_for_tracing(model, share=True)
    captured = capture(twin, example_inputs, own, blocks=blocks)
    exported, outside = named_outside(model, captured.exported)
    tracing = Tracing(twin)
    values, axes = seed(tracing, exported)
    freeze_outside(tracing, values, outside)
    own_inputs = Inputs(tracing, exported, axes) if inputs else None
    propagate(tracing, exported, values, own)
    freeze_unused(tracing, axes)
    note_terms(tracing)
    count_compared(tracing, exported.equal)
    tracing.take_hints()
    follow(tracing, axes)
    take(tracing, axes, counted)
    if removable_outputs:
        note_returned(tracing, exported, values)
    else:
        for value in outputs(exported, values):
            tracing.freeze(value, "it is part of the model's output")
    ignore(tracing, axes, ignored)
    layout = replace(captured, exported=exported).completed(build_layout(tracing, axes), twin)
    if blocks:
        layout = with_blocks(layout, twin, exported, captured.calls, ignored, Carried(tracing, values, axes))
    layout = layout if own_inputs is None else own_inputs.placed(layout)
    with still(exported.graph, twin, captured.coins):
        structure = prove(twin, Structure(layout), example_inputs, captured.training, coins=captured.coins)
        structure = Computed(tracing, exported, values, axes).explain(structure)
    if own_inputs is not None:
        own_inputs.check(structure)
    return structure


def _check_model(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"trace: model must be a torch module, got {told(model)}{'; build it' if isinstance(model, type) else ''}.")
    _check_serving(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise StructureError("The model is scripted (torch.jit): its layers cannot be looked into. Give the module that it was made of.")
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise StructureError(
            f"{type(model).__name__} is on the meta device: it has shapes and no numbers, and removals are tried on a copy. Give it memory "
            "first: model.to_empty(device=...), or build it outside `with torch.device('meta')`."
        )


def _check_serving(model: nn.Module) -> None:
    """StructureError for a network with layers that only serve: their class says why and what to do."""
    for name, module in model.named_modules():
        if why := getattr(type(module), SERVES, ""):
            raise StructureError(f"trace: {name or 'the model'} cannot train and lose units: {why}.")


def _check_list(layers: object) -> None:
    if isinstance(layers, str | nn.Module) or not isinstance(layers, Iterable):
        what = repr(layers) if isinstance(layers, str) else told(layers)
        raise ArgumentTypeError(f"ignored_layers must be a list of modules or of their names, got {what}. Write it in brackets.")


def _check_name(layer: object) -> None:
    if not isinstance(layer, str):
        raise ArgumentTypeError(f"ignored_layers must name modules of the model, got {told(layer)}.")


def _names(model: nn.Module, layers: Iterable[str | nn.Module]) -> tuple[str, ...]:
    _check_list(layers)
    known = {module: name for name, module in model.named_modules()}
    aliases = {name: known[module] for name, module in model.named_modules(remove_duplicate=False)}
    names = []
    for layer in layers:
        if isinstance(layer, nn.Module):
            if layer not in known:
                raise UsageError(f"ignored_layers names a {type(layer).__name__} that is not part of the model.")
            names.append(known[layer])
        elif layer in aliases:
            names.append(aliases[layer])
        else:
            _check_name(layer)
            there = [name for name in aliases if name]
            raise UsageError(f"ignored_layers names {layer!r}, which the model does not have.{suggest(layer, there)}")
    return tuple(names)
