"""A Lightning callback that lets a method shrink the network of an unmodified LightningModule while a Trainer trains it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from parsinet.distributed import ALONE, Ranks, Replicas
from parsinet.draws import kept
from parsinet.errors import MissingExtraError, UsageError
from parsinet.integrations.options import PrunerOptions, add_gradient, check_groups, check_options
from parsinet.methods import Method, Pruner
from parsinet.methods.base import Probing
from parsinet.structure.calling import ExampleInputs
from parsinet.training.random_state import random_state, set_random_state

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise MissingExtraError("The Lightning callback needs lightning: pip install 'parsinet[lightning]'.") from error

from parsinet.integrations.lightning_parts import Held, check_fit, examples_of, network_of, replicated, seen_inputs, steps_of, trainerless

Loss = Callable[[LightningModule, Any], Tensor]


class Prune(Callback):
    """Lets a method shrink the network while Lightning trains it.

        prune = Prune(Gates(price=1e-3))
        Trainer(callbacks=[prune], …).fit(module, loader)
        lean = prune.finish()

    The gradient of the method's penalty joins that of the loss before gradients are clipped; the method steps after the optimizer, and
    units leave module, gradients and optimizer state. Checkpoints hold what `fit(ckpt_path=…)` needs to go on across removals, the global
    generators included. With DDP every process lets the same units go. When training ends well, the method decides what is still open.

    example_inputs: what the network takes; None: what reaches it from the module's `example_input_array`. network: name of the attribute
    of the module that is pruned; None: the only one with parameters if there is one, else the module itself, through its `forward`.
    loss: (module, batch) → mean loss of a batch, without logging; with it gates compare losses exactly before they decide. examples: size
    of the training set, None: that of the loader's data set where it has one. options: as of `Pruner`.

    Errors: UsageError for bad arguments, and at the start of `fit` for what cannot be pruned in (manual optimization, several optimizers,
    strategies that shard, half precision weights); those of `Pruner`.
    """

    def __init__(
        self,
        method: Method,
        example_inputs: ExampleInputs | None = None,
        *,
        network: str | None = None,
        loss: Loss | None = None,
        examples: int | None = None,
        **options: Unpack[PrunerOptions],
    ) -> None:
        check_options("Prune", method, options)
        if loss is not None and not callable(loss):
            raise UsageError(f"Prune: loss must be a function (module, batch) → mean loss, got {type(loss).__name__}.")
        self.method, self.example_inputs, self.network, self.examples = method, example_inputs, network, examples
        self._loss, self._options = loss, options
        self._pruner: Pruner | None = None
        self._ranks: Ranks = ALONE
        self._rank = 0
        self._device = torch.device("cpu")
        self._length: dict[str, int | None] = {}
        self._held: Held | None = None
        self._saved: Mapping[str, Any] = {}
        self._batches: list[Any] = []
        self._stepped = self._finished = False

    @property
    def pruner(self) -> Pruner:
        """The pruner at work: `widths()`, `units(group)`, `structure`; UsageError before `fit`."""
        if self._pruner is None:
            raise UsageError("Prune: nothing has been trained yet; give this callback to a Trainer and call its fit first.")
        return self._pruner

    def finish(self) -> nn.Module:
        """The network, plain and small; what is still open is decided first, where training was cut short, by all processes."""
        if not self._finished:
            self.pruner.finish()
            self._finished = True
        return self.pruner.model

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the method prepare the network, before there is an optimizer; weights to be loaded wait until units have left."""
        self._held = Held(pl_module, self.state_key, postpone=stage == "fit")
        if stage != "fit":
            return
        if self._pruner is not None:
            raise UsageError("Prune: this callback has pruned a network already. Build a new one, with a new method, for another fit.")
        check_fit(trainer, pl_module)
        self._rank = trainer.global_rank
        self.method.prepare(network_of(pl_module, self.network)[1])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the saved state until the optimizer exists; data and dropout go on from the generators it holds."""
        if self._held is not None and self._held.postpone:
            self._saved = state_dict
            set_random_state(state_dict["random"][self._rank % len(state_dict["random"])])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Meet network and optimizer; on resume let go what had left, then load the weights."""
        self._device = trainer.strategy.root_device
        self._length["steps"] = steps_of(trainer)  # sets the loaders up, if nobody has, from the generators the run goes on with
        self._length["examples"] = self.examples or examples_of(trainer)
        with kept(pl_module):
            self._pruner = self._build(trainer, pl_module)
        if self._saved:
            self._pruner.load_state_dict(self._saved["pruner"])
        if self._held is not None:
            self._held.release(pl_module)
        self._saved = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the batches of a step where losses will be compared on them."""
        if self._loss is not None and isinstance(self.method, Probing) and not self.method.settled:
            self._batches.append(batch)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer) -> None:
        """Add the penalty's gradient; it is unscaled here, and not yet clipped."""
        add_gradient(self.pruner.penalty())
        self._stepped = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After an optimizer step the method's; units may leave."""
        if not self._stepped:
            return
        self._stepped = False
        self.pruner.step(self._closure(trainer, pl_module) if self._batches else None)
        self._batches.clear()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log how many parameters are left, as `parsinet/parameters`."""
        pl_module.log("parsinet/parameters", float(sum(parameter.numel() for parameter in self.pruner.model.parameters())))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide what is still open, while all processes and devices are there."""
        self.finish()
        if isinstance(trainer.strategy.model, Replicas):
            trainer.strategy.model.end()
            trainer.strategy.model = pl_module

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the module's hooks as they were."""
        if self._held is not None:
            self._held.leave(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The same where training has failed, since Lightning tears nothing down then."""
        self.teardown(trainer, pl_module, "fit")

    def state_dict(self) -> dict[str, Any]:
        """What left and the method's state, with the global generators of every process; plain values and tensors."""
        if self._pruner is None:
            return {}
        return {**self._length, "pruner": self._pruner.state_dict(), "random": self._ranks.gather(random_state(self._device))}

    def _build(self, trainer: Trainer, module: LightningModule) -> Pruner:
        name, network = network_of(module, self.network)
        (optimizer,) = trainer.optimizers
        check_groups("Prune", self.method, network, optimizer)
        replicas = replicated(trainer, module, name)
        self._ranks = ALONE if replicas is None else replicas.ranks
        with trainerless(module):
            return Pruner(
                network if replicas is None else replicas,
                optimizer,
                self.method,
                seen_inputs(trainer, module, network, self.example_inputs),
                steps=self._length["steps"],
                examples=self._length["examples"],
                scaler=getattr(trainer.precision_plugin, "scaler", None),
                **self._options,
            )

    def _closure(self, trainer: Trainer, module: LightningModule) -> Callable[[], Tensor]:
        """The mean loss over the batches of this step, as Lightning weighs them."""

        def loss() -> Tensor:
            assert self._loss is not None
            with trainer.precision_plugin.train_step_context():
                return torch.stack([self._loss(module, batch) for batch in self._batches]).mean()

        return loss
