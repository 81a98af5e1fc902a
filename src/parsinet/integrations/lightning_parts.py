"""What the Lightning callback asks of trainer and module: what is pruned, in how many steps, on which processes, and what cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, callbacks
from lightning.pytorch.plugins.precision import DoublePrecision, MixedPrecision, Precision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import nn

from parsinet.distributed import Replicas
from parsinet.errors import StructureError, UsageError
from parsinet.measure.examples import evaluating
from parsinet.structure.calling import ExampleInputs, as_call

AVERAGING = (callbacks.StochasticWeightAveraging, *filter(None, [getattr(callbacks, "WeightAveraging", None)]))
"""Callbacks with a second set of weights; the latter came with Lightning 2.6."""


class Held:
    """Stands in front of the module's `on_load_checkpoint` while a checkpoint is loaded.

    postpone: weights of a checkpoint that holds a pruner's state wait here until the units have left that it says; else weights that do
    not fit the network are refused in words, StructureError.
    """

    def __init__(self, module: LightningModule, key: str, *, postpone: bool) -> None:
        self.postpone, self._key = postpone, key
        self._weights: dict[str, Any] | None = None
        self._inner = module.on_load_checkpoint
        module.on_load_checkpoint = self._load  # type: ignore[method-assign]
        self._module = module

    def _load(self, checkpoint: dict[str, Any]) -> None:
        self._inner(checkpoint)
        if self.postpone and checkpoint.get("callbacks", {}).get(self._key):
            self._weights, checkpoint["state_dict"] = checkpoint["state_dict"], self._module.state_dict()
        else:
            _check_shapes(self._module, checkpoint["state_dict"])

    def release(self, module: LightningModule) -> None:
        """Load what waits."""
        self.leave(module)
        if self._weights is not None:
            module.load_state_dict(self._weights, strict=module.strict_loading)
            self._weights = None

    def leave(self, module: LightningModule) -> None:
        """Give the module its own hook back."""
        module.__dict__.pop("on_load_checkpoint", None)


def _check_shapes(module: LightningModule, weights: dict[str, Any]) -> None:
    here = {name: value.shape for name, value in module.state_dict().items() if hasattr(value, "shape")}
    for name, value in weights.items():
        if name in here and value.shape != here[name]:
            raise StructureError(
                f"The checkpoint was saved when {name} had shape {tuple(value.shape)}; it has {tuple(here[name])} now, since units have "
                "left. Give a new module to fit(ckpt_path=…), or take its network with parsinet.integrations.lightning_recovery.recover."
            )


def check_fit(trainer: Trainer, module: LightningModule) -> None:
    """UsageError for a training in which units cannot leave."""
    if not module.automatic_optimization:
        raise UsageError("Prune: with manual optimization only you know when a step is over; use parsinet.Pruner in your training_step.")
    strategy, precision = trainer.strategy, trainer.precision_plugin
    if type(strategy) is not SingleDeviceStrategy and type(strategy) is not DDPStrategy:
        raise UsageError(f"Prune: works on one device or with DDPStrategy, got {type(strategy).__name__}. Give Trainer(strategy='ddp').")
    if type(precision) not in (Precision, MixedPrecision, DoublePrecision):
        raise UsageError(f"Prune: {type(precision).__name__} keeps weights in a form units cannot leave. Use precision='bf16-mixed'.")
    averaging = [type(one).__name__ for one in getattr(trainer, "callbacks", ()) if isinstance(one, AVERAGING)]
    if averaging:
        raise UsageError(
            f"Prune: {averaging[0]} keeps a copy of the weights that loses no units. Leave it out, or take parsinet.Pruner(followers=[…]) "
            "in a loop of your own."
        )
    if isinstance(strategy, DDPStrategy):
        if strategy._start_method != "popen":
            raise UsageError("Prune: processes that are spawned cannot give a smaller module back. Give Trainer(strategy='ddp').")
        if strategy._ddp_comm_hook is not None or strategy._model_averaging_period is not None:
            raise UsageError("Prune: communication hooks and model averaging of DDPStrategy are not supported. Leave them out.")


def network_of(module: LightningModule, name: str | None) -> tuple[str, nn.Module]:
    """Name and module of what is pruned, see `Prune`."""
    if name is not None:
        found = dict(module.named_modules()).get(name)
        if found is None:
            raise UsageError(f"Prune: {type(module).__name__} has no module {name!r}. Name the attribute that holds the network.")
        return name, found
    holders = [(key, child) for key, child in module.named_children() if any(True for _ in child.parameters())]
    if len(holders) == 1 and not any(True for _ in module.parameters(recurse=False)):
        return holders[0]
    return "", module


def seen_inputs(trainer: Trainer, module: LightningModule, network: nn.Module, given: ExampleInputs | None) -> ExampleInputs:
    """What the network takes, on the device and in the precision of the training."""
    inputs = module.example_input_array if given is None else given
    inputs = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(inputs))
    return inputs if given is not None else reaching(module, network, inputs)


def reaching(module: LightningModule, network: nn.Module, inputs: Any) -> ExampleInputs:
    """What the network is called with when the module is called with `inputs`, its `example_input_array`."""
    if inputs is None:
        raise UsageError("Prune: the network is traced on example inputs; give Prune(method, example_inputs) or set example_input_array.")
    if network is module:
        return inputs  # type: ignore[no-any-return]
    calls: list[tuple[Any, Any]] = []
    handle = network.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
    try:
        args, kwargs = as_call(inputs)
        with evaluating(module), torch.no_grad():
            module(*args, **kwargs)
    finally:
        handle.remove()
    if len(calls) != 1 or (calls[0][0] and calls[0][1]):
        raise UsageError("Prune: example_input_array does not tell what the network takes; give that as Prune(method, example_inputs).")
    return calls[0][0] or calls[0][1]  # type: ignore[no-any-return]


def steps_of(trainer: Trainer) -> int | None:
    """Optimizer steps of the whole training, None where nobody knows."""
    steps = trainer.estimated_stepping_batches
    return int(steps) if math.isfinite(steps) and steps > 0 else None


def examples_of(trainer: Trainer) -> int | None:
    """Size of the training set, where the loader has one."""
    data = getattr(trainer.train_dataloader, "dataset", None)
    return len(data) if isinstance(data, Sized) else None


def replicated(trainer: Trainer, module: LightningModule, name: str) -> Replicas | None:
    """With DDP, replicas in the place of Lightning's wrapper, which cannot follow a removal."""
    strategy = trainer.strategy
    if not isinstance(strategy, DDPStrategy):
        return None
    strategy.model = module
    strategy.model = Replicas(module, part=name, device_ids=strategy.determine_ddp_device_ids(), **strategy._ddp_kwargs)
    return strategy.model


@contextmanager
def trainerless(module: LightningModule) -> Iterator[None]:
    """Inside, the module knows no trainer, which would be copied with it."""
    trainer = module.trainer
    module.trainer = None
    try:
        yield
    finally:
        module.trainer = trainer
