"""Folders of Hugging Face models whose layers differ in width: the first configuration, the structure record, safetensors."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from parsinet.errors import StorageError, UsageError
from parsinet.files import make_folder, write_text
from parsinet.spectral import SpectralLayer
from parsinet.structure import load, save
from parsinet.structure.at_work import is_at_work
from parsinet.structure.configs import first_config
from parsinet.structure.record import record_of
from parsinet.structure.storage import STRUCTURE

CONFIG, GENERATION = "config.json", "generation_config.json"


def save_pretrained(model: nn.Module, folder: str | Path) -> None:
    """Write a model that has lost units: `config.json` it was built from, `structure.json`, `model.safetensors`, no pickle.

    In several processes call it in one of them. Errors: UsageError if it is no model of transformers, if a method is still at work on it
    (its gates would not be in the files), or if it has spectral layers that were not folded, of which no configuration knows; those of
    `parsinet.save`.
    """
    if not isinstance(model, PreTrainedModel):
        raise UsageError(f"save_pretrained: takes a model of transformers, got {type(model).__name__}. Use parsinet.save for others.")
    spectral = [name for name, module in model.named_modules() if isinstance(module, SpectralLayer)]
    if spectral:
        raise UsageError(
            f"save_pretrained: {spectral[0]} is a spectral layer, which no configuration describes. Give the finished model: "
            "prune.finish(), or parsinet.spectral.fold(model)."
        )
    if is_at_work(model):
        raise UsageError("save_pretrained: a method is still at work on the model, and its gates would be lost. Call prune.finish() first.")
    config = _original(model)
    config.architectures = [type(model).__name__]
    config.dtype = model.dtype
    folder = Path(folder)
    make_folder(folder)
    write_text(folder / CONFIG, config.to_json_string())
    if model.can_generate():
        write_text(folder / GENERATION, model.generation_config.to_json_string())
    save(model, folder)


def _original(model: PreTrainedModel) -> Any:
    """The configuration the model was built from, with what has changed since by other ways than removals (`resize_token_embeddings`)."""
    config, now = copy.deepcopy(first_config(model)), model.config.to_dict()
    followed = {name.removeprefix("config.") for values in record_of(model).attributes.values() for name in values}
    followed |= {config.attribute_map.get(name, name) for name in followed}
    for entry, value in config.to_dict().items():
        if not isinstance(value, dict) and entry not in followed and now.get(entry, value) != value:
            setattr(config, entry, now[entry])
    return config


def from_pretrained(folder: str | Path, kind: type[Any] | None = None) -> Any:
    """The model `save_pretrained` has written, in evaluation mode.

    kind: its class, where that is not one of transformers. Errors: UsageError if the class is not known or not one of models, StorageError
    for files that are missing or damaged; those of `parsinet.load`.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise StorageError(f"{folder / CONFIG} does not exist; name a folder that save_pretrained has written.")
    if not (folder / STRUCTURE).is_file():
        raise StorageError(f"{folder} has no {STRUCTURE}: parsinet has not written it. Load it as transformers does, by AutoModel….")
    found = _class(_values(folder / CONFIG), kind)
    try:
        config = found.config_class.from_dict(PreTrainedConfig.get_config_dict(str(folder))[0])
    except Exception as error:
        raise StorageError(f"{folder / CONFIG} is no configuration of {found.__name__} ({error}).") from error
    model: Any = load(folder, lambda: _built(found, config)).eval()
    if (folder / GENERATION).is_file():
        _values(folder / GENERATION)
        model.generation_config = GenerationConfig.from_pretrained(str(folder))
    return model


def _values(path: Path) -> dict[str, Any]:
    """The entries of a JSON file; StorageError if it has none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read ({error}).") from error
    if not isinstance(values, dict):
        raise StorageError(f"{path} is damaged: it holds a {type(values).__name__} in the place of entries by name.")
    return values


def _class(values: dict[str, Any], kind: Any) -> type[Any]:
    """The class of the model. UsageError for one that is not known, and for what is no class of models."""
    names = values.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else "?"
    found = getattr(transformers, name, None) if kind is None else kind
    if isinstance(found, type) and issubclass(found, PreTrainedModel):
        return found
    if kind is None:
        raise UsageError(f"from_pretrained: {name} is no class of transformers. Give its class: from_pretrained(folder, {name}).")
    raise UsageError(f"from_pretrained: kind must be a class of models of transformers, got {kind!r}.")


def _built(kind: type[Any], config: Any) -> nn.Module:
    """A fresh model, its parameters in the dtype of the configuration."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(config.dtype or before)
    try:
        return kind(config)  # type: ignore[no-any-return]
    finally:
        torch.set_default_dtype(before)
