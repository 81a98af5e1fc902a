"""A fine-tuned network as a small file: eigenvalues and biases alone, and what says which frozen basis they belong to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from parsinet.errors import StorageError, UsageError
from parsinet.files import make_folder, write_bytes
from parsinet.spectral.bases import FrozenBlock, NarrowBlock, SVDBlock
from parsinet.spectral.layers import SpectralLayer, spectral_layers
from parsinet.spectral.seeds import SeededBlock

FORMAT = "parsinet eigenvalues 1"


def save_eigenvalues(model: nn.Module, path: str | Path) -> None:
    """Write what trains in the spectral layers of `model` to one safetensors file, atomically: λ, s, and biases unless they are frozen.

    The file names the frozen bases by checksum, so that `load_eigenvalues` can refuse another network. Raises UsageError where
    something else trains as well (R, φ, a plain layer), which the file would silently lack;
    StorageError if it cannot be written.
    """
    path = Path(path)
    layers = _adapted(model, "save_eigenvalues")
    tensors = _trained(layers)
    _check_nothing_else_trains(model, tensors)
    metadata = {"format": FORMAT, "bases": json.dumps(_bases(layers), sort_keys=True)}
    make_folder(path.parent)
    write_bytes(path, tensors_to_bytes({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata=metadata))


def load_eigenvalues(model: nn.Module, path: str | Path) -> None:
    """Set what `save_eigenvalues` wrote, in place. `model`: the same network, spectralized the same way with "keep".

    Raises StorageError for a missing or damaged file, UsageError, with nothing changed, for a file of another network.
    """
    path = Path(path)
    tensors, bases = _read(path)
    layers = _adapted(model, "load_eigenvalues")
    own = _trained(layers)
    names = sorted(own.keys() ^ tensors.keys())
    if names:
        side = "the file lacks" if names[0] in own else "this model does not train"
        raise UsageError(f"load_eigenvalues: {path} is of another network: {side} {names[0]}.")
    for name, value in own.items():
        if value.shape != tensors[name].shape or value.dtype != tensors[name].dtype:
            raise UsageError(f"load_eigenvalues: {path} is of another network: {name} is {_form(tensors[name])}, here {_form(value)}.")
    for layer, digest in _bases(layers).items():
        if bases.get(layer) != digest:
            raise UsageError(f"load_eigenvalues: {path} was trained on another frozen basis than that of {layer or 'this model'}.")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])


def _adapted(model: nn.Module, caller: str) -> dict[str, SpectralLayer]:
    layers = spectral_layers(model)
    if not layers:
        raise UsageError(f"{caller}: {type(model).__name__} has no spectral layer; call spectralize first.")
    for name, layer in layers.items():
        if not isinstance(layer.spectrum.basis, (FrozenBlock, NarrowBlock, SeededBlock, SVDBlock)):
            kind = type(layer.spectrum.basis).__name__
            raise UsageError(f"{caller}: the eigenvectors of {name} train as well ({kind}); store the whole state_dict instead.")
        if layer.spectrum.mask is not None:
            raise UsageError(f"{caller}: {name} is masked, and the mask would not be in the file; store the whole state_dict instead.")
    return layers


def _trained(layers: Mapping[str, SpectralLayer]) -> dict[str, Tensor]:
    """Trained tensors of the layers, by their name in the model."""
    found: dict[str, Tensor] = {}
    for path, layer in layers.items():
        found.update({name: value for name, value in layer.named_parameters(prefix=path) if value.requires_grad})
    return found


def _check_nothing_else_trains(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    known = {id(value) for value in tensors.values()}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in known:
            raise UsageError(
                f"save_eigenvalues: {name} trains as well and would not be in the file. Freeze it with requires_grad_(False), "
                "spectralize its layer, or store the whole state_dict."
            )


def _bases(layers: Mapping[str, SpectralLayer]) -> dict[str, str]:
    """Checksum of every layer's frozen tensors."""
    return {path: _digest({**dict(layer.spectrum.named_buffers()), **_frozen(layer)}) for path, layer in layers.items()}


def _frozen(layer: SpectralLayer) -> dict[str, Tensor]:
    return {name: value for name, value in layer.named_parameters() if not value.requires_grad}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in sorted(tensors.items())}
    return hashlib.sha256(tensors_to_bytes(plain)).hexdigest()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        tensors = read_tensors(path.read_bytes())
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}.") from error
    except SafetensorError as error:
        raise StorageError(f"{path} is no safetensors file, or is damaged ({error}). Restore it from a copy.") from error
    if metadata.get("format") != FORMAT:
        raise StorageError(f"{path} holds no eigenvalues of parsinet; expected a file written by save_eigenvalues.")
    try:
        bases = json.loads(metadata.get("bases", ""))
    except json.JSONDecodeError:
        bases = None
    if not isinstance(bases, dict):
        raise StorageError(f"{path} is damaged: it does not say which bases its eigenvalues belong to. Restore it from a copy.")
    return tensors, bases


def _form(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
