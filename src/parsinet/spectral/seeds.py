"""A frozen φ that files know by the seed it is drawn from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from parsinet.errors import UsageError
from parsinet.spectral.initialisers import INITIALISERS, Place


@dataclass(frozen=True)
class Draw:
    """What determines a φ: the initialiser whose law it follows, its shape, the numbers of senders and receivers, and the seed."""

    initialiser: str
    shape: tuple[int, ...]
    nodes: tuple[int, int]
    seed: int

    def __call__(self) -> Tensor:
        """φ in float32 on the CPU, the same bits for the same seed."""
        generator = torch.Generator().manual_seed(self.seed)
        place = Place(self.shape, *self.nodes, dtype=torch.float32, device=torch.device("cpu"), generator=generator)
        phi = INITIALISERS[self.initialiser](place).phi
        assert isinstance(phi, Tensor)
        return phi


class SeededBlock(nn.Module):
    """φ drawn from a seed, frozen: a buffer in memory; in the state_dict two integers, the seed and a checksum of φ.

    After units have left, φ is the part that stayed, which the checksum identifies.
    """

    phi: Tensor

    def __init__(self, draw: Draw, like: Tensor) -> None:
        super().__init__()
        self.draw = draw
        self.register_buffer("phi", draw().to(like), persistent=False)

    def forward(self) -> Tensor:
        """φ [d0, d1, *taps]."""
        return self.phi

    def get_extra_state(self) -> Tensor:
        """Seed and checksum, int64 [2]."""
        return torch.tensor([self.draw.seed, _checksum(self.phi)])

    def set_extra_state(self, state: Tensor) -> None:
        """Takes φ over from the stored seed. Raises UsageError where this does not give the stored checksum."""
        seed, checksum = (int(value) for value in state)
        draw = replace(self.draw, seed=seed)
        whole = tuple(self.phi.shape) == self.draw.shape
        phi = draw().to(self.phi) if whole and seed != self.draw.seed else self.phi
        if _checksum(phi) != checksum:
            raise UsageError(
                f"load_state_dict: the state belongs to another φ than seed {seed} gives here. Where units have left, rebuild the network "
                "with pn.load, or remove the same units first; else it was drawn by another PyTorch or in another precision."
            )
        self.phi, self.draw = phi, draw

    def extra_repr(self) -> str:
        return f"{self.draw.initialiser}, seed={self.draw.seed}"


def _checksum(phi: Tensor) -> int:
    """63 bits of SHA-256 over shape and entries in float32."""
    plain = phi.detach().float().cpu().contiguous()
    content = hashlib.sha256(str(tuple(plain.shape)).encode())
    content.update(plain.numpy().data)
    return int.from_bytes(content.digest()[:8], "big") >> 1
