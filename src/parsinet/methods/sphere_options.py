"""What the sphere method accepts: the exponents of the spheres, and how weights are dropped and come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from parsinet.errors import UsageError
from parsinet.methods.options import check_known, check_number, check_whole
from parsinet.sphere import p_for_sparsity

CONTROLLERS = ("cubic", "authors")
REGROWS = ("semi", "hard", "dense", "half", "soft")


@dataclass(frozen=True)
class Exponents:
    """p of the spheres, and where it begins if it falls. See `Sphere`."""

    p: float | str | Mapping[str, float]
    start: float | None

    def __post_init__(self) -> None:
        """UsageError for another word than "auto", and for a p_start that falls to no single number."""
        if isinstance(self.p, str) and self.p != "auto":
            raise UsageError(f'sphere: p must be a number, a mapping of layer names to numbers, or "auto", got {self.p!r}.')
        if self.start is not None and (isinstance(self.p, Mapping | str) or self.start < self.p):
            raise UsageError(f"sphere: p falls from p_start to one number p; got p_start={self.start} and p={self.p}.")

    def check(self, sparsity: float) -> None:
        """UsageError where p follows from a sparsity and there is none."""
        if self.p == "auto" and not sparsity:
            raise UsageError('sphere: p="auto" takes p from the sparsity; give a sparsity > 0, or p as a number.')

    def first(self, sparsity: float) -> float | Mapping[str, float] | Callable[[int], float]:
        """p at the first step, as `sphere.param_groups` takes it; for "auto" a function of the number of a unit's weights."""
        if isinstance(self.p, str):  # of n weights at most n − 1 can be small
            return lambda fan_in: p_for_sparsity(fan_in, min(sparsity, 0.999 * (fan_in - 1) / fan_in))
        return self.p if self.start is None else self.start

    def at(self, done: float) -> float | None:
        """p at part `done` of its way; None if it does not move."""
        return None if self.start is None or isinstance(self.p, Mapping | str) else self.start ** (1 - done) * self.p**done


@dataclass(frozen=True)
class Exchange:
    """How weights are dropped and come back. See `Sphere`."""

    controller: str
    regrow: str
    fade: float | None
    rate: float
    least: int

    def __post_init__(self) -> None:
        """UsageError for values out of range and for pairs that exclude each other."""
        check_known("sphere", "controller", self.controller, CONTROLLERS)
        check_known("sphere", "regrow", self.regrow, REGROWS)
        check_whole("sphere", "least", self.least, least=0)
        check_number("sphere", "rate", self.rate, above=0, most=1)
        if self.regrow in ("half", "soft") and self.controller == "authors":
            raise UsageError(f'sphere: regrow="{self.regrow}" needs controller="cubic"; the authors\' rule has a share of its own.')
        if self.fade is not None and (self.regrow != "soft" or not 0 <= self.fade < 1):
            raise UsageError(
                f'sphere: fade must be in [0, 1) and goes with regrow="soft", got fade={self.fade} and regrow={self.regrow!r}.'
            )

    @property
    def kept(self) -> str:
        """What the optimizer keeps of hidden weights, see `LpSGD.set_masks`."""
        return self.regrow if self.regrow in ("hard", "dense") else "semi"

    @property
    def factor(self) -> float:
        """What becomes of a weight that "soft" would hide."""
        return 0.5 if self.fade is None else self.fade

    @property
    def dropped(self) -> float:
        """Which part of what lies below the threshold is dropped."""
        return 0.5 if self.regrow == "half" else 1.0
