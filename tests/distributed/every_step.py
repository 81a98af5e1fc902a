"""Runs of two processes that are saved after every step, and resumed by two from each of these checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import distributed as dist

from distributed import pair
from methods.runs import same
from parsinet.training import load_checkpoint, session
from parsinet.training.checkpoint import Loaded, checkpoints
from training.test_every_step import cut_back, ending, forget_position, recipe, run

METHODS = ("gates", "spectral", "sphere")


def from_every_step(name: str, rank: int) -> dict[str, Any]:
    """How many removals the whole run has, how many checkpoints, and from which of them the run ends differently."""
    whole, different = Path(f"{name}-whole"), []
    run(whole, recipe(name))
    dist.barrier()
    end, saved = ending(whole), checkpoints(whole / "checkpoint")
    for k, path in enumerate(saved):
        parts = Path(f"{name}-from-{k}")
        if rank == 0:
            cut_back(whole, parts, path)
        run(parts, None, resume=True)
        dist.barrier()
        if not same(ending(parts), end):
            different.append(path.name)
    return {"removals": sum(event["event"] == "removal" for event in end["record"]), "saved": len(saved), "different": different}


def forgetful(rank: int) -> bool:
    """Whether the comparison sees a run that goes on at the wrong batch."""
    whole, parts = Path("gates-whole"), Path("forgetful")
    if rank == 0:
        cut_back(whole, parts, checkpoints(whole / "checkpoint")[7])

    def faulty(*arguments: Any) -> Loaded:
        loaded = load_checkpoint(*arguments)
        forget_position(loaded.state)
        return loaded

    session.load_checkpoint = faulty  # type: ignore[attr-defined]
    run(parts, None, resume=True)
    dist.barrier()
    return not same(ending(parts), ending(whole))


SCENARIOS = {name: lambda rank, name=name: from_every_step(name, rank) for name in METHODS}

if __name__ == "__main__":
    pair.main({**SCENARIOS, "forgetful": forgetful}, seconds=1200)
