"""A network for inference as a graph of torch.export: evaluation mode, on the processor, open in the size of the batch."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from parsinet.draws import kept
from parsinet.errors import ExportError
from parsinet.export.conversion import to_dense
from parsinet.measure import ExampleInputs, batch_size, resize_batch
from parsinet.measure.examples import arguments, call, tensors
from parsinet.spectral.directions import in_parts
from parsinet.structure.secluded import unvalidated
from parsinet.switches import no_fused_attention


def settled(model: nn.Module, example_inputs: ExampleInputs) -> tuple[nn.Module, ExampleInputs]:
    """A copy of the model in evaluation mode and the inputs, both on the processor; layers stored as CSR are dense in it.

    Raises UsageError if the model does not run on the inputs, ArgumentTypeError for inputs of another kind.
    """
    batch_size(example_inputs)
    still = to_dense(copy.deepcopy(model)).cpu().eval()
    inputs: ExampleInputs = tree_map(lambda leaf: leaf.detach().cpu() if isinstance(leaf, Tensor) else leaf, example_inputs)
    with kept():
        call("export", still, inputs)
    return still, inputs


def capture(model: nn.Module, example_inputs: ExampleInputs) -> torch.export.ExportedProgram:
    """The graph of a settled model, for any number of rows of the tensors whose first dimension is that of the example's first one.

    Neither the examples nor the places in the user's source are kept in it: what is handed on holds no data and names no folder.
    Raises ExportError, in the words of torch.export, if it cannot be captured, or computes with a fixed number of rows.
    """
    program = program_of(model, example_inputs)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def program_of(model: nn.Module, example_inputs: ExampleInputs) -> torch.export.ExportedProgram:
    """`capture`, with the places in the user's source."""
    rows, examples = torch.export.Dim("batch"), batch_size(example_inputs)
    others = {len(leaf) for leaf in tensors(example_inputs) if leaf.dim()} - {examples}
    few = min({2, 3, *(size + 1 for size in others)} - {0, 1, *others})  # a size of no other tensor, which would count as the same
    args, kwargs = arguments(tree_map(_blank, resize_batch(example_inputs, few)))

    def opened(leaf: object) -> object:
        return {0: rows} if isinstance(leaf, Tensor) and leaf.dim() and leaf.shape[0] == examples else None

    own, named = arguments(example_inputs)
    shapes = (*tree_map(opened, own), *tree_map(opened, named).values())
    try:
        with quietly(), no_fused_attention(), in_parts(), unvalidated(), torch.no_grad(), kept():
            return torch.export.export(copy.deepcopy(model), args, kwargs, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        raise ExportError(f"torch.export cannot capture {type(model).__name__} for any batch size: {gist(error)}") from error


def _blank(leaf: object) -> object:
    return torch.zeros_like(leaf) if isinstance(leaf, Tensor) else leaf


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the warnings and log lines of torch's exporters; what goes wrong comes as an error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def gist(error: BaseException) -> str:
    """What the innermost cause of an error says, on one line, ended by a full stop."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip(" -") for line in str(error).strip().splitlines()]
    told = " ".join(line for line in lines[:2] if line) or type(error).__name__
    return f"{told.rstrip('.')}."
