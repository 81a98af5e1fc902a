"""Configurations that modules hold: a number that describes all layers of a Hugging Face model follows when all have changed alike."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

NAMES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "embed_dim", "d_model"),
    "intermediate_size": ("intermediate_size", "intermediate_dim"),
    "num_attention_heads": ("num_attention_heads", "num_heads", "n_heads"),
    "num_key_value_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
}
"""Entry of a configuration, and the attributes of modules that repeat it."""
_FIRST = "_first_config"


@dataclass(frozen=True)
class _First:
    """Keeps a configuration out of sight of what looks for numbers among a module's attributes."""

    config: Any


def first_config(model: nn.Module) -> Any:
    """The configuration the model was built from, before its entries followed removals; it must not be changed."""
    first = model.__dict__.get(_FIRST)
    return model.config if first is None else first.config


def described(model: nn.Module) -> dict[tuple[str, str], int]:
    """(module, entry) → value, for the entries of the configuration kept at `module` that say how wide all layers beneath are.

    The residual width is also read from the input embedding. An entry that no module repeats, or that some module contradicts
    (layers of different widths), describes nothing: there the structure record alone carries the truth.
    """
    found = {}
    for path, module in _owners(model).items():
        for entry, names in NAMES.items():
            values = set(_repeated(module, names))
            width = _embedding_width(module) if entry == "hidden_size" else None
            values |= set() if width is None else {width}
            if len(values) == 1:
                found[path, entry] = values.pop()
    return found


def follow(model: nn.Module, before: Mapping[tuple[str, str], int]) -> dict[str, dict[str, Any]]:
    """Set the entries that described the model `before` and still are one number for all layers; returns what changed.

    The configuration object is replaced by a changed copy, since other models and factories may hold the same one.
    """
    changed: dict[str, dict[str, Any]] = {}
    for (path, entry), value in described(model).items():
        config = model.get_submodule(path).config
        if value != before.get((path, entry)) == getattr(config, entry, None):
            set_entry(model, path, f"config.{entry}", value)
            changed.setdefault(path, {})[f"config.{entry}"] = value
    return changed


def set_entry(model: nn.Module, path: str, attribute: str, value: Any) -> None:
    """Give an entry ("config.hidden_size") of a dict, named tuple or configuration kept at `path` a new value, in a copy that replaces it.

    A configuration is replaced in every module that holds it; a dict or a named tuple is the module's own.
    """
    name, _, entry = attribute.partition(".")
    owner = model.get_submodule(path)
    old = owner.__dict__[name]
    if isinstance(old, dict):
        owner.__dict__[name] = {**old, entry: value}
        return
    if is_named_tuple(old):
        owner.__dict__[name] = old._replace(**{entry: value})
        return
    new = copy.deepcopy(old)
    if entry in vars(new):
        vars(new)[entry] = value
    else:
        setattr(new, entry, value)
    for module in model.modules():
        for known in [key for key, held in module.__dict__.items() if held is old]:
            module.__dict__[known] = new
    owner.__dict__.setdefault(_FIRST, _First(old))


def entry_of(module: nn.Module, attribute: str) -> Any:
    """The present value of such an entry; None if there is none."""
    name, _, entry = attribute.partition(".")
    holder = module.__dict__.get(name)
    return holder.get(entry) if isinstance(holder, dict) else getattr(holder, entry, None)


def has_entry(module: nn.Module, attribute: str) -> bool:
    """Whether the module keeps a dict, a named tuple or a configuration with this whole number."""
    return isinstance(entry_of(module, attribute), int)


def is_named_tuple(value: object) -> bool:
    """Whether it is a tuple whose entries have names."""
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _owners(model: nn.Module) -> dict[str, nn.Module]:
    """The outermost module that keeps each configuration object of transformers, by path."""
    owners: dict[int, tuple[str, nn.Module]] = {}
    for path, module in model.named_modules():
        config = module.__dict__.get("config")
        if any(kind.__module__ == "transformers.configuration_utils" for kind in type(config).__mro__):
            owners.setdefault(id(config), (path, module))
    return dict(owners.values())


def _repeated(owner: nn.Module, names: tuple[str, ...]) -> Iterator[int]:
    """Values of these attributes in the modules that share the owner's configuration or have none."""
    config = owner.__dict__["config"]
    for module in owner.modules():
        if module.__dict__.get("config", config) is config and not type(module).__module__.startswith("torch.nn"):
            yield from (module.__dict__[name] for name in names if type(module.__dict__.get(name)) is int)


def _embedding_width(module: Any) -> int | None:
    """Width of the input embedding, where the module has one and does not project it afterwards."""
    try:
        weight = module.get_input_embeddings().weight
    except (AttributeError, NotImplementedError):
        return None
    return int(weight.shape[1]) if weight.dim() == 2 else None
