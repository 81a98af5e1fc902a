"""The ways to say what gates pay: a price, log γ, a price of the whole network, or a target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parsinet.errors import UsageError
from parsinet.gates import price as price_of
from parsinet.methods.base import Budget
from parsinet.methods.blocking import BlockOptions, BlockTerms, Sheltered
from parsinet.methods.controller import PURSUIT, Targeted
from parsinet.methods.options import check_number
from parsinet.methods.pricing import Costed, Pricing, Uniform
from parsinet.methods.rising import Rise
from parsinet.methods.target import Target

DEFAULT_PRICE = 1e-3
RISE = 10.0
"""With it what is left of a perceptron hardly depends on its width at the start (benchmarks/gates, robustness)."""
RISEN = 0.5
"""Part of the way to the decisions: after it gates have time to fall at the full price."""
MOST = 1e9
"""Nats: no unit is worth so much, and float32 still counts with it."""
COMPUTATION = {"macs": 1.0, "latency": 1.0, "parameters": 0.0}
"""Share of multiply-adds in the cost of a target, where none is given; of bytes, bytes are the cost."""


@dataclass(frozen=True)
class PriceOptions:
    """At most one of `price`, `log_gamma`, `cost_price` and `target`; `computation` and `evenness` go with the last two, `pursuit` with the
    last, `rise` with the others."""

    price: float | None = None
    log_gamma: float | None = None
    cost_price: float | None = None
    computation: float | None = None
    target: Target | None = None
    pursuit: float | None = None
    evenness: float | None = None
    rise: float | None = None

    def __post_init__(self) -> None:
        """UsageError for values out of range and for two ways at once."""
        for name in ("price", "log_gamma", "cost_price"):
            check_number("Gates", name, getattr(self, name), above=0, below=math.inf)
            if (getattr(self, name) or 0) > MOST:
                raise UsageError(f"Gates: {name}={getattr(self, name):g} nats is more than a unit can be worth; the most is {MOST:g}.")
        if self.price is not None and self.log_gamma is not None:
            raise UsageError("Gates: give price or log_gamma, not both (price = log_gamma / number of training examples).")
        given = [name for name in ("price", "log_gamma", "cost_price", "target") if getattr(self, name) is not None]
        if len(given) > 1:
            raise UsageError(f"Gates: give one of price, log_gamma, cost_price and target, got {' and '.join(given)}.")
        check_number("Gates", "computation", self.computation, "the share of multiply-adds in the cost", least=0, most=1)
        if self.computation is not None and self.cost_price is None and self.target is None:
            raise UsageError("Gates: computation says what is charged by cost; give it with cost_price or target.")
        check_number("Gates", "evenness", self.evenness, "the power of a group's share in its price", least=0, most=16)
        if self.evenness is not None and self.cost_price is None and self.target is None:
            raise UsageError("Gates: evenness says who pays more of the cost; give it with cost_price or target.")
        check_number("Gates", "pursuit", self.pursuit, least=0, most=4)
        if self.pursuit is not None and self.target is None:
            raise UsageError("Gates: pursuit is how the price follows a target; give it with one.")
        check_number("Gates", "rise", self.rise, "how many times lower prices begin", least=1, most=MOST)
        if self.rise is not None and self.target is not None:
            raise UsageError("Gates: rise is how a given price grows; with a target the price is found, and begins low by itself.")

    def rising(self, last: int, walks: float, *, steady: bool) -> Rise:
        """How prices rise in a run whose last gated step is `last`, 0 if that is not known.

        walks: share of the gated phase before gates are decided. steady: each step is at most a few prices and no estimate is doubted;
        otherwise noise costs the more the lower prices are, so that they stay unless `rise` is given. UsageError for one that has no time.
        """
        if self.target is not None or self.rise == 1 or (self.rise is None and not (steady and last and walks)):
            return Rise()
        if not last:
            raise UsageError("Gates: rise takes a part of the run, whose length is unknown; give Pruner(..., steps=N), or rise=1.")
        if not walks:
            raise UsageError("Gates: with deciding=1 gates are decided from the first step on, without time to rise; leave rise out.")
        return Rise(RISE if self.rise is None else self.rise, RISEN * walks * last)

    def pricing(self, budget: Budget, blocks: BlockTerms | None = None, left_out: Mapping[str, str] | None = None) -> Pricing:
        """The prices, not attached yet. blocks: the residual branches that are gated too. left_out: groups without a gate, with the reason.

        UsageError for log_gamma without the number of training examples.
        """
        terms: dict[str, Any] = {"evenness": self.evenness or 0.0}
        if blocks is not None:
            terms |= {"factors": blocks.factors(), "blocks": blocks.modules}
        if self.target is not None:
            return Targeted(self.target, self._shares(), PURSUIT if self.pursuit is None else self.pursuit, left_out=left_out, **terms)
        if self.cost_price is not None:
            return Costed(self.cost_price, self._shares(), **terms)
        if self.log_gamma is not None and budget.examples is None:
            raise UsageError("Gates: log_gamma needs the number of training examples; give Pruner(..., examples=N) or use price.")
        price = DEFAULT_PRICE if self.price is None else self.price
        if self.log_gamma is not None and budget.examples is not None:
            price = price_of(self.log_gamma, budget.examples)
        return Uniform(price) if blocks is None else Sheltered(price, blocks.inside, factor=blocks.beta, fixed=blocks.price)

    def check(self, blocks: BlockOptions) -> None:
        """UsageError for ways to pay that do not go with blocks."""
        if blocks.price is not None and (self.cost_price is not None or self.target is not None):
            way = "cost_price" if self.target is None else "target"
            raise UsageError(f"Gates: with {way} a block pays for what it costs; give block_factor instead of block_price.")

    def _shares(self) -> dict[str, float]:
        """a_c of R = Σ_c a_c K_c/K_c(dense)."""
        if self.computation is None and self.target is not None and self.target.kind == "bytes":
            return {"bytes": 1.0}
        usual = 0.5 if self.target is None else COMPUTATION.get(self.target.kind, 0.5)
        computation = usual if self.computation is None else self.computation
        return {"macs": computation, "parameters": 1 - computation}
