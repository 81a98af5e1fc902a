"""The end of the gated phase: gates stop walking between open and closed, and exact comparisons close what is not worth its price."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from parsinet.errors import UsageError
from parsinet.gates import MOST, PANEL, Trials, exact_flips
from parsinet.methods.comparing import under_gates
from parsinet.methods.gating import GateBank
from parsinet.methods.options import check_known, check_number

DECISIONS = ("flips", "absorb", "round")
SHARE = 0.4
TARGETED = 0.25
"""The same where prices follow a target: they must have stopped moving, since an open gate no longer walks."""
EVERY = 4
"""Steps between two looks: with a panel of 4, about 1.25 forward passes per step of the phase."""


class Deciding:
    """From `begin` on, gates that stand at 0 or 1 stay there, and units are tried one after another.

    "flips": the loss with and without a unit is compared exactly, if the pruner is given a closure; what falls short of its price closes.
    "absorb": ends hold, nothing is tried; so it is also without a closure. "round": neither.
    share: of the gated phase, default `usual`. Source: ours; the theorem behind closing one by one is derived in docs/gates.md.
    """

    def __init__(self, kind: str, share: float | None = None, *, usual: float = SHARE) -> None:
        check_known("Gates", "way to decide called", kind, DECISIONS)
        check_number("Gates", "deciding", share, above=0, most=1.0)
        if kind == "round" and share is not None:
            raise UsageError('Gates: decide="round" has no deciding part of the run; leave `deciding` out.')
        self.kind, self.asked, self.share = kind, share, usual if share is None else share
        self.trials = Trials(0)
        self._begin = self._last = 0

    @property
    def walks(self) -> float:
        """Share of the gated phase before this part of it; where there is none, before it would begin."""
        return 1 - self.share

    @property
    def moves(self) -> float:
        """Share of the gated phase in which gates that stand at 0 or 1 may leave it."""
        return 1.0 if self.kind == "round" else self.walks

    def attach(self, units: int, last: int) -> None:
        """Begin with `units` gates; `last` is the last gated step, 0 if it is not known, and then no phase begins."""
        self.trials = Trials(units)
        self._last = last
        self._begin = round(self.walks * last)

    def begun(self, step: int) -> bool:
        """Whether the phase has begun at 1-based `step`."""
        return self.kind != "round" and self._last > 0 and step > self._begin

    def probe(self, loss: Callable[[], Tensor], model: nn.Module, bank: GateBank, price: float | Tensor, step: int) -> None:
        """Compare on the present batch, at every `EVERY`-th step of the phase, and move the gates whose trials end.

        A batch on which a loss is no finite number says nothing. Gates of which none has learned, in evaluation mode, are not tried.
        """
        if self.kind != "flips" or not self.begun(step) or step % EVERY or not bool(bank.usefulness.any()):
            return
        theta = bank.theta.cpu()
        prices = torch.as_tensor(price, dtype=torch.float64, device="cpu").expand(len(theta))
        units = self.trials.panel(theta, bank.usefulness.cpu(), prices, _alone(bank))
        if not units:
            return
        found = gains(loss, model, bank, units)
        if not bool(found.isfinite().all()):
            return
        self.trials.add(units, found)
        verdict = self.trials.look(units, theta, prices, self._most(theta, step))
        bank.theta[list(verdict.kept)] = 1
        if verdict.closed is not None:
            bank.theta[verdict.closed] = 0

    def keep(self, masks: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
        """Follow a removal. sizes: of the gated groups before it."""
        rows = [masks[group].cpu() if group in masks else torch.ones(size, dtype=torch.bool) for group, size in sizes.items()]
        self.trials.keep(torch.cat(rows))

    def _most(self, theta: Tensor, step: int) -> int:
        """Batches per trial, so that every undecided unit has its trial before the phase is over."""
        undecided = max(1, int(((theta > 0) & (theta < 1)).sum()))
        left = (self._last - step) // EVERY * PANEL
        return max(1, min(MOST, left // undecided))


def gains(loss: Callable[[], Tensor], model: nn.Module, bank: GateBank, units: list[int]) -> Tensor:
    """Δ_i = C(ξ_i = 0) − C(ξ_i = 1) on one batch, all other gates as they are drawn once; float64 [len(units)], nats per example.

    loss: evaluates the model on the batch; of several ranks each on its own rows with a draw of its own, and Δ is their mean. Running
    statistics and dropout's random numbers are the same in each evaluation, and afterwards as they were.
    """
    return bank.ranks.mean([-exact_flips(under_gates(loss, model, bank), bank.draw(), units)])[0]


def _alone(bank: GateBank) -> Tensor:
    """Units without which their group would have none at θ ≥ ½; bool, all groups in one row."""
    rows = []
    for name, theta, _ in bank.rows():
        open_now = (theta >= 0.5).cpu()
        rows.append((open_now.sum() - open_now.int() < 1) & (name not in bank.blocks))
    return torch.cat(rows)
