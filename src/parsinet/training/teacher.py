"""A teacher for a network that becomes smaller: its own earlier, larger self, or a network trained before."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from parsinet.errors import UsageError
from parsinet.structure.copies import duplicate
from parsinet.training.objective import distillation
from parsinet.training.running_average import RunningAverage

WEIGHT, TEMPERATURE, DECAY = 0.7, 2.0, 0.996


class Teacher:
    """What a step minimises once there is a teacher: its distribution over the classes beside the true class.

        (1 − weight) · loss  +  weight · T² · mean KL( softmax(told/T) ‖ softmax(logits/T) )

    `Teacher(model)` is a network trained before. `Teacher.earlier_self(model)` is the network itself: it averages the weights of training
    (`RunningAverage`) until step `begin`, or until the first units leave, and teaches from then on. Either is a plain copy in evaluation
    mode, without gates, gradients or random numbers. In a loop of your own:

        teacher = Teacher.earlier_self(model, begin=steps // 5)              # before method.prepare
        ...
        logits = model(x)
        loss = teacher.loss(loss_fn(logits, y), logits, teacher(x)) + pruner.penalty()
        ...
        teacher.follow(model)                                                # after pruner.step

    weight: share of the teacher, in (0, 1]. temperature: T > 0; above 1 the small probabilities count for more.
    examples: how many the teacher has been shown, to count what it costs.

    Errors: UsageError for values out of range, and those of `distillation`.
    Source: G. Hinton, O. Vinyals and J. Dean, Distilling the Knowledge in a Neural Network, arXiv 1503.02531. That the teacher is the
    network before it was cut is chosen here.
    """

    def __init__(self, model: nn.Module, *, weight: float = WEIGHT, temperature: float = TEMPERATURE) -> None:
        if not 0 < weight <= 1:
            raise UsageError(f"Teacher: weight must be in (0, 1], got {weight}.")
        if not 0 < temperature < float("inf"):
            raise UsageError(f"Teacher: temperature must be > 0 and finite, got {temperature}.")
        self.weight, self.temperature = weight, temperature
        self.examples = 0
        self.network: nn.Module | None = duplicate(model).eval().requires_grad_(False)
        self._begin: int | None = None
        self._average: RunningAverage | None = None
        self._steps = 0

    @classmethod
    def earlier_self(
        cls,
        model: nn.Module,
        *,
        begin: int | None = None,
        decay: float = DECAY,
        weight: float = WEIGHT,
        temperature: float = TEMPERATURE,
    ) -> "Teacher":
        """The network itself after `begin` steps, averaged on the way; where `begin` is None, before the first units leave.

        decay: of the average, in [0, 1). A removal that plain layers cannot follow (of `Spectral`) ends the average before `begin`.

        Errors: UsageError for values out of range, and for a model that a method has touched already.
        """
        if begin is not None and begin < 1:
            raise UsageError(f"Teacher: begin must be ≥ 1 step, got {begin}.")
        teacher = cls(model, weight=weight, temperature=temperature)
        teacher.network, teacher._begin, teacher._average = None, begin, RunningAverage(model, decay)
        return teacher

    @torch.no_grad()
    def __call__(self, *inputs: Any, **options: Any) -> Tensor | None:
        """The teacher's logits for a batch; None as long as there is no teacher."""
        if self.network is None:
            return None
        told: Tensor = self.network(*inputs, **options)
        tensors = (value for value in tree_leaves((told, inputs, options)) if isinstance(value, Tensor))
        self.examples += len(next(tensors))
        return told

    def loss(self, loss: Tensor, logits: Tensor, told: Tensor | None) -> Tensor:
        """`loss`, a mean over the batch, mixed with the distance from what was `told`; unchanged where that is None."""
        if told is None:
            return loss
        return (1 - self.weight) * loss + self.weight * distillation(logits, told, self.temperature)

    def follow(self, model: nn.Module) -> None:
        """Call after every step, behind `pruner.step`: an earlier self learns from the model until it is time to teach."""
        if self._average is None or self.network is not None:
            return
        self._steps += 1
        due = self._begin is not None and self._steps >= self._begin
        if self._average.fits(model) or (self._begin is not None and self._average.follow(model)):
            self._average.step(model)
        else:
            due = True
        if due:
            self.network = self._average.network()

    def state_dict(self) -> dict[str, Any]:
        """Weights and counters: with the arguments that made the teacher, all that an exact resume needs."""
        weights = self._average.state_dict() if self._average is not None else self._trained().state_dict()
        told = {"own": self._average is not None, "teaches": self.network is not None}
        return {"steps": self._steps, "examples": self.examples, **told, "weights": dict(weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken, on a teacher made as that one was; UsageError on one made in the other way."""
        if state["own"] != (self._average is not None):
            raise UsageError("Teacher: one of the two, the saved state and this teacher, is an earlier self, the other a trained network.")
        if self._average is None:
            self._trained().load_state_dict(state["weights"])
        else:
            self._average.load_state_dict(state["weights"])
            self.network = self._average.network() if state["teaches"] else None
        self._steps, self.examples = int(state["steps"]), int(state["examples"])

    def _trained(self) -> nn.Module:
        assert self.network is not None, "only an earlier self is still to come"
        return self.network
