"""What a training method is to the rest of parsinet: one small object behind one protocol."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from parsinet.distributed import ALONE, Ranks
from parsinet.errors import UsageError
from parsinet.structure import Plan, Structure
from parsinet.structure.calling import ExampleInputs

Alive = Mapping[str, Tensor]
"""Group name → bool mask over the group's present units, True where the unit stays. Groups not named stay whole."""


@dataclass(frozen=True)
class Budget:
    """What is known of the run before it starts; None where the caller's own loop does not say.

    steps: optimizer steps of the whole run. examples: size of the training set (N in log γ / N). example_inputs: what the network is
    traced with. round_to: numbers of units are kept at multiples of it. scaler: what scales the loss before the backward pass (float16).
    ranks: the processes that train the network together; what a method learns from a batch it averages over them, so that all decide the
    same. sharded: whether each of them holds but parts of the parameters; their shapes are those of the whole.
    """

    steps: int | None = None
    examples: int | None = None
    example_inputs: ExampleInputs | None = None
    round_to: int = 1
    scaler: torch.amp.GradScaler | None = None
    ranks: Ranks = ALONE
    sharded: bool = False


class Method(Protocol):
    """One way to train a network small.

    Life of a method in a run, in this order: `prepare` (before the optimizer exists), `param_groups`, `attach`
    (the network is traced), then for every step `penalty` (added to the loss) and `step` (after the optimizer's
    step; may name units that leave), `removed` after each removal, `settle` (the last decision; afterwards the structure is fixed),
    `detach` (hooks and parametrizations leave; plain modules remain).

    A method that lets whole residual branches go (`Structure.blocks`) has `blocks = True`; one that works on the network's inputs,
    `inputs = True`; one that learns from derivatives and can do so through a scaled loss, a `forget` (see `Listening`); one that cannot,
    `unscaled = True`; one that only at its end makes the network's weights of what trains, `rescales = True`; one that learns only by
    evaluating losses (`Probing`), as long as it does, what makes it so in `evaluates`.
    """

    name: str
    silences: bool
    """Whether the readers of a unit read zero already when the method lets it go, so that there is nothing to fold."""

    @property
    def settled(self) -> bool:
        """Whether every decision has been taken: the structure is fixed from here on."""

    def prepare(self, model: nn.Module) -> None:
        """Change the model where the method needs it (parametrize layers); same function afterwards."""

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Parameter groups for any torch optimizer."""

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Meet the traced network and the optimizers that train it: place gates or masks, choose the groups to work on."""

    def penalty(self) -> Tensor | float:
        """What the method adds to the loss; 0.0 if nothing."""

    def step(self) -> Alive | None:
        """Learn from the step just taken; name the units that stay if some should leave now.

        A method that knows its end from the budget settles here, at its last removal.
        """

    def scores(self) -> Mapping[str, Tensor]:
        """Per group, how much each present unit deserves to stay: where widths are rounded up, the best of the leaving ones stay."""

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Follow a removal that has happened: slice own state.

        `plan` speaks of the units before it: `plan.masks()` per group; `plan.cut(name, value)` cuts what has a tensor's shape. `structure`
        speaks of those after.
        """

    def settle(self) -> Alive | None:
        """Decide what is still open and name the units that stay; afterwards `settled` holds."""

    def detach(self) -> None:
        """Leave the model: plain modules remain. Safe to call twice."""

    def describe(self) -> dict[str, Any]:
        """Numbers for the run record, JSON-able: per group what the method knows of its units."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which `load_state_dict` continues bitwise."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; called after `attach` on a network that already has the saved widths."""


@runtime_checkable
class Probing(Protocol):
    """A method that can learn from evaluating the loss again, where the training loop offers that."""

    def probe(self, loss: Callable[[], Tensor]) -> None:
        """Before `step`, at any step: `loss` runs the model on the batch of this step and returns its mean loss. What the method evaluates
        must leave no trace in the model: no gradients, running statistics and random numbers as they were."""


@runtime_checkable
class Listening(Protocol):
    """A method that hears derivatives in the backward pass, and divides them by the scale of `Budget.scaler` where there is one."""

    def forget(self) -> None:
        """Drop what was heard since the last step: a derivative was not finite, and the optimizer has left the step out."""


@runtime_checkable
class Moving(Protocol):
    """A method that neither reads nor writes weights, and so works where they are sharded; there a removal gives it another network."""

    def moved(self, model: nn.Module) -> None:
        """The network is another object from now on, with fewer units; `removed` comes next. What was placed in the old one is void."""


def generator(seed: int) -> torch.Generator:
    """A CPU generator with its own state, so that a method's draws disturb no other random stream."""
    return torch.Generator().manual_seed(seed)


def decayed_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Two parameter groups: matrices and kernels with the optimizer's weight decay; biases, norms and other vectors without.

    UsageError for lazy layers that have not run.
    """
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise UsageError("Lazy layers have no weights yet, and no optimizer can hold them: call model(example_inputs) once before.")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in parameters if parameter.dim() > 1]},
        {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
