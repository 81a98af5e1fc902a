"""A small network on disk: weights as safetensors, shapes as structure.json; never pickle."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from torch import Tensor, nn

from parsinet.errors import ArgumentTypeError, ParsinetWarning, StorageError, StructureError, told
from parsinet.files import digest, make_folder, write_bytes, write_text
from parsinet.structure.at_work import is_at_work
from parsinet.structure.parts import whole_record
from parsinet.structure.record import Factory, StructureRecord
from parsinet.structure.replaying import replay
from parsinet.structure.sealing import SEAL, carried_record, check_seal, sealed, weights_file

WEIGHTS = "model.safetensors"
STRUCTURE = "structure.json"
UNSTORED = (torch.complex128, torch.complex32)
"""Types of numbers that safetensors has no name for."""
CSR = ".crow_indices"
"""A part that layers stored as CSR have, and no others."""
COMPILED = "_orig_mod"
"""Where `torch.compile` keeps the network it has wrapped."""


def save(model: nn.Module, folder: str | Path) -> None:
    """Write `model.safetensors` and `structure.json` into `folder`, each atomically; the structure comes last, with checksums of both.

    The weights carry the structure too: whatever ends a save between its files, the folder holds one whole network, the old or the new.
    Tied tensors are stored once; of what `torch.compile` has wrapped, the network itself. ParsinetWarning while a method is at work on the
    model: its gates are in no file.
    Raises StructureError for a state not made of tensors that such a file can hold, StorageError if the folder cannot be written.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"save: model must be a torch module, got {told(model)}. The order is model, folder.")
    model = getattr(model, COMPILED, model)
    if is_at_work(model):
        warnings.warn(
            "save: a method is still at work on the model, and its gates are not in the files; the loaded network will compute something "
            "else. Call pruner.finish() first; to go on later, keep pruner.state_dict() too (docs/running.md).",
            ParsinetWarning,
            stacklevel=2,
        )
    folder = Path(folder)
    tensors, shared = _unique_tensors(model)
    record = {**whole_record(model).to_json(), "shared": shared}
    content = weights_file(tensors, record)
    record = sealed({**record, "weights": {"file": WEIGHTS, "bytes": len(content), "sha256": digest(content)}})
    make_folder(folder)
    write_bytes(folder / WEIGHTS, content)
    write_text(folder / STRUCTURE, json.dumps(record, indent=1, sort_keys=True) + "\n")


def load(folder: str | Path, factory: Factory) -> nn.Module:
    """Rebuild a saved network: `factory()` builds the original architecture, the record gives it its shapes, the weights follow.

    Every tensor has the type it was saved with, whatever the factory gives it. ParsinetWarning where a save was ended between its files.
    Raises StorageError for missing, truncated or altered files, StructureError if the factory builds another network.
    """
    if isinstance(factory, nn.Module) or not callable(factory):
        raise ArgumentTypeError(
            f"load: factory must be a function that builds the original network, got {told(factory)}: load(folder, lambda: Net())."
        )
    record, weights = read(folder)
    if any(name.endswith(CSR) for name in weights):
        raise StructureError(f"{folder} holds layers stored as CSR, for inference. Read it with parsinet.export.load_csr(folder, factory).")
    model = rebuilt(record, factory)
    _take_types(model, weights, record.bare)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise StructureError(f"The weights in {folder} do not fit the network the factory builds. {error}") from error
    return model


def read(folder: str | Path) -> tuple[StructureRecord, dict[str, Tensor]]:
    """What a saved network's folder holds: its record and every entry of its state, tied ones under each of their names.

    Raises StorageError for missing, truncated or altered files, StructureError for a damaged record.
    """
    folder = Path(folder)
    content = _read_record(folder / STRUCTURE)
    content, weights = _read_weights(folder / WEIGHTS, content)
    for alias, name in _entry(content, "shared").items():
        if not isinstance(name, str) or name not in weights:
            raise StorageError(f"{folder / STRUCTURE} is damaged: it ties {alias} to {name!r}, which is not stored.")
        weights[alias] = weights[name]
    return StructureRecord.from_json(content), weights


def rebuilt(record: StructureRecord, factory: Factory) -> nn.Module:
    """What `factory` builds, with the shapes of the record. Raises StructureError if it is another network."""
    model = factory()
    if not isinstance(model, nn.Module):
        raise StructureError(f"The factory must return an nn.Module, got {type(model).__name__}.")
    replay(model, record)
    return model


def _take_types(model: nn.Module, weights: dict[str, Tensor], bare: list[str]) -> None:
    """Give parameters and buffers the types of what was saved; ones in the place of parameters, which are not saved, that of all others."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name in weights and weights[name].dtype != tensor.dtype:
            tensor.data = tensor.data.to(weights[name].dtype)
    kinds = {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()}
    for name in bare if len(kinds) == 1 else ():
        ones = model.get_buffer(name)
        ones.data = ones.data.to(next(iter(kinds)))


def _unique_tensors(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise StructureError(f"State entry {name!r} is a {type(tensor).__name__}; only tensors can be saved.")
        if tensor.dtype in UNSTORED:
            raise StructureError(
                f"State entry {name!r} is {tensor.dtype}, which safetensors cannot hold. Keep it as complex64 or as torch.view_as_real."
            )
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)
        if tensor.numel() and key in first:
            shared[name] = first[key]
        else:
            first[key] = name
            tensors[name] = tensor.detach().cpu().contiguous().clone()
    return tensors, shared


def _read_record(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StorageError(f"{path} does not exist; a saved network is a folder with {WEIGHTS} and {STRUCTURE}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise StorageError(f"{path} cannot be read as JSON ({error}). The file is damaged; restore it from a copy.") from error
    if not isinstance(content, dict):
        raise StorageError(f"{path} is no structure record.")
    check_seal(content, path)
    return content


def _entry(content: dict[str, Any], key: str) -> dict[str, Any]:
    found = content.get(key, {})
    if not isinstance(found, dict):
        raise StorageError(f"{STRUCTURE} is damaged: its entry {key!r} is a {type(found).__name__}.")
    return found


def _read_weights(path: Path, record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The record, or, beside a whole one that is older, the one the weights carry; and the weights."""
    expected = _entry(record, "weights")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
    if expected.get("sha256") != digest(content):
        own = carried_record(content) if SEAL in record else None
        if own is None:
            have = f"it has {len(content):,} bytes, {expected.get('bytes', 0)} were written"
            raise StorageError(f"{path} does not match its checksum in {STRUCTURE} ({have}). The file is damaged; restore it from a copy.")
        warnings.warn(
            f"{path} is newer than {STRUCTURE}: a save was ended between the two. The record that the weights carry is used.",
            ParsinetWarning,
            stacklevel=2,
        )
        record = own
    try:
        return record, read_tensors(content)
    except SafetensorError as error:
        raise StorageError(f"{path} is no safetensors file ({error}).") from error
