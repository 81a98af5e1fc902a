"""A .pt2 file: the graph of torch.export with its weights, for `torch.export.load` without the classes of the network."""

from __future__ import annotations

import io
import os
from pathlib import Path

import torch
from torch import nn

from parsinet import files
from parsinet.errors import ExportError
from parsinet.export.agreement import Agreement, compare
from parsinet.export.capturing import capture, quietly, settled
from parsinet.export.exported import Exported
from parsinet.measure import ExampleInputs

PICKLE = "torch.export.load reads the example inputs inside a .pt2 with torch.load: open only files whose origin you trust."


def torch_export(model: nn.Module, example_inputs: ExampleInputs, path: str | os.PathLike[str]) -> Exported:
    """Write the model, in evaluation mode, as `torch.export.save` does, with an open batch size, after loading it back for comparison.

    Weights and graph lie in the file as raw bytes and JSON; the example inputs (two rows, of zeros) as a pickle that torch.load reads.
    Errors: ExportError if torch.export cannot capture the network or the file is not the same network; StorageError if `path` is taken
    or cannot be written; UsageError if the model does not run on the inputs.
    """
    path = Path(path)
    files.check_free(path)
    model, inputs = settled(model, example_inputs)
    content = to_program(capture(model, inputs))
    agreement = check_program(content, model, inputs)
    files.make_folder(path.parent)
    files.write_bytes(path, content)
    return Exported(path, len(content), agreement, notes=(PICKLE,))


def to_program(program: torch.export.ExportedProgram) -> bytes:
    """A captured graph as the content of a .pt2 file."""
    buffer = io.BytesIO()
    with quietly():
        torch.export.save(program, buffer)
    return buffer.getvalue()


def check_program(content: bytes, model: nn.Module, example_inputs: ExampleInputs) -> Agreement:
    """Load the content of a .pt2 file and hold it against the network: every tensor bit by bit, outputs as `compare` does.

    Raises ExportError if it cannot be loaded or differs.
    """
    try:
        with quietly():
            program = torch.export.load(io.BytesIO(content))
            twin = program.module()
    except Exception as error:
        raise ExportError(f"The .pt2 file cannot be loaded back: {type(error).__name__}: {error}") from error
    ours = model.state_dict()
    for name, tensor in program.state_dict.items():
        if name not in ours or not same_bits(tensor, ours[name]):
            raise ExportError(f"The .pt2 file is not the same network: its tensor {name!r} differs. Nothing was written.")
    return compare("The .pt2 file", model, twin, example_inputs)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have type, shape and every bit in common."""
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(_bytes(one), _bytes(other))


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
