"""Random numbers of their own for the ranks beside the first, such as those of dropout, without a state that would have to be saved."""

import random

import numpy as np
import torch

from parsinet.distributed import mixed
from parsinet.training.state import Callback, LoopState


class OwnNumbers(Callback):
    """Seeds the global generators of this process before every step from (seed, rank, step); not for rank 0, whose states are saved."""

    def __init__(self, seed: int, rank: int) -> None:
        self.seed, self.rank = seed, rank

    def on_start(self, state: LoopState) -> None:
        """Before the first step."""
        self._draw_anew(state.step)

    def on_step(self, state: LoopState) -> None:
        """Before the next one."""
        self._draw_anew(state.step)

    def _draw_anew(self, step: int) -> None:
        word = mixed(self.seed, self.rank, step)
        random.seed(word)
        np.random.seed(word % 2**32)
        torch.manual_seed(word)
