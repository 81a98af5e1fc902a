"""A callback for the Trainer of transformers that lets a method shrink its model, and folders of models whose layers differ in width."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from parsinet.distributed import ALONE, Ranks, Replicas, digest
from parsinet.draws import kept
from parsinet.errors import MissingExtraError, RunError, UsageError
from parsinet.integrations.options import PrunerOptions, add_gradient, check_groups, check_options
from parsinet.methods import Method, Pruner
from parsinet.structure.calling import ExampleInputs
from parsinet.training.checkpoint import load_checkpoint, save_checkpoint

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise MissingExtraError("The Trainer callback needs transformers and accelerate: pip install 'parsinet[transformers]'.") from error

from parsinet.integrations.transformers_folder import from_pretrained, save_pretrained
from parsinet.integrations.transformers_parts import Waiting, check_training, own_forward, plain_optimizer, unwrap
from parsinet.integrations.transformers_replicas import Wrapping

__all__ = ["Prune", "from_pretrained", "save_pretrained"]
FOLDER = "parsinet"
"""Where a checkpoint of the Trainer holds what the callback adds to it."""


class Prune(TrainerCallback):
    """Lets a method shrink the model while transformers' Trainer trains it.

        prune = Prune(Gates(price=1e-3), {"input_ids": ids})
        Trainer(model, arguments, train_dataset=…, callbacks=[prune]).train()
        save_pretrained(prune.finish(), "lean")

    The gradient of the method's penalty joins that of the loss after gradients are clipped (the Trainer has no hook before); the method
    steps after the optimizer, and units leave model and optimizer state. Every checkpoint of the Trainer gets a folder `parsinet`, by
    which `train(resume_from_checkpoint=…)` goes on bitwise across removals. When training ends the method decides what is still open.
    With several processes, as `torchrun` starts them, every process lets the same units go, and rank 0 alone writes and reads that folder.

    example_inputs: what the model takes, a dict of keyword arguments. checkpoint: the folder given to `resume_from_checkpoint`, where it
    is not `output_dir/checkpoint-<step>`. options: as of `Pruner`.

    Errors: UsageError for bad arguments, and when training begins for what cannot be pruned in (several devices in one process, sharding,
    float16, compilation, a best model that is loaded at the end); RunError for a checkpoint without a pruner's state or of other weights;
    those of `Pruner`.
    """

    def __init__(
        self,
        method: Method,
        example_inputs: ExampleInputs,
        *,
        checkpoint: str | Path | None = None,
        **options: Unpack[PrunerOptions],
    ) -> None:
        check_options("Prune", method, options)
        self.method, self.example_inputs = method, example_inputs
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self._options = options
        self._pruner: Pruner | None = None
        self._waiting: Waiting | None = None
        self._wrapping: Wrapping | None = None
        self._replicas: Replicas | None = None
        self._finished = False

    @property
    def pruner(self) -> Pruner:
        """The pruner at work: `widths()`, `units(group)`, `structure`; UsageError before training."""
        if self._pruner is None:
            raise UsageError("Prune: nothing has been trained yet; give this callback to a Trainer and call its train first.")
        return self._pruner

    def finish(self) -> nn.Module:
        """The model, plain and small; what is still open is decided first, where training was cut short, by all processes."""
        unwrap(self.pruner.model)
        if not self._finished:
            self.pruner.finish()
            self._finished = True
        return self.pruner.model

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **told: Any) -> None:
        """Let the method prepare the model, before there is an optimizer; weights that are too small for it wait."""
        self.method.prepare(told["model"])
        self._waiting = Waiting(told["model"])
        self._wrapping = Wrapping(told["model"]) if args.world_size > 1 else None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **told: Any) -> None:
        """Meet model and optimizer; on resume let go what had left, then put weights and optimizer state in place."""
        waiting = self._waiting
        if waiting is None or self._pruner is not None:
            raise UsageError("Prune: give a new callback, with a new method, to Trainer(callbacks=[…]) for every training.")
        model, optimizer = told["model"], plain_optimizer(told["optimizer"])
        check_training(args)
        if model is not waiting.model:
            raise UsageError("Prune: model_init builds another model for every training. Give the model itself: Trainer(model, …).")
        check_groups("Prune", self.method, model, optimizer)
        self._replicas = None if self._wrapping is None else self._wrapping.replicas(args)
        saved = self._read(args, state, waiting.weights or model.state_dict()) if state.global_step else None
        inner = optimizer.state_dict()
        optimizer.state.clear()
        with kept(model), own_forward(model):
            self._pruner = self._build(args, state, model, optimizer, told["train_dataloader"])
            if saved is not None:
                self._pruner.load_state_dict(saved["pruner"])
            waiting.release()
        optimizer.load_state_dict(inner)

    def on_pre_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **told: Any) -> None:
        """Add the penalty's gradient."""
        add_gradient(self.pruner.penalty())

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **told: Any) -> None:
        """The method's step; units may leave."""
        with own_forward(self.pruner.model):
            self.pruner.step()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **told: Any) -> None:
        """Put the pruner's state into the checkpoint that was just written."""

        def write() -> None:
            weights = {name: digest(value) for name, value in self.pruner.model.state_dict().items()}
            saved = {"pruner": self.pruner.state_dict(), "weights": weights}
            save_checkpoint(_checkpoint(args, state) / FOLDER, state.global_step, saved, keep=1)

        self._ranks.first(write)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **told: Any) -> None:
        """Decide what is still open, while all processes are there."""
        self.finish()
        if self._replicas is not None:
            self._replicas.end()

    @property
    def _ranks(self) -> Ranks:
        return ALONE if self._replicas is None else self._replicas.ranks

    def _build(
        self, args: TrainingArguments, state: TrainerState, model: nn.Module, optimizer: torch.optim.Optimizer, loader: Any
    ) -> Pruner:
        inputs = tree_map(lambda leaf: leaf.to(args.device) if isinstance(leaf, Tensor) else leaf, self.example_inputs)
        data = getattr(loader, "dataset", None)
        examples = len(data) if isinstance(data, Sized) else None
        trained = model if self._replicas is None else self._replicas
        return Pruner(trained, optimizer, self.method, inputs, steps=state.max_steps, examples=examples, **self._options)

    def _read(self, args: TrainingArguments, state: TrainerState, weights: dict[str, Any]) -> dict[str, Any]:
        """The pruner's state in the checkpoint training goes on from; RunError on all processes if the weights of one are others."""
        folder = (self.checkpoint or _checkpoint(args, state)) / FOLDER
        saved = self._ranks.first(lambda: _saved(folder, state.global_step))
        found = {name: digest(value) for name, value in weights.items()}
        if self._ranks.any(any(saved["weights"].get(name, value) != value for name, value in found.items())):
            raise RunError(f"Prune: {folder} belongs to other weights than those loaded. Give Prune(…, checkpoint=…) the right one.")
        return saved


def _saved(folder: Path, step: int) -> dict[str, Any]:
    if not folder.is_dir():
        raise RunError(
            f"Prune: training goes on from step {step}, but {folder} does not exist. Give Prune(…, checkpoint=folder) the folder you give "
            "to resume_from_checkpoint; it must have been saved with this callback."
        )
    return load_checkpoint(folder).state


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    """Where the Trainer keeps the checkpoint of this step."""
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
