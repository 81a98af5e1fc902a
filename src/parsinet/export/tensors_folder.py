"""The folder that `parsinet.load` reads: weights as safetensors, shapes as structure.json, read back before it takes its name."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from parsinet import files
from parsinet.errors import ExportError
from parsinet.export.exported import Exported, size_of
from parsinet.export.program_file import same_bits
from parsinet.structure import save
from parsinet.structure.storage import read


def safetensors(model: nn.Module, folder: str | os.PathLike[str]) -> Exported:
    """Write model.safetensors and structure.json, as `parsinet.save`, into a folder that is whole or absent.

    Errors: ExportError if a tensor does not come back bit by bit; StorageError if the folder is taken or cannot be written; StructureError
    for a state that is not made of tensors.
    """
    folder = Path(folder)
    with files.whole_folder(folder) as unfinished:
        save(model, unfinished)
        check_tensors(unfinished, model)
    return Exported(folder, size_of(folder), None)


def check_tensors(folder: Path, model: nn.Module) -> None:
    """Hold every tensor of a saved network against the model's, bit by bit. Raises ExportError; StorageError for an altered file."""
    _, stored = read(folder)
    ours = model.state_dict()
    for name in sorted({*ours, *stored}):
        if name not in ours or name not in stored or not same_bits(stored[name], ours[name].cpu()):
            raise ExportError(f"The folder does not hold the same network: its tensor {name!r} differs. Nothing was written.")
