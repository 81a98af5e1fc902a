"""A small LightningModule, its trainings, and the same training as a loop of one's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from methods.toys import network, points
from parsinet import baselines, methods
from parsinet.integrations.lightning import Prune
from parsinet.methods import Method, Pruner, Removal

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
EPOCHS, BATCHES, SIZE = 5, 8, 32
STEPS = EPOCHS * BATCHES
METHODS: dict[str, Callable[[], Method]] = {
    "gates": lambda: methods.Gates(price=0.006, gated=0.8, fall_steps=12, interval=3, theta=0.8),
    "vib": lambda: baselines.VIB(kl=3e-2, rate=0.05, interval=5),
    "spectral": lambda: methods.Spectral(0.5, eigenvalue_lasso=1e-3, begin=0.2, end=0.7, interval=4),
}


def loader(*, shuffle: bool = False) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*points(BATCHES * SIZE)), SIZE, shuffle=shuffle)


class Toy(pl.LightningModule):
    """Knows nothing of parsinet."""

    def __init__(self, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        self.net = nn.Sequential(network(seed, batch_norm=True), nn.Dropout(dropout))
        self.example_input_array = points(4)[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, index: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("error", (self(batch[0]).argmax(1) != batch[1]).float().mean())

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01, weight_decay=1e-4)


class Watch(pl.Callback):
    """Notes the widths after every step, and after removals whether each parameter moved; saves every epoch, stops where it is told to."""

    def __init__(self, prune: Prune | None, stop: int | None = None, path: Path | None = None) -> None:
        self.prune, self.stop, self.path = prune, stop, path
        self.widths: list[dict[str, int]] = []
        self.before: dict[str, Tensor] = {}
        self.moved: list[bool] = []

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.before = {name: value.detach().clone() for name, value in pl_module.named_parameters()}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.prune is not None:
            self.widths.append(self.prune.pruner.widths())
        if len(self.widths) > 1 and self.widths[-1] == self.widths[-2] and self.widths[-1] != self.widths[0]:
            self.moved += [not torch.equal(value, self.before[name]) for name, value in pl_module.named_parameters()]

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.path is not None:
            trainer.save_checkpoint(self.path.with_stem(f"epoch-{trainer.current_epoch}"))
        if trainer.current_epoch == self.stop:
            raise StoppedError


class StoppedError(Exception):
    """A training was cut short."""


def trainer(callbacks: Sequence[pl.Callback], **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(**{"max_epochs": EPOCHS, "accelerator": "cpu", "callbacks": list(callbacks), **quiet, **options})


def step_loss(module: pl.LightningModule, batch: Any) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1])


def own_loop(
    method: Method, *, accumulate: int = 1, clip: float | None = None, autocast: bool = False, toy: Toy | None = None
) -> nn.Module:
    """The training Lightning makes of `Toy`, by hand."""
    net = (toy or Toy()).net.train()
    method.prepare(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=1e-4)
    pruner = Pruner(net, optimizer, method, points(4)[0], steps=STEPS // accumulate, examples=BATCHES * SIZE)
    context = torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()
    for _ in range(EPOCHS):
        batches = list(loader())
        for first in range(0, len(batches), accumulate):
            own_step(net, optimizer, pruner, batches[first : first + accumulate], clip, context)
    return pruner.finish()


def own_step(net: nn.Module, optimizer: Any, pruner: Pruner, batches: Sequence[Any], clip: float | None, context: Any) -> Removal | None:
    optimizer.zero_grad()
    for x, y in batches:
        with context:
            loss = F.cross_entropy(net(x), y)
        (loss / len(batches)).backward()
    penalty = pruner.penalty()
    if isinstance(penalty, Tensor):
        penalty.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimizer.step()

    def again() -> Tensor:
        with context:
            return torch.stack([F.cross_entropy(net(x), y) for x, y in batches]).mean()

    return pruner.step(again)


def same(a: nn.Module, b: nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
