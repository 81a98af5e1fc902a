"""Network slimming: an L1 penalty on the scales of batch normalisation, then the units of smallest scales leave."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from parsinet.baselines.ranked import RankedOptions, RankedUnits
from parsinet.baselines.slices import Slices
from parsinet.methods import Budget
from parsinet.methods.amount import Share
from parsinet.methods.options import check_above_zero
from parsinet.structure import Structure


class Slimming(RankedUnits):
    """λ Σ |γ| over the scales of batch normalisation is added to the loss until `end`; units are ranked by |γ|.

    A unit that several norms scale (a residual stream) gets the root of the sum of squares. lam: λ. scope "global" is the published
    percentile over all layers, here of |γ| itself. begin, end, share, target: `RankedUnits`; fine-tuning follows `end`.
    Raises UsageError, when attached, for a network without batch normalisation on any group.
    Source: Z. Liu, J. Li, Z. Shen, G. Huang, S. Yan, C. Zhang 2017, arXiv 1708.06519 (λ = 1e-4 to 1e-5, share .4 to .7).
    """

    name = "slimming"

    def __init__(
        self,
        *,
        lam: float = 1e-4,
        share: Share | None = None,
        scope: str = "global",
        begin: float = 0.5,
        end: float = 0.5,
        **options: Unpack[RankedOptions],
    ) -> None:
        check_above_zero(self.name, lam=lam)
        self.lam = lam
        self._scaling: list[str] = []
        super().__init__(share=share, scope=scope, begin=begin, end=end, **options)

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Find the norms; choose the groups they scale."""
        tensors = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, _BatchNorm) and module.affine}
        self._scaling = [name for name in sorted(tensors) if structure.owners(name, 0)]
        super().attach(model, structure, budget, optimizers)

    def penalty(self) -> Tensor | float:
        """λ Σ |γ| over all norms of the chosen groups."""
        if self.settled:
            return 0.0
        tensors = self._tensors()
        names = dict.fromkeys(part.tensor for name in self._original for part in self._scales(self.structure, name))
        return self.lam * torch.stack([tensors[name].abs().sum() for name in names]).sum()

    def _against(self, structure: Structure, name: str) -> str:
        return "" if self._scales(structure, name) else "no batch normalisation scales its units"

    def _scales(self, structure: Structure, group: str) -> list[Slices]:
        owners = [(name, structure.owners(name, 0)) for name in self._scaling]
        return [Slices(name, 0, found[group]) for name, found in owners if group in found]

    def _scores(self) -> dict[str, Tensor]:
        return self._norms(partial(self._scales, self.structure))
