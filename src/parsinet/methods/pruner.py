"""The pruner: a method at work on a model and its optimizer, inside any training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from parsinet.distributed import Sharded, opened
from parsinet.errors import ArgumentTypeError, StructureError, UsageError, suggest, told
from parsinet.methods.agreeing import FOLLOWERS, METHOD, OPTIMIZERS, WEIGHTS, Agreement
from parsinet.methods.base import Alive, Budget, Listening, Method, Moving, Probing
from parsinet.methods.door import begin_work, check_arguments, check_numbers, end_work, may_remove, tell_unmet, tell_unpenalised, unmet
from parsinet.methods.ending import tell_diverged, tell_early
from parsinet.methods.folds import FoldInputs, folding_of
from parsinet.methods.followers import followers_of
from parsinet.methods.given import given, tell_changes
from parsinet.methods.network import Network
from parsinet.methods.options import check_flags
from parsinet.methods.ranking import round_up
from parsinet.methods.resharding import check_sharded
from parsinet.methods.saved import Saved
from parsinet.methods.scaling import Scale
from parsinet.structure import Structure
from parsinet.structure.atomic import uninterrupted
from parsinet.structure.calling import ExampleInputs
from parsinet.structure.folding import Kind
from parsinet.structure.own import Hints
from parsinet.structure.propagate import Rules
from parsinet.structure.record import record_of, to_ranges


@dataclass(frozen=True)
class Removal:
    """Units that left: after which step, and per group how many units there were before and are now."""

    step: int
    groups: dict[str, tuple[int, int]]


class Pruner:
    """Lets a method shrink a model while your loop trains it.

        method.prepare(model)
        optimizer = torch.optim.Adam(method.param_groups(model), lr=1e-3)
        pruner = Pruner(model, optimizer, method, example_inputs)
        for x, y in batches:
            loss = loss_fn(model(x), y) + pruner.penalty()
            loss.backward(); optimizer.step(); optimizer.zero_grad()
            pruner.step()
        lean = pruner.finish()

    optimizer: one or several torch optimizers; their state is cut with the parameters. steps, examples: length of the run in optimizer
    steps and size of the training set, where known; methods place their phases by them. ignored_layers: modules whose units must stay.
    round_to: widths are kept at multiples of it (never above the present width); multiples of 4 or 8 run faster.
    inputs: whether features of the model's inputs may leave too, as in `trace`; a method may ask for them itself (`Gates(inputs=True)`).
    removable_outputs: whether entries of the model's output may, as in `trace`; `units` tells your loop which are left. Rankings choose
    among them, gates do not: nothing behind them could be multiplied.
    Residual branches are looked for if the method works on them (`blocks = True`, as of `Gates(blocks=True)`).
    scaler: the `torch.amp.GradScaler` of a loop in float16. What gates learn from is then divided by its scale, and a step that it leaves
    out, because a gradient was not finite, moves nothing here either; call `step` after `scaler.update()`.
    rules, hints: for operators and size attributes of your own, as in `trace`.
    followers: copies of the model that lose what it loses, such as an average of its weights that you keep or a target network; a
    `torch.optim.swa_utils.AveragedModel` is one. Methods whose weights are made at the end (`Spectral`, `L0`, `VIB`, …) have none.

    fold: None, units leave as if their readers had read zero; "constant" or "mean", what they emit moves into their readers' biases
    first, as in `shrink`, in evaluation mode. "constant" is seen on example_inputs; "mean" needs fold_inputs: a batch, an iterable of
    batches or a function that returns either, without targets, gone through at every removal (its first batch also now; for an exact
    resume it must give the same batches each time). approximate: accept folds that are not exact. Whether folding is possible is
    tried now, on a copy. Methods that silence units before they leave (`Gates`) take no fold: the readers read zero already.

    model: in several processes `parsinet.distributed.Replicas(net)`, or `Sharded(net)` where one device is too small for it; then every
    rank lets the same units go, and ranks that have come apart are refused (`ReplicaError`). Sharded networks take methods that neither
    read nor write weights (`Gates`, `Dense`, `RandomUnits`), and no fold; `Pruner.model` is another object after every removal.

    Raises UsageError for bad arguments, StructureError if the model cannot be traced or, with fold, cannot be made up for.
    """

    _asked = False
    """Whether the loop has asked for the penalty, or was told that it should."""
    _due: Alive | None = None
    """Masks of a removal that has been decided and has failed."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        method: Method,
        example_inputs: ExampleInputs,
        *,
        steps: int | None = None,
        examples: int | None = None,
        ignored_layers: Iterable[str | nn.Module] = (),
        round_to: int = 1,
        inputs: bool = False,
        removable_outputs: bool = False,
        rules: Rules | None = None,
        hints: Hints | None = None,
        fold: Kind | None = None,
        fold_inputs: FoldInputs | None = None,
        approximate: bool = False,
        scaler: torch.amp.GradScaler | None = None,
        followers: Iterable[nn.Module] = (),
    ) -> None:
        optimizers = check_arguments(model, optimizer, method)
        check_numbers(steps, examples, round_to)
        check_flags("Pruner", inputs=inputs, removable_outputs=removable_outputs)
        folding = folding_of(fold, fold_inputs, example_inputs, approximate, method)
        self._scale = Scale(scaler, method)
        self.method, self.round_to = method, round_to
        net, together, ranks = opened(model, "Pruner")
        sharded = together if isinstance(together, Sharded) else None
        if sharded is not None:
            check_sharded(method, folding)
        inputs, blocks = inputs or bool(getattr(method, "inputs", False)), bool(getattr(method, "blocks", False))
        copies = followers_of(followers, net, method, sharded=sharded is not None)
        found: dict[str, Any] = {"inputs": inputs, "removable_outputs": removable_outputs, "blocks": blocks, "rules": rules, "hints": hints}
        left: dict[str, Any] = {"removes": may_remove(method), "round_to": round_to, "followers": copies, "ignored_layers": ignored_layers}
        self._network = Network(net, sharded, optimizers, folding, example_inputs, **left, **found)
        self._step, self._steps = 0, steps
        self._given = given(method, steps=steps, round_to=round_to, examples=examples)
        self._agreement = Agreement(together, self._trained, copies)
        budget = Budget(steps, examples, example_inputs, round_to, scaler, ranks, sharded is not None)
        wanted = unmet(method, net, optimizers)
        method.attach(net, self.structure, budget, self._network.optimizers)
        tell_unmet(wanted)
        self._agreement.check("at the start")
        begin_work(self)

    @property
    def model(self) -> nn.Module:
        """The network as it is now."""
        return self._network.model

    @property
    def structure(self) -> Structure:
        """What was traced of the network, as it is now."""
        return self._network.structure

    @property
    def settled(self) -> bool:
        """Whether the structure is fixed from here on."""
        return self.method.settled and self._due is None

    def penalty(self) -> Tensor | float:
        """What the method adds to the loss; call it behind the forward pass."""
        self._asked = True
        return self.method.penalty()

    def step(self, closure: Callable[[], Tensor] | None = None) -> Removal | None:
        """Call after every optimizer step. Returns what left, None if nothing did.

        closure: runs the model on the batch of this step and returns its mean loss without `penalty`: `lambda: loss_fn(model(x), y)`.
        Methods that evaluate losses (`Gates`) call it at some steps; gradients, the model's buffers and torch's random numbers stay as
        they are.

        Raises, with nothing changed, StructureError if a fold turns out not to be exact, UsageError without a closure where the method
        learns by nothing else. A removal that fails (an error in fold_inputs, Ctrl-C there) is due: the next call of `step` or `finish`
        carries it out.
        """
        evaluates = getattr(self.method, "evaluates", "")
        if evaluates and closure is None:
            raise UsageError(
                f"Pruner: {self.method.name} with {evaluates} learns by evaluating the loss again. Give step a closure that does so on the "
                "batch: pruner.step(lambda: loss_fn(model(x), y))."
            )
        if closure is not None and not callable(closure):
            raise ArgumentTypeError(
                f"Pruner: step takes a function that computes the loss, got {told(closure)}: step(lambda: loss_fn(model(x), y))."
            )
        if not self._asked:
            self._asked = True
            tell_unpenalised(self.method)
        if self._due is not None:
            self._forget()
            return self._remove(self._due)
        fell = self._scale.fell()
        if not fell and closure is not None and isinstance(self.method, Probing):
            self.method.probe(closure)
        self._step += 1
        if fell:
            self._forget()
            return None
        masks = self._rounded(self.method.step())
        self._agreement.decided(masks, self.method.settled, self._step)
        return None if masks is None else self._remove(masks)

    def finish(self) -> nn.Module:
        """Decide what is still open, remove it, take every hook and parametrization out; returns the model, now plain and small.

        Warns where much leaves at once because the run was shorter than it was told to be, and where weights are not finite.
        """
        if self._due is not None:
            self._remove(self._due)
        early = 0 < self._step < (self._steps or 0) and not self.settled
        before = self.widths()
        masks = self._rounded(self.method.settle())
        self._agreement.decided(masks, self.method.settled, self._step)
        if masks is not None:
            self._remove(masks)
        self._agreement.check("at the end")
        self.method.detach()
        end_work(self)
        if early:
            tell_early(self._step, self._steps, before, self.widths())
        self._network.finished()
        if self._network.sharded is None:
            tell_diverged(self.model)
        return self.model

    def widths(self) -> dict[str, int]:
        """Units of each removable group, now; for a method that works on whole blocks (`blocks = True`) also 1 or 0 for each of these.

        A unit is what leaves as one: a channel or neuron, but also an attention head, or all channels that a group of a GroupNorm
        normalises together. A number may therefore differ from the `out_channels` or `out_features` of the layer a group is named after.
        """
        return self._network.widths()

    def units(self, group: str) -> list[int]:
        """Which units of a removable group are left, as they were numbered before anything left."""
        if group not in self._network.kept:
            raise UsageError(f"Pruner: no removable group is called {group!r}.{suggest(str(group), self._network.kept)}")
        return list(self._network.kept[group])

    def describe(self) -> dict[str, Any]:
        """The method's numbers for the run record."""
        return self.method.describe()

    def state_dict(self) -> dict[str, Any]:
        """Which units are left, and the method's state: with the model's and optimizer's own states all that an exact resume needs."""
        return {
            "step": self._step,
            "scale": self._scale.value,
            "sizes": dict(self._network.sizes),
            "units": {name: to_ranges(units) for name, units in self._network.kept.items()},
            "removals": record_of(self.model).to_json()["removals"],
            "due": None if self._due is None else {name: to_ranges(mask.nonzero().flatten().tolist()) for name, mask in self._due.items()},
            "given": dict(self._given),
            "method": {"name": self.method.name, "state": self.method.state_dict()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue a saved run on the original architecture: removes what had left, from model and optimizer, then restores the method.

        Load the model's and the optimizer's own states afterwards; they have the small shapes. Warns if the method had other options.
        Raises, with nothing changed, StructureError if the state belongs to another network or this one has lost units already,
        UsageError if it belongs to another method or is no pruner's state.
        """
        saved = Saved.read(state, self.method, self._network.sizes, self._given)
        if self.widths() != self._network.sizes:
            raise StructureError("Units have left this network already; load the state on a freshly built network.")
        tell_changes(saved.given, self._given)
        self._apply(saved.alive, fold=False)  # the weights to come have what was folded in them
        self._network.remember(saved.removals)
        self._step, self._due = saved.step, saved.due
        self._scale.value = self._scale.value if saved.scale is None else saved.scale
        self.method.load_state_dict(saved.method)
        self._agreement.check("after a state was loaded", only=(METHOD,))

    def _forget(self) -> None:
        if isinstance(self.method, Listening):
            self.method.forget()

    def _trained(self) -> dict[str, Any]:
        """What trains, by the name a message gives it; running statistics belong to a rank until they are aligned."""
        if self._network.sharded is not None:
            self._network.sharded.reshard()
        return {
            WEIGHTS: dict(self.model.named_parameters()),
            OPTIMIZERS: [optimizer.state_dict() for optimizer in self._network.optimizers],
            METHOD: [self._network.kept, self.method.state_dict()],
            FOLLOWERS: self._network.followers_weights(),
        }

    def _rounded(self, alive: Alive | None) -> dict[str, Tensor] | None:
        """Masks whose numbers of units are multiples of `round_to` and such that torch can run what is left."""
        if alive is None:
            return None
        scores = self.method.scores()
        masks = {name: round_up(mask.cpu(), scores.get(name), self.round_to) for name, mask in alive.items()}
        return self._network.runnable(masks, scores, self.round_to)

    def _remove(self, masks: Alive) -> Removal | None:
        if all(bool(mask.all()) for mask in masks.values()):
            self._agreement.check(f"in step {self._step}")
            return None
        self._due = masks
        with self._agreement.removal(self._step):
            widths = self._apply(masks, fold=True)
        return Removal(self._step, widths) if widths else None

    def _apply(self, alive: Alive, *, fold: bool) -> dict[str, tuple[int, int]]:
        """Remove units, and let the method follow; per group that changed how many units there were and are."""
        plan = self.structure.plan(alive)
        if plan.empty:
            self._due = None
            return {}
        folds = self._network.folds(plan) if fold else {}
        with uninterrupted():
            self._network.remove(plan, folds)
            self._due = None
            if self._network.sharded is not None:
                assert isinstance(self.method, Moving), "others are refused at the door"
                self.method.moved(self.model)
            self.method.removed(self.structure, plan)
        return {name: (len(mask), sum(mask)) for name, mask in plan.alive.items() if name in self._network.kept}
