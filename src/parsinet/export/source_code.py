"""An exported graph written out as a module of plain torch: one line per operator, weights from a safetensors file."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from keyword import iskeyword
from typing import Any

import torch
from torch import Tensor
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.fx import Node
from torch.utils._pytree import tree_unflatten

from parsinet.errors import ExportError

RESERVED = {"self", "torch", "aten", "operator", "device", "nn", "Tensor", "float", "getattr", "ValueError"}
"""What the written module calls by these names; a node of such a name gets an underscore."""


@dataclass(frozen=True)
class Source:
    """The body of `forward` and what it needs. arguments: its parameters. constants: tensors that are in no state_dict."""

    arguments: tuple[str, ...]
    lines: tuple[str, ...]
    constants: dict[str, Tensor]


def written(program: torch.export.ExportedProgram, aliases: Mapping[str, str]) -> Source:
    """The graph as Python. aliases: entries of the state that are stored under another name, tied to it.

    Intermediate results are deleted after their last use. Devices are that of the first argument.
    Raises ExportError for operators that plain torch does not have, and graphs within the graph.
    """
    signature = program.graph_signature
    lifted = {**signature.inputs_to_parameters, **signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    held = {name: aliases.get(target, target) for name, target in lifted.items()}
    given = [spec.arg for spec in signature.input_specs if spec.kind == InputKind.USER_INPUT]
    arguments = tuple(_identifier(argument.name) for argument in given)
    fixed = {_identifier(argument.name): _literal(argument.value, {}) for argument in given if isinstance(argument, ConstantArgument)}
    names = {node: attribute(held[node.name]) if node.name in held else _identifier(node.name) for node in program.graph.nodes}
    lines = list(_lines(program, names))
    if any("device=device" in line for line in lines):
        lines.insert(0, f"device = {next(name for name in arguments if name not in fixed)}.device")
    lines = [*(line for name, value in fixed.items() for line in _checked(name, value)), *lines]
    constants = {target: program.constants[target] for target in lifted.values() if target in program.constants}
    parameters = tuple(f"{name}={fixed[name]}" if _last(arguments[number:], fixed) else name for number, name in enumerate(arguments))
    return Source(parameters, tuple(lines), {name: value for name, value in constants.items() if isinstance(value, Tensor)})


def attribute(name: str) -> str:
    """`layers.0.weight` → `getattr(self.layers, "0").weight`."""
    path = "self"
    for part in name.split("."):
        path = f"{path}.{part}" if part.isidentifier() and not iskeyword(part) else f"getattr({path}, {part!r})"
    return path


def _lines(program: torch.export.ExportedProgram, names: Mapping[Node, str]) -> Sequence[str]:
    program.graph.eliminate_dead_code()
    lines: list[str] = []
    nodes = [node for node in program.graph.nodes if node.op != "placeholder"]
    for node, following in [*pairwise(nodes), (nodes[-1], None)]:
        if node.op == "output":
            lines.append(f"return {_result(program, node, names)}")
        elif node.op == "call_function":
            lines.append(f"{f'{names[node]} = ' if node.users else ''}{_call(node, names)}")
            spent = [names[used] for used in node.all_input_nodes if used.op == "call_function" and max(used.users) is node]
            if spent and following is not None and following.op != "output":
                lines.append(f"del {', '.join(spent)}")
        else:
            raise ExportError(f"The graph of the network holds a graph of its own ({node.target}); a bundle cannot write that down.")
    return lines


def _call(node: Node, names: Mapping[Node, str]) -> str:
    arguments = [_literal(value, names) for value in node.args]
    arguments += [f"{key}={_literal(value, names)}" for key, value in node.kwargs.items()]
    return f"{_operator(node.target)}({', '.join(arguments)})"


def _operator(target: Any) -> str:
    """`aten.linear.default`, `operator.getitem`, `torch.sym_max`."""
    if isinstance(target, torch._ops.OpOverload) and target.namespace == "aten":
        return f"aten.{target._opname}.{target._overloadname}"
    name = getattr(target, "__name__", "")
    if getattr(operator, name, None) is target:
        return f"operator.{name}"
    if getattr(torch, name, None) is target:
        return f"torch.{name}"
    raise ExportError(f"The network computes {target}, which plain torch does not have; a bundle cannot hold it.")


def _literal(value: Any, names: Mapping[Node, str]) -> str:
    """An argument of an operator as Python."""
    match value:
        case Node():
            return names[value]
        case torch.device():
            return "device"
        case bool() | int() | str() | None | torch.dtype() | torch.layout() | torch.memory_format():
            return repr(value)
        case float():
            return repr(value) if abs(value) < float("inf") else f'float("{value}")'
        case list() | tuple():
            inner = ", ".join(_literal(each, names) for each in value)
            return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
        case dict():
            return "{" + ", ".join(f"{key!r}: {_literal(each, names)}" for key, each in value.items()) + "}"
        case _:
            raise ExportError(f"The graph of the network holds a {type(value).__name__}; a bundle cannot write that down.")


def _result(program: torch.export.ExportedProgram, node: Node, names: Mapping[Node, str]) -> str:
    """What the network returns, in its tuples, lists and dicts."""
    spec = program.call_spec.out_spec
    (values,) = node.args
    assert isinstance(values, tuple | list)
    structure = tree_unflatten(list(values), spec) if spec is not None else values
    return _literal(dict(structure) if isinstance(structure, Mapping) else structure, names)


def _last(arguments: Sequence[str], fixed: Mapping[str, str]) -> bool:
    """Whether these are constants all, so that they can have defaults."""
    return all(name in fixed for name in arguments)


def _checked(name: str, value: str) -> tuple[str, str]:
    """The graph was made for one value of this argument."""
    return f"if {name} != {value}:", f"""    raise ValueError("{name} is {value.replace('"', "'")} in this graph, and nothing else")"""


def _identifier(name: str) -> str:
    return f"{name}_" if name in RESERVED else name
