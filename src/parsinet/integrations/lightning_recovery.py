"""The small network in a checkpoint of a Lightning training, such as its best one, without a Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import torch
from lightning.pytorch import LightningModule
from torch import nn

from parsinet.draws import kept
from parsinet.errors import RunError, StorageError, UsageError
from parsinet.integrations.lightning import Prune
from parsinet.integrations.lightning_parts import network_of, reaching
from parsinet.integrations.options import PrunerOptions
from parsinet.methods import Method, Pruner
from parsinet.structure.calling import ExampleInputs


def recover(
    path: str | Path,
    module: LightningModule,
    method: Method,
    example_inputs: ExampleInputs | None = None,
    *,
    network: str | None = None,
    **options: Unpack[PrunerOptions],
) -> nn.Module:
    """The network as it was when the checkpoint was saved, plain and small; what was open then is decided.

    module, method and the rest: built anew, as they were given when training began; the module gets the checkpoint's weights.

    Errors: StorageError if the file cannot be read without unpickling more than tensors and plain values, RunError if it was saved without
    `Prune`; those of `Pruner`.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise StorageError(f"{path} cannot be read as a checkpoint of tensors and plain values ({type(error).__name__}).") from error
    saved = checkpoint.get("callbacks", {}).get(Prune.__qualname__)
    if not saved:
        raise RunError(f"{path} was saved without the callback Prune; load it as Lightning says.")
    _, part = network_of(module, network)
    with kept():
        method.prepare(part)
        inputs = reaching(module, part, module.example_input_array) if example_inputs is None else example_inputs
        pruner = Pruner(part, _optimizer(module), method, inputs, steps=saved["steps"], examples=saved["examples"], **options)
        pruner.load_state_dict(saved["pruner"])
        module.load_state_dict(checkpoint["state_dict"], strict=module.strict_loading)
        return pruner.finish()


def _optimizer(module: LightningModule) -> torch.optim.Optimizer:
    """What the module would be trained with."""
    found: Any = module.configure_optimizers()
    while not isinstance(found, torch.optim.Optimizer):
        if not isinstance(found, dict | list | tuple) or not found:
            raise UsageError(f"recover: {type(module).__name__}.configure_optimizers gives no optimizer.")
        found = found["optimizer"] if isinstance(found, dict) else found[0]
    return found
