"""Thin adapters to other people's training loops; each is imported at first use, and needs the package it adapts to."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parsinet.integrations import lightning, lightning_recovery, transformers

__all__ = ["lightning", "lightning_recovery", "transformers"]


def __getattr__(name: str) -> Any:
    """`parsinet.integrations.transformers` without an import of its own."""
    if name not in __all__:
        raise AttributeError(f"module 'parsinet.integrations' has no attribute {name!r}")
    return importlib.import_module(f"parsinet.integrations.{name}")
