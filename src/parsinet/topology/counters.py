"""What a run of masks has explored: how many weights left, came, came back, and how many were ever active."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from parsinet.topology.selection import count


class Counters:
    """Sums over all updates of a set of masks.

    dropped, grown: entries that became hidden or active. returned: those grown that had been active before. explored: per tensor, whether
    an entry was ever active; their share is the in-time over-parameterisation rate of S. Liu et al. 2021, arXiv 2102.02887.
    """

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        self.updates = self.dropped = self.grown = self.returned = 0
        self.explored = {name: mask.clone() for name, mask in masks.items()}

    def add(self, name: str, dropped: Tensor, grown: Tensor) -> None:
        """Count one tensor's changes of one update."""
        self.dropped += count(dropped)
        self.grown += count(grown)
        self.returned += count(grown & self.explored[name])
        self.explored[name] |= grown

    def describe(self) -> dict[str, Any]:
        """JSON-able. returned_share: of all entries dropped; explored: of all present entries."""
        size = sum(mask.numel() for mask in self.explored.values())
        seen = sum(count(mask) for mask in self.explored.values())
        return {
            "updates": self.updates,
            "dropped": self.dropped,
            "grown": self.grown,
            "returned": self.returned,
            "returned_share": self.returned / self.dropped if self.dropped else 0.0,
            "explored": seen / size,
        }

    def state_dict(self) -> dict[str, Any]:
        """All sums and what was explored."""
        counts = {"updates": self.updates, "dropped": self.dropped, "grown": self.grown, "returned": self.returned}
        return {**counts, "explored": {name: mask.clone() for name, mask in self.explored.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the sums."""
        self.updates, self.dropped, self.grown, self.returned = (int(state[key]) for key in ("updates", "dropped", "grown", "returned"))
        for name, mask in self.explored.items():
            self.explored[name] = state["explored"][name].to(mask.device, copy=True)
