"""The training loop: no files, no clocks, no printing; those come in as callbacks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parsinet.errors import RunError, UsageError
from parsinet.methods import Pruner
from parsinet.training.average import Average
from parsinet.training.objective import cross_entropy, mistakes
from parsinet.training.state import Callback, EpochBatches, EpochResult, LoopState
from parsinet.training.tally import Tally
from parsinet.training.teacher import Teacher

Objective = Callable[[Tensor, Tensor], Tensor]


class NotFiniteError(RunError):
    """The loss or a weight is infinite or not a number; `step` is the first step known to be bad, `epoch` is 1-based."""

    def __init__(self, what: str, epoch: int, step: int) -> None:
        super().__init__(f"{what} in epoch {epoch}, step {step}. Lower the learning rate or set gradient_clip.")
        self.epoch = epoch
        self.step = step


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: EpochBatches,
    *,
    epochs: int,
    objective: Objective = cross_entropy,
    pruner: Pruner | None = None,
    teacher: Teacher | None = None,
    average: Average | None = None,
    learning_rate: Callable[[int], float] | None = None,
    gradient_clip: float | None = None,
    callbacks: Sequence[Callback] = (),
    state: LoopState | None = None,
    check_every: int = 25,
) -> LoopState:
    """Train until `epochs` epochs are over or `state.stop` is set.

    One step: loss = objective(model(x), y) + pruner.penalty(); backward; clip; optimizer.step(); zero_grad(set_to_none=True);
    pruner.step(closure), which may evaluate the loss again and may remove units. With a teacher its loss takes the place of the
    objective, in the closure too; the loss that is reported stays the objective. What `average` gathers is put in place by the caller.

    learning_rate: step (0-based) → rate; parameter groups that began with a rate of their own keep their ratio to the
    optimizer's default. gradient_clip: largest norm of the whole gradient. state: continue this one, after a resume.
    check_every: steps between two looks at whether the loss is finite.

    Errors: NotFiniteError (a RunError) with the first step whose loss is not finite, or after an epoch that left a weight infinite;
    UsageError for counts below 1, and for a teacher where targets are not classes.
    """
    if epochs < 1 or check_every < 1:
        raise UsageError(f"fit: epochs and check_every must be ≥ 1, got {epochs} and {check_every}.")
    state = state or LoopState(model, optimizer, batches, epochs, pruner)
    state.settled = state.settled or (pruner is not None and pruner.settled)
    parts = (teacher, average, _Rates(optimizer, learning_rate))
    step = _Step(state, objective, *parts, gradient_clip, tuple(callbacks), check_every)
    for callback in callbacks:
        callback.on_start(state)
    while batches.epoch < epochs and not state.stop:
        _run_epoch(state, step, callbacks)
    for callback in callbacks:
        callback.on_end(state)
    return state


class _Rates:
    """Writes the scheduled rate into the optimizer's groups, when it changes."""

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Callable[[int], float] | None) -> None:
        base = optimizer.defaults.get("lr")
        self.schedule = schedule
        self.groups = [(group, group.setdefault("initial_lr", group["lr"]) / base) for group in optimizer.param_groups] if schedule else []
        self.current: float | None = None

    def set(self, step: int) -> None:
        """Set the rate of 0-based `step`."""
        if self.schedule is None:
            return
        rate = self.schedule(step)
        if rate != self.current:
            self.current = rate
            for group, share in self.groups:
                group["lr"] = rate * share


@dataclass(eq=False)
class _Step:
    """One optimizer step and what follows it."""

    state: LoopState
    objective: Objective
    teacher: Teacher | None
    average: Average | None
    rates: _Rates
    clip: float | None
    callbacks: tuple[Callback, ...]
    check_every: int

    def __post_init__(self) -> None:
        self.watchers = [callback.on_step for callback in self.callbacks if type(callback).on_step is not Callback.on_step]
        self.parameters = [parameter for group in self.state.optimizer.param_groups for parameter in group["params"]]

    def __call__(self, inputs: Tensor, targets: Tensor) -> None:
        state, optimizer, pruner = self.state, self.state.optimizer, self.state.pruner
        self.rates.set(state.step)
        logits = state.model(inputs)
        loss = self.objective(logits, targets)
        taught = self._taught(inputs, targets)
        penalty = pruner.penalty() if pruner is not None else 0.0
        total = taught(loss, logits) if isinstance(penalty, float) and penalty == 0 else taught(loss, logits) + penalty
        total.backward()  # type: ignore[no-untyped-call]
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.examples += len(targets)
        if state.tally.add(loss.detach(), mistakes(logits, targets), targets.numel()) >= self.check_every:
            _read(state, state.epoch)
        if pruner is not None:
            self._prune(pruner, lambda: self._again(inputs, targets, taught))
        if self.teacher is not None:
            self.teacher.follow(state.model)
        if self.average is not None:
            self.average.step(state.model, pruner is None or pruner.settled)
        for watch in self.watchers:
            watch(state)

    def _taught(self, inputs: Tensor, targets: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """What makes of loss and logits that which is minimised on this batch; the teacher runs once."""
        teacher = self.teacher
        if teacher is None:
            return lambda loss, logits: loss
        if targets.is_floating_point():
            raise UsageError(
                f"fit: a teacher compares distributions over classes, but the targets are numbers ({targets.dtype}). Leave it out."
            )
        told = teacher(inputs)
        return lambda loss, logits: teacher.loss(loss, logits, told)

    def _again(self, inputs: Tensor, targets: Tensor, taught: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        logits = self.state.model(inputs)
        return taught(self.objective(logits, targets), logits)

    def _prune(self, pruner: Pruner, closure: Callable[[], Tensor]) -> None:
        removal = pruner.step(closure)
        if removal is not None:
            for callback in self.callbacks:
                callback.on_removal(self.state, removal)
        if pruner.settled and not self.state.settled:
            self.state.settled = True
            for callback in self.callbacks:
                callback.on_settled(self.state)


def _read(state: LoopState, epoch: int) -> None:
    """Read the tally; refuse a loss that is not finite."""
    behind = state.tally.read()
    if behind is not None:
        raise NotFiniteError("The loss is not finite", epoch, state.step - behind)


def check_finite(state: LoopState, epoch: int) -> None:
    """Read the tally, and refuse a loss or a weight that is not finite: NotFiniteError. Before anything is saved."""
    _read(state, epoch)
    _check_weights(state, epoch)


def _run_epoch(state: LoopState, step: _Step, callbacks: Sequence[Callback]) -> None:
    epoch = state.epoch
    state.model.train()
    for inputs, targets in state.batches:
        step(inputs, targets)
        if state.stop:
            check_finite(state, epoch)
            return
    check_finite(state, epoch)
    result = EpochResult(epoch, state.tally.loss, state.tally.error)
    state.tally = Tally()
    for callback in callbacks:
        callback.on_epoch(state, result)


def _check_weights(state: LoopState, epoch: int) -> None:
    tensors = [*state.model.parameters(), *state.model.buffers()]
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor.is_floating_point()):
        raise NotFiniteError("A weight is no longer finite", epoch, state.step)
