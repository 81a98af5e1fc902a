"""A size wanted in advance: multiply-adds, parameters, bytes or latency, as a share of the dense network or as a number."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from parsinet import measure
from parsinet.errors import UsageError, suggest

ALIASES = {"macs": "macs", "params": "parameters", "parameters": "parameters", "bytes": "bytes", "latency": "latency"}
MULTIPLES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
FORM = "Write what=value, such as macs=20%, params=45k, bytes=1.5M or latency=2ms"

NEAR = 0.02
"""A target counts as reached within this part of itself."""


@dataclass(frozen=True)
class Target:
    """A size to end with.

    kind: "macs" (multiply-adds per example), "parameters", "bytes" (parameters and buffers) or "latency" (seconds per forward pass of the
    example inputs). value: share of the dense network in (0, 1] if `relative`, else the number itself.
    """

    kind: str
    value: float
    relative: bool

    @classmethod
    def parse(cls, who: str, text: object) -> Target:
        """Read "macs=20%", "params=45k", "bytes=1.5M", "latency=2ms" (k, M, G are thousands; s, ms, us for latency).

        Raises UsageError, in the name of `who`, for anything else.
        """
        if isinstance(text, Target):
            return text
        if not isinstance(text, str) or "=" not in text:
            raise UsageError(f"{who}: target {text!r} does not say what and how much. {FORM}.")
        name, _, amount = (part.strip() for part in text.partition("="))
        kind = ALIASES.get(name.lower())
        if kind is None:
            raise UsageError(f"{who}: there is no target {name!r}.{suggest(name, ALIASES)} {FORM}.")
        match = re.fullmatch(r"((?:[0-9]{1,3}(?:[,_][0-9]{3})+|[0-9]+)\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*(%|[A-Za-z]*)", amount)
        units = SECONDS if kind == "latency" else MULTIPLES
        unit = match[2] if match else ""
        if match is None or (unit != "%" and unit.lower() not in units):
            known = "%, " + ", ".join(unit for unit in units if unit)
            raise UsageError(f"{who}: the target's value {amount!r} is no positive number with one of {known}. {FORM}.")
        number = float(match[1].replace("_", "").replace(",", ""))
        relative = unit == "%"
        if not number > 0 or (relative and number > 100):
            raise UsageError(f"{who}: target {text!r} must be above 0" + (" and at most 100 %." if relative else "."))
        return cls(kind, number / 100 if relative else number * units[unit.lower()], relative)

    @classmethod
    def given(cls, who: str, text: object) -> Target | None:
        """`parse`, and None where there is no target."""
        return None if text is None else cls.parse(who, text)

    def of(self, who: str, dense: float) -> float:
        """The target in counts (or seconds) for a dense network of that size. UsageError if the network is no larger than that."""
        if not self.relative and self.value > dense:
            raise UsageError(f"{who}: target {self} asks for more than the network has: {_number(dense, self.kind)}.")
        return self.value * dense if self.relative else self.value

    @property
    def hint(self) -> str:
        """A question, with a space before it, where a share was perhaps meant: of a number as small as a per cent."""
        if self.relative or self.value > 100 or self.kind == "latency":
            return ""
        return f" Did you mean {self.kind}={self.value if self.value >= 1 else 100 * self.value:.4g}%?"

    def told(self, amount: float) -> str:
        """An amount of this kind in words: "53,240 multiply-adds"."""
        return _number(amount, self.kind)

    def __str__(self) -> str:
        if self.relative:
            return f"{self.kind}={100 * self.value:.4g}%"
        return f"latency={1e3 * self.value:.4g}ms" if self.kind == "latency" else f"{self.kind}={self.value:,.15g}"


def nonzeros_for(who: str, target: Target, model: nn.Module) -> int:
    """The number of parameters that are not zero which the target asks for. Raises UsageError for targets that zeros do not meet."""
    if target.kind != "parameters":
        raise UsageError(f"{who}: masks make weights zero and take no work or memory away; give target as params, not as {target.kind}.")
    return round(target.of(who, measure.parameters(model)))


def sparsity_for(who: str, target: Target, model: nn.Module, weights: Iterable[Tensor]) -> float:
    """Share of `weights` that has to be zero for the network to have the target's number of parameters that are not.

    Everything else counts as not zero. Raises UsageError for targets that zeros do not meet, and for one below what else there is.
    """
    wanted, masked = nonzeros_for(who, target, model), sum(weight.numel() for weight in weights)
    others = measure.parameters(model) - masked
    if wanted <= others:
        raise UsageError(
            f"{who}: target {target} asks for {target.told(wanted)}, but {others:,} are in no masked weight already.{target.hint}"
        )
    return 1 - (wanted - others) / masked


def _number(amount: float, kind: str) -> str:
    words = {"macs": "multiply-adds", "parameters": "parameters", "bytes": "bytes"}
    return f"{1e3 * amount:.4g} ms" if kind == "latency" else f"{round(amount):,} {words[kind]}"
