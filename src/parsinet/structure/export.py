"""The network as a graph of ATen operators: a copy of the model, exported with the example inputs."""

from __future__ import annotations

import contextlib
import functools
import io
import linecache
import logging
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch import config
from torch.distributions import Distribution
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves

from parsinet.errors import ArgumentTypeError, StructureError
from parsinet.structure.at_work import is_at_work
from parsinet.structure.numbers import Kept, Seen
from parsinet.structure.packing import packed_as_padded
from parsinet.switches import no_fused_attention

ExampleInputs = Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]


CACHE = "transformers.cache_utils.Cache"
"""Base class of what holds keys and values of earlier positions."""

WRAPPERS = ("wrap_with_set_grad_enabled", "wrap_with_autocast")
"""Operators that run a graph of their own (`with torch.no_grad():` in the user's forward); taking apart puts it in line."""

DEPTH = 3
"""How often composites are taken apart into composites."""

DATA_DEPENDENT = ("FakeTensor", "data-dependent", "unbacked", "Could not guard")
"""In what torch.export says where a size depends on values."""

SCALARS = (torch.ops.aten.item.default, torch.ops.aten._local_scalar_dense.default)
"""Operators that take a number out of a tensor."""

TORCH = str(Path(torch.__file__).parent)
PARSINET = str(Path(__file__).parents[1])

CHATTY = ("torch.fx.experimental.symbolic_shapes", "torch._subclasses.fake_tensor")
"""Loggers of torch's that speak while a network is captured."""

OWN = frozenset(vars(nn.Module()))
"""Tables that torch keeps in every module and looks after itself."""

NEAR = 3
"""Lines before and after an operator's in which its arguments are written."""


@dataclass(frozen=True)
class Exported:
    """An exported network: the graph, which placeholder is which tensor of the model, and the nodes the model returns.

    constants: tensors that its code makes, by the names placeholders give them. equal: sizes of tensors that its code compared with
    numbers it keeps, and found equal. packed: positions, padding among them, of every call of a recurrent layer on a packed sequence.
    """

    graph: torch.fx.Graph
    tensors: dict[str, str]
    results: frozenset[str]
    constants: Mapping[str, Any]
    equal: tuple[tuple[Seen, Kept], ...] = ()
    packed: tuple[int, ...] = ()


