"""Random numbers of one's own on every rank, from a state all ranks share."""

from __future__ import annotations

import numpy as np
import torch

from parsinet.distributed.ranks import Ranks


def own(generator: torch.Generator, ranks: Ranks) -> torch.Generator:
    """The generator of this rank's next draw: `generator` itself where there is one process, else a stream derived from it and the rank.

    Every rank takes one number from the shared generator, whose state therefore stays the same everywhere: the state that rank 0 saves
    is enough to resume all ranks bitwise.
    """
    if ranks.size == 1:
        return generator
    word = int(torch.randint(2**62, (), generator=generator))
    return torch.Generator().manual_seed(mixed(word, ranks.rank))


def mixed(*words: int) -> int:
    """One seed out of several numbers ≥ 0; neighbours are unrelated (numpy's SeedSequence)."""
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
