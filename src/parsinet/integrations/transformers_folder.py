"""Folders of Hugging Face models whose layers differ in width: the first configuration, the structure record, safetensors."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from parsinet.errors import StorageError, UsageError
from parsinet.files import make_folder, write_text
from parsinet.structure import load, save
from parsinet.structure.configs import first_config

CONFIG, GENERATION = "config.json", "generation_config.json"


def save_pretrained(model: nn.Module, folder: str | Path) -> None:
    """Write a model that has lost units: `config.json` it was built from, `structure.json`, `model.safetensors`, no pickle.

    Errors: UsageError if it is no model of transformers; those of `parsinet.save`.
    """
    if not isinstance(model, PreTrainedModel):
        raise UsageError(f"save_pretrained: takes a model of transformers, got {type(model).__name__}. Use parsinet.save for others.")
    config = copy.deepcopy(first_config(model))
    config.architectures = [type(model).__name__]
    config.dtype = model.dtype
    folder = Path(folder)
    make_folder(folder)
    write_text(folder / CONFIG, config.to_json_string())
    if model.can_generate():
        write_text(folder / GENERATION, model.generation_config.to_json_string())
    save(model, folder)


def from_pretrained(folder: str | Path, kind: type[Any] | None = None) -> Any:
    """The model `save_pretrained` has written, in evaluation mode.

    kind: its class, where that is not one of transformers. Errors: UsageError if the class is not known; those of `parsinet.load`.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise StorageError(f"{folder / CONFIG} does not exist; name a folder that save_pretrained has written.")
    values = PreTrainedConfig.get_config_dict(str(folder))[0]
    name = (values.get("architectures") or ["?"])[0]
    kind = kind or getattr(transformers, name, None)
    if kind is None:
        raise UsageError(f"from_pretrained: {name} is no class of transformers. Give its class: from_pretrained(folder, {name}).")
    config = kind.config_class.from_dict(values)
    model: Any = load(folder, lambda: _built(kind, config)).eval()
    if (folder / GENERATION).is_file():
        model.generation_config = GenerationConfig.from_pretrained(str(folder))
    return model


def _built(kind: type[Any], config: Any) -> nn.Module:
    """A fresh model, its parameters in the dtype of the configuration."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(config.dtype or before)
    try:
        return kind(config)  # type: ignore[no-any-return]
    finally:
        torch.set_default_dtype(before)
