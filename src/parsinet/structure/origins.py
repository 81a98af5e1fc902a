"""Where an operator, or an error, comes from: module, file and line of the user's."""

from __future__ import annotations

import functools
import linecache
import re
import traceback
from pathlib import Path
from types import BuiltinFunctionType, FunctionType

import torch

TORCH = str(Path(torch.__file__).parent)
PARSINET = str(Path(__file__).parents[1])

NEAR = 3
"""Lines before and after an operator's in which its arguments are written."""


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


def in_words(error: Exception) -> str:
    """What an error says first, without torch's notes on its symbols."""
    return first_line(error).partition(" (unhinted:")[0]


def line_of(error: Exception) -> str:
    """Where the user's code raised an error: ` at net.py:7 (if h.sum() > 0:)`; "" where it did not."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((TORCH, PARSINET, "<"))]
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno} ({own[-1].line})" if own else ""