def as_call(example_inputs: ExampleInputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs as (args, kwargs): a Tensor is one argument, a tuple all of them, a mapping keyword arguments."""
    if isinstance(example_inputs, Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, (tuple, list)):
        return tuple(example_inputs), {}
    raise ArgumentTypeError(
        f"example_inputs must be a Tensor, a tuple of positional or a dict of keyword arguments, got {type(example_inputs).__name__}."
    )


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
        with contextlib.ExitStack() as within:
            for context in (torch.enable_grad(), no_fused_attention(), _results_only(model), _as_before(model), _unvalidated(), _quiet()):
                within.enter_context(context)
            packed = within.enter_context(packed_as_padded(model))
            program = _plain(_program(model, args, kwargs), understood)
    except Exception as error:
        raise StructureError(
            f"torch.export cannot capture {type(model).__name__}: {_words(error)}{_line_of(error)}. {_advice(model, str(error))}"
        ) from error
    signature = program.graph_signature
    tensors = {**signature.inputs_to_parameters, **signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    results = frozenset(str(name) for name in signature.user_outputs)
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


def _advice(model: nn.Module, message: str) -> str:
    if is_at_work(model):
        return "A method is at work on this network, and its gates are drawn in every pass: finish its pruner, or trace before it starts."
    scripted = [path for path, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        return f"{scripted[0] or 'It'} comes from torch.jit, which torch.export cannot look into: use the module it was made of."
    if any(word in message for word in DATA_DEPENDENT):
        return (
            "If model(example_inputs) runs, what it does depends on what the inputs hold (an `if` on values, x[mask], a fraction taken "
            "out by .item()), and there is no one graph of it: give example_inputs on which it does not (mixtures of experts of "
            'transformers: model.set_experts_implementation("batched_mm")).'
        )
    return "Check that model(example_inputs) runs."


def _words(error: Exception) -> str:
    """What an error says first, without torch's notes on its symbols."""
    return first_line(error).partition(" (unhinted:")[0]


def _line_of(error: Exception) -> str:
    """Where the user's code raised an error: ` at net.py:7 (if h.sum() > 0:)`; "" where it did not."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((TORCH, PARSINET, "<"))]
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno} ({own[-1].line})" if own else ""


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


def _plain(program: torch.export.ExportedProgram, understood: Callable[[Any], bool]) -> torch.export.ExportedProgram:
    """Without writes into views (`y[:, :4] = x`), which hide where values go, and without composites nobody understands."""
    for _ in range(DEPTH):
        operators = {node.target for node in program.graph.nodes if node.op == "call_function"}
        strange = [target for target in operators if not understood(target)]
        table = torch.export.default_decompositions() if strange else {}
        apart = {target: table[target] for target in strange if target in table}
        if not apart and not any(_writes_into_a_view(node) or str(node.target) in WRAPPERS for node in program.graph.nodes):
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


def results(output: Any) -> Any:
    """What the model returns, in plain containers, without the caches of keys and values of transformers: they are no result."""
    if any(f"{kind.__module__}.{kind.__qualname__}" == CACHE for kind in type(output).__mro__):
        return None
    if isinstance(output, Mapping):
        return {key: results(value) for key, value in output.items()}
    return type(output)(map(results, output)) if type(output) in (tuple, list) else output


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
        (module.__dict__, {name: _content(value) for name, value in module.__dict__.items() if name not in OWN})
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


@contextlib.contextmanager
def _unvalidated() -> Iterator[None]:
    """Torch's distributions look at the values of their parameters."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def _content(value: Any) -> tuple[Any, Any]:
    """A value and, where it is a plain container that a forward pass can write to, what is in it."""
    return value, value.copy() if type(value) in (list, dict, set) else None


def module_path(node: torch.fx.Node) -> str:
    """Qualified name of the innermost module whose forward ran this operator; '' for the model itself."""
    stack = node.meta.get("nn_module_stack") or {}
    names = [entry[0] for entry in stack.values()]
    return re.sub(r"@\d+$", "", str(names[-1])) if names else ""


def location(node: torch.fx.Node) -> str:
    """Where the operator stands in the user's source: `relu at net.py:12`, without torch's own frames."""
    operator = str(node.target).removeprefix("aten.")
    operator = operator.rpartition(".")[0] or operator
    if isinstance(node.target, FunctionType | BuiltinFunctionType):  # their text is an address
        operator = node.target.__name__
    own = _frames(node.meta.get("stack_trace") or "")
    if not own:
        return f"`{operator}`"
    file, line = own[-1]
    source = linecache.getline(file, int(line)).strip()
    return f"`{operator}` at {Path(file).name}:{line}" + (f" ({source})" if source and len(source) <= 60 else "")


def named_in_source(node: torch.fx.Node | None, attribute: str) -> bool:
    """Whether the lines around the operator in the user's source name the attribute `self.…`."""
    if node is None or not (own := _frames(node.meta.get("stack_trace") or "")):
        return False
    file, line = own[-1]
    return any(re.search(rf"self\.{attribute}\b", linecache.getline(file, int(line) + k)) for k in range(-NEAR, NEAR + 1))


@functools.lru_cache(maxsize=4096)
def _frames(stack_trace: str) -> tuple[tuple[str, str], ...]:
    """(file, line) of the calls that led to an operator, without torch's own and those of generated code."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', stack_trace)
    return tuple((file, line) for file, line in frames if TORCH not in file and not file.startswith("<"))


def first_line(error: BaseException) -> str:
    """What an error says first, without its full stop."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
