"""Gates of whole residual branches: which, what they pay, and where they sit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.errors import RunError, UsageError
from parsinet.methods.base import Budget
from parsinet.methods.options import check_list, check_number, check_one_way
from parsinet.methods.placing import Handle, Multiplier
from parsinet.methods.pricing import Rows, UnitPrices
from parsinet.structure import Structure

FACTOR = 1.0
SLOWER = 2
"""How much longer than a unit's θ a block's takes to fall: the units within get to show what they are worth before it is decided."""


@dataclass(frozen=True)
class BlockOptions:
    """blocks: all that can leave (True), those named, or none (False). price: one for every block; factor: β. See `Gates`."""

    blocks: bool | Sequence[str] = False
    price: float | None = None
    factor: float | None = None

    def __post_init__(self) -> None:
        """UsageError for values out of range and for prices without blocks."""
        check_list("Gates", "blocks", self.blocks, "True or a list of names")
        if not isinstance(self.blocks, bool | Sequence):
            raise UsageError(f"Gates: blocks must be True, False or a list of names, got {self.blocks!r}.")
        for name, value in (("block_price", self.price), ("block_factor", self.factor)):
            check_number("Gates", name, value, above=0, below=math.inf)
            if value is not None and not self.blocks:
                raise UsageError(f"Gates: {name} is what blocks pay; give it with blocks=True.")
        check_one_way("Gates", block_price=self.price, block_factor=self.factor)

    @property
    def beta(self) -> float:
        """By how much a block pays more than what leaves with it."""
        return FACTOR if self.factor is None else self.factor

    def chosen(self, structure: Structure) -> list[str]:
        """Names of the blocks to gate. UsageError if there is none, or one of them cannot leave; StructureError for an unknown name."""
        if not self.blocks:
            return []
        if self.blocks is True:
            found = [block.name for block in structure.blocks if block.removable]
            if not found:
                told = "; ".join(f"{block.name}: {block.reason}" for block in structure.blocks) or "it has none at all"
                raise UsageError(f"Gates: this network has no residual branch that can leave whole ({told}).")
            return found
        for name in self.blocks:
            if structure.group(name).kind != "block":
                raise UsageError(f"Gates: {name!r} is a group of units, no block; name it in groups.")
            if not structure.group(name).removable:
                raise UsageError(f"Gates: block {name!r} cannot be gated: {structure.group(name).reason}.")
        return list(self.blocks)

    def terms(self, structure: Structure, chosen: Sequence[str]) -> BlockTerms | None:
        """For the prices; None without blocks."""
        if not chosen:
            return None
        plans = {block: structure.plan({block: torch.zeros(1, dtype=torch.bool)}) for block in chosen}
        inside = {block: tuple(name for name in plan.alive if name != block) for block, plan in plans.items()}
        return BlockTerms(inside, {block: tuple(plan.absent) for block, plan in plans.items()}, self.beta, self.price)


@dataclass(frozen=True)
class BlockTerms:
    """What prices need to know of gated blocks. inside: block → the groups and blocks that leave with it; modules: block → the modules;
    beta: factor of a block's price, price: the price itself where it is fixed."""

    inside: Mapping[str, tuple[str, ...]]
    modules: Mapping[str, tuple[str, ...]]
    beta: float
    price: float | None

    def factors(self) -> dict[str, float]:
        """β per block."""
        return dict.fromkeys(self.inside, self.beta)


@dataclass(frozen=True, eq=False)
class _Hook:
    """Multiplies what a branch adds by its gate. An object, not a function, so that a deep copy of the model has gates of its own."""

    bank: Multiplier
    block: str
    element: int | None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self.element is None and isinstance(output, Tensor):
            return self._gated(output)
        if isinstance(output, tuple) and self.element is not None:
            return tuple(self._gated(part) if k == self.element else part for k, part in enumerate(output))
        raise RunError(f"The gate of {self.block} cannot find what {type(module).__name__} adds: it returned a {type(output).__name__}.")

    def _gated(self, f: Tensor) -> Tensor:
        return self.bank.multiply(f.unsqueeze(1), self.block, 1, None).squeeze(1)


def place_blocks(bank: Multiplier, model: nn.Module, structure: Structure, blocks: Sequence[str]) -> Iterator[Handle]:
    """Put one gate behind the module that makes each branch; yields the hooks' handles."""
    for block in blocks:
        branch = structure.branch(block)
        yield model.get_submodule(branch.module).register_forward_hook(_Hook(bank, block, branch.element))


class Sheltered(UnitPrices):
    """One price for all units, paid only as long as the blocks around them are there: the price of Σ_i ρ θ_i Π_{b∋i} θ_b.

    A unit pays ρ Π_{b∋i} θ_b, since what it is worth shrinks with its block's θ as well: at a fixed price all units of a closing block
    would close before it. A block pays β times that sum's derivative in θ_b, β ρ Σ_{i∈b} θ_i (at least ρ, for a branch without units
    of its own), or `fixed`. Source: ours; the abstract of arXiv 2406.04549 states no price.
    """

    def __init__(self, price: float, blocks: Mapping[str, Sequence[str]], *, factor: float = FACTOR, fixed: float | None = None) -> None:
        super().__init__()
        self._price, self._factor, self._fixed = price, factor, fixed
        self._inside = {block: tuple(names) for block, names in blocks.items()}

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, rows: Rows, last: int, fall_steps: int) -> None:
        """The prices at the start."""
        self.refresh(0, rows)

    def refresh(self, step: int, rows: Rows) -> None:
        """The prices for θ as it is now."""
        thetas = {name: theta for name, theta, _ in rows}
        self._set({name: self._of(name, thetas) for name in thetas})

    def describe(self) -> dict[str, Any]:
        """The price of a unit outside all blocks, and the present prices of the blocks."""
        blocks = {name: float(self.of(name)) for name in self.prices if name in self._inside}
        return {"price": self._price * self.part, "block_prices": blocks}

    def _of(self, name: str, thetas: Mapping[str, Tensor]) -> Tensor:
        if name not in self._inside:
            return torch.full_like(thetas[name], self._price) * self._around(name, thetas)
        if self._fixed is not None:
            return torch.full_like(thetas[name], self._fixed)
        units = [inner for inner in self._inside[name] if inner in thetas and inner not in self._inside]
        paid = [thetas[inner].sum() * self._around(inner, thetas, but=name) for inner in units]
        least = self._around(name, thetas)
        return self._price * self._factor * torch.stack([*paid, least * 0]).sum().maximum(least).reshape(1)

    def _around(self, name: str, thetas: Mapping[str, Tensor], but: str = "") -> Tensor:
        """Π_{b∋name} θ_b, a scalar."""
        blocks = [thetas[block] for block, names in self._inside.items() if name in names and block in thetas and block != but]
        return torch.cat([*blocks, torch.ones_like(thetas[name][:1])]).prod()
