"""What a library beside ours must say of itself, and how its networks train under the common recipe."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from parsinet.bench.watch import Watch
from parsinet.errors import MissingExtraError, UsageError, suggest
from parsinet.methods import Dense
from parsinet.training.assembly import Assembly
from parsinet.training.loop import fit
from parsinet.training.optimizer import build_optimizer
from parsinet.training.schedule import learning_rate
from parsinet.training.state import Callback


@dataclass(frozen=True)
class Peer:
    """Another library. module: what must be importable. options: what a row may say, with defaults (None: must be said)."""

    module: str
    package: str
    options: Mapping[str, Any]
    train: Callable[[Mapping[str, Any], Assembly, Watch], nn.Module]

    def reason(self) -> str:
        """Why it cannot run here; "" if it can."""
        try:
            importlib.import_module(self.module)
        except ImportError as error:
            return f'{self.package} cannot be imported ({error}): pip install "parsinet[peers]"'
        return ""

    def options_from(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All its options. UsageError for one it has not, and for one that is missing."""
        for option in given:
            if option not in self.options:
                raise UsageError(f"{self.package} has no option {option!r}.{suggest(option, self.options)}")
        options = {**self.options, **given}
        absent = [name for name, value in options.items() if value is None]
        if absent:
            hint = " (names of layers whose outputs stay as they are, such as the last: [fc3], or [])" if absent[0] == "fixed" else ""
            raise UsageError(f"{self.package} needs peer.{absent[0]}{hint}.")
        return options

    def procedure(self, given: Mapping[str, Any]) -> Callable[[Assembly, Watch], nn.Module]:
        """How it trains with these options.

        Errors: MissingExtraError where it is not installed; those of `options_from`.
        """
        options = self.options_from(given)
        if reason := self.reason():
            raise MissingExtraError(f"{reason}.")
        return partial(self.train, options)


def train_on(
    parts: Assembly, model: nn.Module, callbacks: Sequence[Callback], *, begin: int = 0, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Train on from step `begin` by the recipe, with a fresh optimizer of its kind or with the one given."""
    recipe = parts.recipe

    def rate(step: int) -> float:
        return learning_rate(recipe.schedule, recipe.optimizer.lr, step + begin, parts.steps, parts.steps_per_epoch)

    fit(
        model,
        optimizer or build_optimizer(recipe.optimizer, Dense().param_groups(model)),
        parts.batches,
        epochs=recipe.epochs,
        learning_rate=rate,
        gradient_clip=recipe.gradient_clip,
        callbacks=callbacks,
    )
