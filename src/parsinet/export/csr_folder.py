"""A network whose linear layers are stored without their zeros where that is faster here: a folder, and how it is loaded."""

from __future__ import annotations

import copy
import os
from pathlib import Path

from torch import nn

from parsinet import files
from parsinet.errors import StructureError
from parsinet.export.agreement import compare
from parsinet.export.capturing import settled
from parsinet.export.conversion import Conversion, LayerChoice, Timer, restore, to_csr
from parsinet.export.exported import Exported, size_of
from parsinet.export.tensors_folder import check_tensors
from parsinet.measure import ExampleInputs, compare_latency, resize_batch
from parsinet.structure import save
from parsinet.structure.record import Factory
from parsinet.structure.storage import read, rebuilt


def csr(
    model: nn.Module,
    example_inputs: ExampleInputs,
    folder: str | os.PathLike[str],
    *,
    batch: int = 1,
    margin: float = 1.1,
    timer: Timer = compare_latency,
) -> Exported:
    """Write what `to_csr` makes of the model, each layer dense or CSR by measurement on this machine, with `batch` examples per call.

    The folder is that of `parsinet.save`: model.safetensors, where a CSR layer has `crow_indices`, `col_indices` and `values` in place of
    `weight`, and structure.json. `load_csr` reads it; no pickle is involved. It is read back and compared on all example inputs.

    Errors: those of `to_csr`; ExportError if the folder is not the same network; StorageError if it is taken or cannot be written.
    """
    folder = Path(folder)
    files.check_free(folder)
    model, inputs = settled(model, example_inputs)
    found = to_csr(model, resize_batch(inputs, batch), margin=margin, timer=timer)
    with files.whole_folder(folder) as unfinished:
        save(found.model, unfinished)
        check_tensors(unfinished, found.model)
        agreement = compare("The CSR folder", model, restore(copy.deepcopy(model), read(unfinished)[1]), inputs)
    return Exported(folder, size_of(folder), agreement, notes=(table(found, batch),))


def load_csr(folder: str | os.PathLike[str], factory: Factory) -> nn.Module:
    """Rebuild a network written by `csr`: `factory()` builds the original, dense architecture.

    Raises StorageError for missing or altered files, StructureError if the factory builds another network.
    """
    record, weights = read(Path(folder))
    model = rebuilt(record, factory)
    try:
        return restore(model, weights).eval()
    except (RuntimeError, ValueError) as error:
        raise StructureError(f"The weights in {folder} do not fit the network the factory builds. {error}") from error


def table(found: Conversion, batch: int) -> str:
    """Every linear layer: its zeros, both times, and what it is stored as; last the whole network."""
    rows = [("layer", "zeros", "dense µs", "CSR µs", "stored as"), *(_row(layer) for layer in found.layers)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([row[0].ljust(widths[0]), *(row[n].rjust(widths[n]) for n in (1, 2, 3)), row[4]]) for row in rows]
    if found.dense is not None and found.csr is not None:
        lines.append(f"whole network, batch {batch}: {1e6 * found.dense:.1f} µs dense, {1e6 * found.csr:.1f} µs with CSR layers")
    elif not any(layer.converted for layer in found.layers):
        lines.append(f"No layer is faster as CSR with batch {batch}; the folder holds the dense network.")
    return "\n".join(lines)


def _row(layer: LayerChoice) -> tuple[str, str, str, str, str]:
    dense, sparse = ("–" if seconds is None else f"{1e6 * seconds:.1f}" for seconds in (layer.dense, layer.csr))
    reason = "CSR" if layer.converted else f"dense: {layer.reason}" if layer.csr is None else "dense"
    return layer.name, f"{100 * layer.zeros:.1f} %", dense, sparse, reason
