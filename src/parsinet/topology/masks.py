"""Masks over a set of weights while they train: which entries are active, kept so through gradients, optimizers and removals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from parsinet.errors import StructureError, UsageError
from parsinet.topology.counters import Counters
from parsinet.topology.gradients import GradientMask, Score
from parsinet.topology.growth import lots
from parsinet.topology.moments import forget_, tell
from parsinet.topology.selection import count

Pool = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Mapping[str, Tensor]]


class Cut(Protocol):
    """What `Masks` needs of a removal's plan (`parsinet.structure.Plan`)."""

    def cut(self, name: str, value: Tensor) -> Tensor:
        """The value, of the shape of the tensor `name`, with the indices that stay."""


class Masks:
    """One bool mask per weight; the parameter itself is the effective weight, with exact zeros where it is hidden.

    weights: name → parameter, the name being the one the model gives it. optimizers: those that train them. generator: a CPU generator
    for growth by lot. straight_through: leave the optimizer the dense gradients, if it masks them itself. Everything is active at first.

    The order of a step: backward (gradients are masked as they arrive, dense ones kept if `catch` asks) → clip → optimizer → `restore_` →
    `set` with masks from a rule → next step. Entries that change get zero moments in every optimizer, and start at 0 when they
    come back; optimizers that offer `set_masks` decide both by themselves (`MaskAware`). pool: where several processes train together,
    makes of what each has caught by name the mean over all (given also the weights), so that all set the same masks.
    Raises UsageError for weights that are frozen or none at all.
    """

    def __init__(
        self,
        weights: Mapping[str, nn.Parameter],
        *,
        optimizers: Sequence[torch.optim.Optimizer] = (),
        generator: torch.Generator | None = None,
        straight_through: bool = False,
        pool: Pool | None = None,
    ) -> None:
        if not weights:
            raise UsageError("Masks: there is no weight to mask.")
        for name, weight in weights.items():
            if not weight.requires_grad:
                raise UsageError(f"Masks: {name} is frozen; a mask needs its gradient. Leave it out.")
        self.weights = dict(weights)
        self.shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        self._optimizers = tuple(optimizers)
        self._generator = generator
        self._pool = pool
        self._masks = {name: torch.ones(weight.shape, dtype=torch.bool, device=weight.device) for name, weight in weights.items()}
        self._keep = {name: torch.ones_like(weight.detach()) for name, weight in weights.items()}
        self._answered = tell(self._optimizers, self.weights, self._masks)
        self._gradients = GradientMask(self.weights, self._keep, straight_through=straight_through)
        self.counters = Counters(self._masks)
        self._held = True
        """Until `detach`."""

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """Name → bool mask of the weight's present shape. Change them through `set`."""
        return self._masks

    @property
    def total(self) -> int:
        """Entries of all weights as they were at the start: what sparsity refers to."""
        return sum(torch.Size(shape).numel() for shape in self.shapes.values())

    @property
    def active(self) -> int:
        """Active entries now."""
        return sum(count(mask) for mask in self._masks.values())

    def begin(self, masks: Mapping[str, Tensor]) -> None:
        """The masks a run starts with: as `set`, but what they hide was never active."""
        self.set(masks)
        self.counters = Counters(self._masks)

    @torch.no_grad()
    def set(self, masks: Mapping[str, Tensor]) -> None:
        """New masks, of some or all weights. Raises UsageError for unknown names and other shapes or kinds, with nothing changed."""
        for name, mask in masks.items():
            self._check(name, mask)
        for name, mask in masks.items():
            old, new = self._masks[name], mask.to(self._masks[name].device)
            stayed = old & new
            self.counters.add(name, old ^ stayed, new ^ stayed)
            if name not in self._answered:
                forget_(self._optimizers, self.weights[name], stayed.to(self._keep[name].dtype))
            self._hold(name, new)
        self.counters.updates += 1
        tell(self._optimizers, self.weights, {**self._masks})
        self.apply_()

    @torch.no_grad()
    def apply_(self) -> None:
        """Exact zeros in every hidden entry."""
        for name, weight in self.weights.items():
            weight.mul_(self._keep[name])

    def restore_(self) -> None:
        """As `apply_`, after an optimizer's step, until `detach`: hidden entries move where a gradient came by another way than through
        the backward pass (`torch.autograd.grad`, noise that is added to it), and under optimizers that do not work entry by entry."""
        if self._held:
            self.apply_()

    def catch(self, score: Score | None) -> None:
        """From the next backward pass on keep score(weight, dense gradient) of every pass, for `caught`; None to stop."""
        self._gradients.catching = score

    def caught(self) -> dict[str, Tensor]:
        """What was caught since the last call, for all weights, 0 for those the loss did not reach; empty if no gradient came at all or a
        value is not finite."""
        found: Mapping[str, Tensor] = self._gradients.take()
        if self._pool is not None:
            found = self._pool(found, self.weights)
        if not found or not all(bool(torch.isfinite(value.sum())) for value in found.values()):
            return {}
        return {name: found[name] if name in found else torch.zeros_like(weight.detach()) for name, weight in self.weights.items()}

    def lots(self) -> dict[str, Tensor]:
        """A uniform number per entry, from the generator."""
        if self._generator is None:
            raise UsageError("Masks: growth by lot needs a generator; give Masks(..., generator=torch.Generator().manual_seed(0)).")
        return lots(self._masks, self._generator)

    def cut(self, plan: Cut) -> None:
        """Follow a removal of units: masks and counters lose what the weights have lost."""
        for name, mask in self._masks.items():
            self._hold(name, plan.cut(name, mask))
            self.counters.explored[name] = plan.cut(name, self.counters.explored[name])
        self._gradients.take()
        tell(self._optimizers, self.weights, {**self._masks})

    def detach(self) -> None:
        """Leave the weights alone from here on; hidden entries are zero at this moment. Safe to call twice."""
        if self._held:
            self.apply_()
        self._held = False
        self._gradients.remove()

    def describe(self) -> dict[str, Any]:
        """JSON-able: active entries, sparsity with respect to the start, counters, and per tensor its active entries, size and density."""
        active = {name: count(mask) for name, mask in self._masks.items()}
        tensors = {
            name: {"active": active[name], "size": mask.numel(), "density": round(active[name] / mask.numel(), 6)}
            for name, mask in self._masks.items()
        }
        present = sum(active.values())
        return {"active": present, "sparsity": 1 - present / self.total, **self.counters.describe(), "tensors": tensors}

    def state_dict(self) -> dict[str, Any]:
        """Masks, counters, the generator."""
        generator = {} if self._generator is None else {"generator": self._generator.get_state()}
        return {"masks": {name: mask.clone() for name, mask in self._masks.items()}, "counters": self.counters.state_dict(), **generator}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue bitwise, on weights of the saved shapes; their values and the optimizers' states come from their own files.

        Raises StructureError for masks of other weights or shapes, with nothing changed.
        """
        saved = {name: tuple(mask.shape) for name, mask in state["masks"].items()}
        present = {name: tuple(mask.shape) for name, mask in self._masks.items()}
        if saved != present:
            raise StructureError(f"The saved masks are of weights {saved}, this network has {present}.")
        for name, mask in state["masks"].items():
            self._hold(name, mask.to(self._masks[name].device, copy=True))
        self.counters.load_state_dict(state["counters"])
        if self._generator is not None:
            self._generator.set_state(state["generator"].cpu())
        tell(self._optimizers, self.weights, {**self._masks})
        self.apply_()

    def _hold(self, name: str, mask: Tensor) -> None:
        """Masks as numbers multiply several times faster than as truth values, so both are kept."""
        self._masks[name] = mask
        self._keep[name] = mask.to(self.weights[name].dtype)

    def _check(self, name: str, mask: Tensor) -> None:
        if name not in self._masks:
            raise UsageError(f"Masks: there is no weight {name!r} among {', '.join(self._masks)}.")
        if mask.dtype != torch.bool or mask.shape != self._masks[name].shape:
            raise UsageError(
                f"Masks: the mask of {name} must be bool of shape {tuple(self._masks[name].shape)}, got {mask.dtype} {tuple(mask.shape)}."
            )
