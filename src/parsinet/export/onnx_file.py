"""ONNX: one file for ONNX Runtime and all that read its format, any batch size, checked and timed there before it is written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parsinet import files
from parsinet.errors import ExportError, MissingExtraError
from parsinet.export.agreement import compare
from parsinet.export.capturing import capture, gist, quietly, settled
from parsinet.export.exported import Exported
from parsinet.measure import ExampleInputs, compare_latency, resize_batch
from parsinet.measure.examples import tensors

LARGEST = 2**31 - 1
"""Bytes that one protobuf file can hold."""
TIMED = (1, 64)
"""Batch sizes at which torch and ONNX Runtime are timed against each other."""


class OnnxNetwork(nn.Module):
    """A network in ONNX Runtime behind the face of a module: tensors in, the tensors of its outputs out, with torch's number of threads.

    content: the bytes of the file. Raises MissingExtraError without onnxruntime, ExportError if it refuses the file.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        with _needed():
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ExportError(f"ONNX Runtime cannot take this network: {gist(error)}") from error
        self._names = [entry.name for entry in self._session.get_inputs()]

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        inputs = {name: x.numpy() for name, x in zip(self._names, tensors((*args, kwargs)), strict=True)}
        return tuple(torch.from_numpy(y) for y in self._session.run(None, inputs))


def onnx(model: nn.Module, example_inputs: ExampleInputs, path: str | os.PathLike[str]) -> Exported:
    """Write the model, in evaluation mode, as one ONNX file by `torch.onnx.export(dynamo=True)`.

    Before anything is written ONNX Runtime computes it on all example inputs and on batches of 1 and 3 of them, so give real ones, tens
    of them; then it is timed against eager torch with batches of 1 and 64. The first dimension is called `batch` and is open; the others
    are fixed.

    Errors: ExportError if ONNX cannot take the network or computes something else, MissingExtraError without onnx, onnxscript,
    onnxruntime; StorageError if `path` is taken or cannot be written; UsageError if the model does not run on the inputs.
    """
    path = Path(path)
    files.check_free(path)
    model, inputs = settled(model, example_inputs)
    content = to_onnx(capture(model, inputs))
    twin = OnnxNetwork(content)
    agreement = compare("The ONNX file", model, twin, inputs, repeats=False)
    pair = {"torch": model, "ONNX Runtime": twin}
    latency = {batch: compare_latency(pair, resize_batch(inputs, batch)) for batch in TIMED}
    files.make_folder(path.parent)
    files.write_bytes(path, content)
    return Exported(path, len(content), agreement, latency)


def to_onnx(program: torch.export.ExportedProgram) -> bytes:
    """A captured graph as the content of an ONNX file, its checker's approval included.

    Errors: ExportError with the operator that ONNX lacks, or for a network of 2 GiB and more; MissingExtraError.
    """
    with _needed():
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    try:
        with quietly():
            exported = torch.onnx.export(program, dynamo=True, verbose=False)
            assert exported is not None
            model = exported.model_proto
            _clean(model)
            content: bytes = model.SerializeToString()
            onnx.checker.check_model(content)
    except Exception as error:
        raise ExportError(f"ONNX cannot take this network: {gist(error)}") from error
    if len(content) > LARGEST:
        raise ExportError(f"An ONNX file holds 2 GiB at most; this network has {len(content):,} bytes. Export it as torch-export.")
    return content


def _clean(model: Any) -> None:
    """Leave out where in the user's source each operator stood, and call the open dimension `batch`."""
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.ClearField("metadata_props")
        for number, dim in enumerate(value.type.tensor_type.shape.dim):
            if number == 0 and dim.dim_param:
                dim.dim_param = "batch"


@contextlib.contextmanager
def _needed() -> Iterator[None]:
    """Imports of the extra."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(f"Exporting to ONNX needs {error.name}: pip install 'parsinet[onnx]'.") from error
