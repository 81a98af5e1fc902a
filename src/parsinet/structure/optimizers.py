"""What becomes of an optimizer's state when its parameter is cut: one table, optimizer by optimizer and key by key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn, optim

from parsinet.errors import StructureError
from parsinet.structure.cutting import cut

State = dict[str, object]
Kept = Mapping[int, tuple[int, ...]]
Rule = Callable[[Tensor, State, Tensor, Kept], Tensor]
"""(value, the parameter's whole state, the parameter before the cut, kept indices by dimension) → value after it."""


class _MisfitError(Exception):
    """The value is not what its rule speaks of."""


def whole(value: Tensor, state: State, parameter: Tensor, kept: Kept) -> Tensor:
    """Counts steps or averages a schedule: one number per parameter."""
    if value.numel() != 1:
        raise _MisfitError
    return value


def entries(value: Tensor, state: State, parameter: Tensor, kept: Kept) -> Tensor:
    """One number per entry of the parameter, which knows of no other entry."""
    if value.shape != parameter.shape:
        raise _MisfitError
    return cut(value, kept)


def row_means(value: Tensor, state: State, parameter: Tensor, kept: Kept) -> Tensor:
    """Adafactor's r, means of squared gradients over the last dimension; see `_means`."""
    return _means(value, state.get("col_var"), parameter, kept, -1)


def column_means(value: Tensor, state: State, parameter: Tensor, kept: Kept) -> Tensor:
    """Adafactor's c, means of squared gradients over the dimension before the last; see `_means`."""
    return _means(value, state.get("row_var"), parameter, kept, -2)


def _means(value: Tensor, other: object, parameter: Tensor, kept: Kept, over: int) -> Tensor:
    """Means over dimension `over`, from which entries leave; Adafactor estimates V_ij = r_i c_j / mean(r).

    The squared gradients themselves are gone, so the mean over what is left is an approximation: the one that leaves V_ij of every
    entry that stays what it was, r_i ← r_i · mean(c kept)/mean(c) and the same for c.
    """
    d = parameter.dim() + over
    means = [1 if i == d else size for i, size in enumerate(parameter.shape)]
    if list(value.shape) != means or not isinstance(other, Tensor):
        raise _MisfitError
    if d in kept:
        before = other.mean(over, keepdim=True)
        after = cut(other, {d: kept[d]}).mean(over, keepdim=True)
        value = value * torch.where(before > 0, after / before, 1.0)
    return cut(value, {i: indices for i, indices in kept.items() if i != d})


ADAM = {"step": whole, "exp_avg": entries, "exp_avg_sq": entries, "max_exp_avg_sq": entries}

RULES: tuple[tuple[type[optim.Optimizer], Mapping[str, Rule]], ...] = (
    (optim.SGD, {"momentum_buffer": entries}),
    (optim.Adam, ADAM),
    (optim.AdamW, ADAM),
    (optim.SparseAdam, ADAM),
    (optim.Adamax, {"step": whole, "exp_avg": entries, "exp_inf": entries}),
    (optim.NAdam, {**ADAM, "mu_product": whole}),
    (optim.RAdam, ADAM),
    (optim.RMSprop, {"step": whole, "square_avg": entries, "momentum_buffer": entries, "grad_avg": entries}),
    (optim.Adagrad, {"step": whole, "sum": entries}),
    (optim.Adadelta, {"step": whole, "square_avg": entries, "acc_delta": entries}),
    (optim.ASGD, {"step": whole, "eta": whole, "mu": whole, "ax": entries}),
    (optim.Rprop, {"step": whole, "prev": entries, "step_size": entries}),
    (optim.Adafactor, {"step": whole, "variance": entries, "row_var": row_means, "col_var": column_means}),
    (optim.Muon, {"momentum_buffer": entries}),
)

REFUSED: tuple[tuple[type[optim.Optimizer], str], ...] = (
    (optim.LBFGS, "LBFGS keeps one flat history of all parameters, which cannot be cut; use another optimizer."),
)

USUAL: Mapping[str, Rule] = {key: rule for _, rules in RULES for key, rule in rules.items() if rule in (whole, entries)}
"""What torch's names mean; other optimizers use them in the same sense."""


@dataclass(frozen=True)
class Carried:
    """What one optimizer keeps of one parameter after the cut; `content` None: nothing, it starts afresh, because of `misfit`."""

    optimizer: optim.Optimizer
    parameter: Tensor
    content: State | None
    misfit: str = ""

    def apply(self) -> None:
        """Write it into the optimizer."""
        if self.content is None:
            del self.optimizer.state[self.parameter]
        else:
            self.optimizer.state[self.parameter].update(self.content)


def carry(optimizer: optim.Optimizer, parameter: Tensor, kept: Kept, state: State | None = None) -> Carried:
    """Plan what the optimizer's state of a parameter becomes; changes nothing.

    state: the same with whole tensors, where the optimizer keeps parts of them.

    Keys outside the table (other people's optimizers) are judged by shape: single numbers stay, and what has the parameter's shape
    wherever the optimizer keeps it is cut entry by entry. If one key fits nothing, the parameter's whole state starts afresh.
    """
    state = optimizer.state[parameter] if state is None else state
    rules = next((rules for kind, rules in RULES if isinstance(optimizer, kind)), {})
    content: State = {}
    for key, value in state.items():
        if isinstance(value, Tensor):
            rule = rules.get(key) or USUAL.get(key) or _own(optimizer, key) or _by_shape(optimizer, key, value)
            try:
                content[key] = rule(value, state, parameter, kept)
            except _MisfitError:
                return Carried(optimizer, parameter, None, f"{key!r} of shape {tuple(value.shape)}")
        elif not isinstance(value, bool | int | float | str | None):
            return Carried(optimizer, parameter, None, f"{key!r}, a {type(value).__name__}")
    return Carried(optimizer, parameter, content)


def _own(optimizer: optim.Optimizer, key: str) -> Rule | None:
    """What the optimizer itself says: its `entrywise`, if it has one, names the state with one number per entry of the parameter."""
    return entries if key in getattr(optimizer, "entrywise", ()) else None


def _by_shape(optimizer: optim.Optimizer, key: str, value: Tensor) -> Rule:
    """Entry by entry only where shapes cannot mislead: a square matrix alone may as well be a preconditioner."""
    if value.numel() == 1:
        return whole
    holders = [(parameter, state[key]) for parameter, state in optimizer.state.items() if isinstance(state.get(key), Tensor)]
    same = all(kept.shape == parameter.shape for parameter, kept in holders)
    telling = any(len(set(parameter.shape)) == parameter.dim() for parameter, _ in holders)
    return entries if same and telling else _nothing


def _nothing(value: Tensor, state: State, parameter: Tensor, kept: Kept) -> Tensor:
    raise _MisfitError


def with_wrapped(optimizers: Iterable[optim.Optimizer]) -> list[optim.Optimizer]:
    """The optimizers, each once, and those that they keep as attributes and step themselves (SAM around SGD), which have state too."""
    found: dict[optim.Optimizer, None] = {}
    waiting = list(optimizers)
    while waiting:
        optimizer = waiting.pop(0)
        if optimizer not in found:
            found[optimizer] = None
            inner = (value for value in vars(optimizer).values() if isinstance(value, optim.Optimizer))
            waiting.extend(value for value in inner if value.state is not optimizer.state)
    return list(found)


def held(optimizers: Iterable[optim.Optimizer]) -> set[int]:
    """The parameters that optimizers train, by identity."""
    return {id(parameter) for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]}


def check_optimizers(model: nn.Module, optimizers: Iterable[optim.Optimizer]) -> None:
    """StructureError for an optimizer that cannot go on after a removal, or that trains another model."""
    own = {id(parameter) for parameter in model.parameters()}
    for optimizer in with_wrapped(optimizers):
        kind = type(optimizer).__name__
        for refused, reason in REFUSED:
            if isinstance(optimizer, refused):
                raise StructureError(reason)
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if held and not any(id(parameter) in own for parameter in held):
            raise StructureError(f"The {kind} optimizer holds no parameter of this {type(model).__name__}; pass the one that trains it.")


def reset_message(carried: Iterable[Carried], names: Mapping[int, str]) -> str:
    """Whose state starts afresh and why; '' if nobody's. names: by the parameter's id."""
    lines = [
        f"{type(entry.optimizer).__name__} keeps {entry.misfit} for {names.get(id(entry.parameter), 'a parameter')}"
        for entry in carried
        if entry.content is None
    ]
    more = f" and so for {len(lines) - 1} more" if len(lines) > 1 else ""
    return f"{lines[0]}{more}: it is not known how to cut that, so this state starts afresh." if lines else ""
