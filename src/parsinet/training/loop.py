"""The training loop: no files, no clocks, no printing; those come in as callbacks."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parsinet.distributed import Sharded
from parsinet.errors import ArgumentTypeError, RunError, UsageError, told
from parsinet.methods import Pruner
from parsinet.methods.options import check_above_zero, check_whole
from parsinet.training.average import Average
from parsinet.training.compiled import Compiled
from parsinet.training.objective import cross_entropy
from parsinet.training.passes import Batch, Objective, Passes, grouped
from parsinet.training.precision import Precision
from parsinet.training.state import Callback, EpochBatches, EpochResult, LoopState
from parsinet.training.tally import Tally
from parsinet.training.teacher import Teacher


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
    precision: Precision | None = None,
    accumulate: int = 1,
    compiled: Compiled | None = None,
    callbacks: Sequence[Callback] = (),
    state: LoopState | None = None,
    check_every: int = 25,
) -> LoopState:
    """Train until `epochs` epochs are over or `state.stop` is set.

    One step: loss = objective(model(x), y) + pruner.penalty(); backward; clip; optimizer.step(); zero_grad(set_to_none=True);
    pruner.step(closure), which may evaluate the loss again and may remove units. With a teacher its loss takes the place of the
    objective, in the closure too; the loss that is reported stays the objective. What `average` gathers is put in place by the caller.

    learning_rate: step (0-based) → rate; parameter groups that began with a rate of their own keep their ratio to the
    optimizer's default. gradient_clip: largest norm of the whole gradient. precision: of forward passes, full unless given; give its
    scaler to the pruner too. accumulate: batches per step; the step is that of the mean loss over all their examples, and an epoch's last
    step takes what is left. compiled: runs the forward pass of training in the model's place. state: continue this one, after a resume.
    check_every: steps between two looks at whether the loss is finite. Where several processes train, model is
    `parsinet.distributed.Replicas(net)`, batches are each rank's own rows, and what is reported is that of all ranks.

    Errors: NotFiniteError (a RunError) with the first step whose loss is not finite, or after an epoch that left a weight infinite;
    UsageError for counts below 1, a sharded network, and a teacher where targets are not classes.
    """
    if isinstance(model, Sharded):
        raise UsageError(
            "fit: a sharded network is evaluated and saved by all processes together, which this loop does not. Write your own."
        )
    for name, count in (("epochs", epochs), ("check_every", check_every), ("accumulate", accumulate)):
        check_whole("fit", name, count, needed=True)
    check_above_zero("fit", gradient_clip=gradient_clip)
    _check_kinds(objective, teacher, average, learning_rate, precision, compiled, callbacks)
    precision = precision or Precision()
    precision.check(model)
    state = state or LoopState(model, optimizer, batches, epochs, pruner)
    state.settled = state.settled or (pruner is not None and pruner.settled)
    if compiled is not None and state.replicas is not None:
        raise UsageError("fit: a compiled forward pass would leave out the exchange of gradients between processes. Leave compile out.")
    if compiled is not None and (pruner is None or pruner.settled):
        compiled.settle()
    passes = Passes(state, objective, teacher, precision, compiled)
    step = _Step(state, passes, average, _Rates(optimizer, learning_rate), gradient_clip, tuple(callbacks), check_every)
    for callback in callbacks:
        callback.on_start(state)
    while batches.epoch < epochs and not state.stop:
        _run_epoch(state, step, accumulate, callbacks)
    for callback in callbacks:
        callback.on_end(state)
    return state


def _check_kinds(
    objective: object, teacher: object, average: object, learning_rate: object, precision: object, compiled: object, callbacks: object
) -> None:
    """ArgumentTypeError for what stands in the place of another kind of thing."""
    for name, given in (("objective", objective), ("learning_rate", learning_rate)):
        if not (callable(given) or (given is None and name == "learning_rate")):
            raise ArgumentTypeError(f"fit: {name} must be a function, got {told(given)}.")
    kinds = {
        "teacher": (teacher, Teacher),
        "average": (average, Average),
        "precision": (precision, Precision),
        "compiled": (compiled, Compiled),
    }
    for name, (given, kind) in kinds.items():
        if given is not None and not isinstance(given, kind):
            raise ArgumentTypeError(f"fit: {name} must be a parsinet.training.{kind.__name__}, got {told(given)}.")
    several = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
    for one in several:
        if not isinstance(one, Callback):
            raise ArgumentTypeError(f"fit: callbacks must be a list of parsinet.training.Callback, got {told(one)}.")


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
    passes: Passes
    average: Average | None
    rates: _Rates
    clip: float | None
    callbacks: tuple[Callback, ...]
    check_every: int

    def __post_init__(self) -> None:
        self.watchers = [callback.on_step for callback in self.callbacks if type(callback).on_step is not Callback.on_step]
        self.parameters = [parameter for group in self.state.optimizer.param_groups for parameter in group["params"]]

    def __call__(self, batches: Sequence[Batch]) -> None:
        state, optimizer, pruner, teacher = self.state, self.state.optimizer, self.state.pruner, self.passes.teacher
        self.rates.set(state.step)
        passed = self.passes(batches)
        self.passes.precision.step(optimizer, self.clip, self.parameters)
        optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.examples += passed.examples
        if state.tally.add(passed.loss, passed.wrong, passed.targets) >= self.check_every:
            _read(state, state.epoch)
        if pruner is not None:
            self._prune(pruner, passed.again)
        if teacher is not None:
            if state.replicas is not None:
                state.replicas.align()
            teacher.follow(state.model)
        if self.average is not None:
            self.average.step(state.model, pruner is None or pruner.settled)
        for watch in self.watchers:
            watch(state)

    def _prune(self, pruner: Pruner, closure: Callable[[], Tensor]) -> None:
        removal, compiled = pruner.step(closure), self.passes.compiled
        if removal is not None:
            if compiled is not None:
                compiled.renew()
            for callback in self.callbacks:
                callback.on_removal(self.state, removal)
        if pruner.settled and not self.state.settled:
            self.state.settled = True
            if compiled is not None:
                compiled.settle()
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


def _run_epoch(state: LoopState, step: _Step, accumulate: int, callbacks: Sequence[Callback]) -> None:
    epoch = state.epoch
    state.model.train()
    for batches in grouped(state.batches, accumulate):
        step(batches)
        state.stop = state.ranks.any(state.stop)
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
