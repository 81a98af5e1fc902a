"""What the Trainer callback asks of its surroundings: weights that wait, the model's own forward, what cannot be pruned in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments

from parsinet.errors import UsageError

WRAPPED = ("forward", "_original_forward")
"""What accelerate puts on a model to run it in mixed precision; a copy of the model would still call the original."""


class Waiting:
    """Takes the weights of a checkpoint that do not fit the model yet, until the units have left that they lack.

    The Trainer loads weights before anybody can know which checkpoint it goes on from.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.weights: dict[str, Any] | None = None
        self._handle = model.register_load_state_dict_pre_hook(self._take)  # type: ignore[no-untyped-call]

    def _take(self, module: nn.Module, weights: dict[str, Any], *_: Any) -> None:
        own = module.state_dict()
        if any(name in own and value.shape != own[name].shape for name, value in weights.items()):
            self.weights = dict(weights)
            weights.update(own)

    def release(self) -> None:
        """Load what waits, and take nothing any more."""
        self._handle.remove()
        if self.weights is not None:
            self.model.load_state_dict(self.weights, strict=False)  # tied tensors are stored once
            self.weights = None


def check_training(args: TrainingArguments) -> None:
    """UsageError for a training in which units cannot leave."""
    refused = {
        f"{args.n_gpu} GPUs in one process": args.n_gpu > 1,
        "fp16": args.fp16,
        "torch_compile": args.torch_compile,
        "load_best_model_at_end": args.load_best_model_at_end,
        "auto_find_batch_size": args.auto_find_batch_size,
        "fsdp": bool(args.fsdp),
        "deepspeed": args.deepspeed is not None,
    }
    found = [name for name, there in refused.items() if there]
    if found:
        raise UsageError(
            f"Prune: does not work with {' and '.join(found)}. Train on one device per process, in full precision or bf16, with one model "
            "from start to end."
        )


def plain_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """The torch optimizer inside accelerate's."""
    inner = getattr(optimizer, "optimizer", optimizer)
    assert isinstance(inner, torch.optim.Optimizer)
    return inner


def unwrap(model: nn.Module) -> None:
    """Take what accelerate has put around the model's forward (casts to 16 bits and back) away for good."""
    for name in WRAPPED:
        model.__dict__.pop(name, None)


@contextmanager
def own_forward(model: nn.Module) -> Iterator[None]:
    """Inside, the model runs the forward of its class, without what accelerate has put around it."""
    wrapped = {name: model.__dict__.pop(name) for name in WRAPPED if name in model.__dict__}
    try:
        yield
    finally:
        model.__dict__.update(wrapped)
