"""A network that loses units while it trains: model, traced structure and optimizers follow each removal together."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from parsinet.distributed import Sharded
from parsinet.errors import ParsinetWarning, UsageError, few
from parsinet.methods.folds import Folding
from parsinet.methods.followers import following
from parsinet.methods.ranking import keep_more
from parsinet.methods.resharding import shrink_sharded, traced_whole
from parsinet.structure import Fold, Plan, Structure, shrink, trace
from parsinet.structure.calling import ExampleInputs
from parsinet.structure.cautions import PROJECTION, projected
from parsinet.structure.optimizers import check_optimizers, held
from parsinet.structure.record import record_of


class Network:
    """What is cut at a removal, and which units are left.

    model: the network itself; another object after every removal where its parameters are sharded. structure: what was traced of it, as it
    is now. kept: per removable group, or whole block, which units are left, as they were numbered at first; sizes: how many there were.

    sharded: what holds the parameters where ranks have but parts of them. folding: what moves into biases at a removal. removes:
    whether units may leave at all; an optimizer that could not go on then is refused now. round_to: what widths are kept at.
    followers: networks that lose the same units. options: as in `trace`.
    Raises UsageError if the optimizers hold nothing of the model or round_to leaves nothing to remove, StructureError if it cannot be
    traced or folded.
    """

    def __init__(
        self,
        model: nn.Module,
        sharded: Sharded | None,
        optimizers: list[Optimizer],
        folding: Folding | None,
        example_inputs: ExampleInputs,
        *,
        removes: bool = True,
        round_to: int = 1,
        followers: Sequence[nn.Module] = (),
        **options: Any,
    ) -> None:
        self.model = model
        self.sharded = sharded
        self.optimizers = optimizers
        self._check_held()
        if removes:
            check_optimizers(model, self.optimizers)
        self.structure: Structure = (
            trace(model, example_inputs, **options) if sharded is None else traced_whole(sharded, model, example_inputs, **options)
        )
        whole = [block for block in self.structure.blocks if block.removable]
        self.kept = {group.name: list(range(group.size)) for group in (*self.structure.removable(), *whole)}
        self._gone: set[str] = set()
        self.sizes = {name: len(units) for name, units in self.kept.items()}
        if removes:
            self._check_room(round_to)
            self._warn_unreached()
            self._warn_unheld()
        self._folding, self._followers = folding, followers
        if folding is not None:
            folding.check(model, self.structure)

    def widths(self) -> dict[str, int]:
        """Units left, per group."""
        return {name: len(units) for name, units in self.kept.items() if name not in self._gone}

    def finished(self) -> None:
        """Groups within tensors that the finished network has no more (factors of a decomposition) are none of its groups."""
        names = {name for name, _ in (*self.model.named_parameters(), *self.model.named_buffers())}
        tensors = {name: re.fullmatch(r"(.+)\[\d+\]", name) for name in self.kept}
        self._gone = {name for name, tensor in tensors.items() if tensor and tensor[1] not in names}

    def runnable(self, masks: Mapping[str, Tensor], scores: Mapping[str, Tensor], multiple: int) -> dict[str, Tensor]:
        """The masks, with so many of the best leaving units back that torch can run what is left: an LSTM's projection must be of another
        width. multiple: what numbers of units are kept at.
        """
        masks, tensors = dict(masks), self.structure.layout.tensors
        for path, module in projected(self.model):
            name = f"{path}.{PROJECTION}".removeprefix(".")
            sides = [(tensors.get((name, 1)), module.hidden_size), (tensors.get((name, 0)), module.proj_size)]
            plain = {group: mask.numpy() for group, mask in masks.items()}
            hidden, projection = (whole if side is None else int(side.keep(plain).sum()) for side, whole in sides)
            if hidden != projection:
                continue
            owners = [
                owner
                for side, _ in sides
                if side is not None
                for owner in side.owners
                if owner in masks and len(masks[owner]) == side.size and not masks[owner].all()
            ]
            if owners:
                masks[owners[0]] = keep_more(masks[owners[0]], scores.get(owners[0]), multiple)
        return masks

    def followers_weights(self) -> list[dict[str, Any]]:
        """The parameters of every follower by name."""
        return [dict(follower.named_parameters()) for follower in self._followers]

    def folds(self, plan: Plan) -> dict[nn.Module, Fold]:
        """What moves into biases before the units of a plan leave, of the network and of each follower as its own numbers want it.

        Empty where the run does not fold. Raises StructureError or UsageError, with nothing changed, where it cannot.
        """
        folding = self._folding
        return {} if folding is None else {network: folding.plan(network, plan) for network in (self.model, *self._followers)}

    def remove(self, plan: Plan, folds: Mapping[nn.Module, Fold]) -> None:
        """Let the units of a plan go, and what depends on them. Raises as `shrink`, with nothing changed."""
        structure = self.structure.after(plan)
        if self.sharded is None:
            with following(self._followers, plan, folds):
                shrink(self.model, plan, optimizers=self.optimizers, fold=folds.get(self.model))
        else:
            shrink_sharded(self.sharded, plan, self.optimizers)
            self.model = self.sharded.module
        self.structure = structure
        for name, mask in plan.alive.items():
            if name in self.kept:
                self.kept[name] = [unit for unit, stays in zip(self.kept[name], mask, strict=True) if stays]

    def remember(self, removals: Sequence[Mapping[str, list[int]]]) -> None:
        """That units have left one removal after another, where they were taken out at once."""
        for network in (self.model, *self._followers):
            record_of(network).removals[:] = [dict(removal) for removal in removals]

    def _check_room(self, round_to: int) -> None:
        """UsageError where no group could lose anything and keep a multiple of `round_to`."""
        if self.sizes and max(self.sizes.values()) <= round_to and round_to > 1 and not self.structure.blocks:
            widest = max(self.sizes, key=self.sizes.__getitem__)
            raise UsageError(
                f"Pruner: with round_to={round_to} nothing could leave: the widest group, {widest}, has {self.sizes[widest]} units. Make "
                "round_to smaller."
            )

    def _warn_unreached(self) -> None:
        """Say which parameters train and are not seen to: where another call of the model uses them, a removal would break it."""
        trained, unreached = held(self.optimizers), self.structure.layout.unreached
        names = [name for name, parameter in self.model.named_parameters() if name in unreached and id(parameter) in trained]
        if names:
            warnings.warn(
                f"Pruner: the model does not use {few(names)} on example_inputs. They follow no removal: where your "
                "loop calls the model so that it uses them, give example_inputs that do, or keep what they read whole (ignored_layers).",
                ParsinetWarning,
                stacklevel=4,
            )

    def _warn_unheld(self) -> None:
        """Say which parameters train, lose something at removals and are in no given optimizer: in another one they would break it."""
        trained, cut = held(self.optimizers), {name for group in self.structure.removable() for name in group.parameters}
        names = [name for name, p in self.model.named_parameters() if name in cut and p.requires_grad and id(p) not in trained]
        if names:
            warnings.warn(
                f"Pruner: no optimizer given holds {few(names)}, of which units take a part along. An optimizer that does would fail "
                "after a removal: give Pruner all of them in a list. Freeze what does not train (requires_grad_(False)).",
                ParsinetWarning,
                stacklevel=4,
            )

    def _check_held(self) -> None:
        if held(self.optimizers).isdisjoint(id(parameter) for parameter in self.model.parameters()):
            raise UsageError("Pruner: the optimizer holds none of the model's parameters; build it from this model (after method.prepare).")
