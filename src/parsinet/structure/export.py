"""The network as a graph of ATen operators: a copy of the model, exported with the example inputs."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch import config
from torch.nn.parameter import is_lazy
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves

from parsinet.errors import StructureError
from parsinet.structure.at_work import is_at_work
from parsinet.structure.calling import ExampleInputs, as_call
from parsinet.structure.numbers import Kept, Seen
from parsinet.structure.origins import in_words, line_of
from parsinet.structure.packing import packed_as_padded
from parsinet.structure.secluded import secluded
from parsinet.structure.wrappers import unwrap, wraps
from parsinet.switches import no_fused_attention

DEPTH = 3
"""How often composites are taken apart into composites."""

DATA_DEPENDENT = ("FakeTensor", "data-dependent", "unbacked", "Could not guard")
"""In what torch.export says where a size depends on values."""

MASK_LOOKED_AT = "_detect_is_causal_mask"
"""Where torch's transformers compare the values of a mask."""

AT_WORK = "a method is at work on it, and its gates are drawn in every pass. Finish its pruner, or trace before it starts."

UNKNOWN_TYPE = "is not a known type"
"""In what torch.export says of an object among inputs or results whose class it cannot take apart."""

DIFFERENTIATING = ("fake tensor in the exported program constant", "functorch tensor")
"""In what torch.export says where a forward pass differentiates."""

SCALARS = (torch.ops.aten.item.default, torch.ops.aten._local_scalar_dense.default)
"""Operators that take a number out of a tensor; taking the one apart gives the other."""


@dataclass(frozen=True)
class Exported:
    """An exported network: the graph, which placeholder is which tensor of the model, and the nodes the model returns, in order.

    constants: tensors that its code makes, by the names placeholders give them. equal: sizes of tensors that its code compared with
    numbers it keeps, and found equal. packed: positions, padding among them, of every call of a recurrent layer on a packed sequence.
    """

    graph: torch.fx.Graph
    tensors: dict[str, str]
    results: tuple[str, ...]
    constants: Mapping[str, Any]
    equal: tuple[tuple[Seen, Kept], ...] = ()
    packed: tuple[int, ...] = ()


def export(model: nn.Module, example_inputs: ExampleInputs, understood: Callable[[Any], bool] = lambda _: True) -> Exported:
    """Export `model` (already a copy, in eval mode) to ATen operators; composite ones that are not `understood` are taken apart.

    Raises StructureError, in torch.export's own words and with the line of the user's code, when the model cannot be captured or rejects
    the inputs.
    """
    args, kwargs = as_call(example_inputs)
    if any(isinstance(leaf, Tensor) and leaf.dim() and not len(leaf) for leaf in tree_leaves((args, kwargs))):
        raise StructureError("example_inputs hold a batch of no examples, on which nothing could be seen. Give at least one.")
    if any(isinstance(value, PackedSequence) for value in (*args, *kwargs.values())):
        raise StructureError(
            "example_inputs hold a packed sequence, which torch.export cannot take in. Let the model pack: forward(x, lengths) with "
            "pack_padded_sequence(x, lengths)."
        )
    try:
        with torch.enable_grad(), no_fused_attention(), secluded(model), packed_as_padded(model) as packed:
            program = _plain(_program(model, args, kwargs), understood)
    except Exception as error:
        if is_at_work(model):
            raise StructureError(f"{type(model).__name__} cannot be traced: {AT_WORK}") from error
        raise StructureError(
            f"torch.export cannot capture {type(model).__name__}: {in_words(error)}{line_of(error)}. {_advice(model, error)}"
        ) from error
    signature = program.graph_signature
    tensors = {**signature.inputs_to_parameters, **signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    results = tuple(str(name) for name in signature.user_outputs)
    return Exported(program.graph_module.graph, tensors, results, program.constants, packed=tuple(packed))


def _program(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.export.ExportedProgram:
    """The exported network; where whole numbers among the values are sizes, as the greatest of some lengths, with those of the example.

    Real values beside the stand-ins, as torch's drafts have them, decide an `if` too; such a graph would be one of several.
    """
    try:
        return torch.export.export(model, args, kwargs, strict=False)
    except Exception as error:
        if not any(word in str(error) for word in DATA_DEPENDENT):
            raise
        with contextlib.suppress(Exception), config.patch(fake_tensor_propagate_real_tensors=True):
            draft = torch.export.export(model, args, kwargs, strict=False)
            if all(_is_count(node) for node in draft.graph.nodes if node.target in SCALARS):
                return draft
        raise


def _is_count(node: torch.fx.Node) -> bool:
    """Whether a number taken out of a tensor is a whole one."""
    value = node.args[0].meta.get("val") if isinstance(node.args[0], torch.fx.Node) else None
    return isinstance(value, Tensor) and not value.is_floating_point() and value.dtype != torch.bool


def _advice(model: nn.Module, error: Exception) -> str:
    message = str(error)
    scripted = [path for path, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        return f"{scripted[0] or 'It'} comes from torch.jit, which torch.export cannot look into: use the module it was made of."
    if any(is_lazy(parameter) for parameter in model.parameters()):
        return "Lazy layers have no weights yet: call model(example_inputs) once before."
    if UNKNOWN_TYPE in message:
        return (
            "Let torch know the class of what it returns, if it is a dataclass: torch.export.register_dataclass(TheClass). Of others "
            "(torch.distributions) return the tensors they are made of, and make them in your loop; or give the part that returns tensors."
        )
    if any(word in message for word in DIFFERENTIATING):
        return (
            "Where forward takes gradients itself (torch.autograd.grad, .backward(), torch.func.grad) torch.export cannot follow: put what "
            "is differentiated into a module of its own, and trace and shrink that."
        )
    if any(frame.name == MASK_LOOKED_AT for frame in traceback.extract_tb(error.__traceback__)):
        return (
            "torch looks at the values of a mask to see whether it is causal: say so in the call, with is_causal=True "
            "(nn.Transformer and decoders: tgt_is_causal=True)."
        )
    if any(word in message for word in DATA_DEPENDENT):
        return (
            "If model(example_inputs) runs, what it does depends on what the inputs hold (an `if` on values, x[mask], a fraction taken "
            "out by .item()), and there is no one graph of it: give example_inputs on which it does not (mixtures of experts of "
            'transformers: model.set_experts_implementation("batched_mm")).'
        )
    return "Check that model(example_inputs) runs."


def _plain(program: torch.export.ExportedProgram, understood: Callable[[Any], bool]) -> torch.export.ExportedProgram:
    """Without writes into views (`y[:, :4] = x`), which hide where values go, and without composites nobody understands."""
    unwrap(program)
    for _ in range(DEPTH):
        operators = {node.target for node in program.graph.nodes if node.op == "call_function"}
        strange = [target for target in operators if not understood(target) and target not in SCALARS]
        table = torch.export.default_decompositions() if strange else {}
        apart = {target: table[target] for target in strange if target in table}
        if not apart and not any(_writes_into_a_view(node) or wraps(node) for node in program.graph.nodes):
            break
        smaller: torch.export.ExportedProgram = program.run_decompositions(apart)
        program = smaller
    return program


def _writes_into_a_view(node: torch.fx.Node) -> bool:
    """Whether the operator writes into part of a tensor that is used elsewhere as well."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable or not node.args or not isinstance(node.args[0], torch.fx.Node):
        return False
    view = node.args[0]
    origin = getattr(view.target, "_schema", None)
    if origin is None or not any(len(base.users) > 1 for base in view.all_input_nodes):
        return False
    return any(value.alias_info is not None and not value.alias_info.is_write for value in origin.returns)
