"""The eigenvector block φ of a map: whole, or decomposed; a Parameter trains, a buffer is frozen."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FrozenBlock(nn.Module):
    """φ as it is, frozen."""

    phi: Tensor

    def __init__(self, phi: Tensor) -> None:
        super().__init__()
        self.register_buffer("phi", phi)

    def forward(self) -> Tensor:
        """φ [d0, d1, *taps]."""
        return self.phi


class NarrowBlock(nn.Module):
    """φ frozen in 16 bits; whoever composes with it sees the precision of `like`, which follows the model's."""

    phi: Tensor
    like: Tensor

    def __init__(self, phi: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("phi", phi.to(dtype))
        self.register_buffer("like", phi.new_empty(0), persistent=False)

    def forward(self) -> Tensor:
        """φ [d0, d1, *taps], widened."""
        return self.phi.to(self.like.dtype)


class TrainedBlock(nn.Module):
    """φ as it is, trained."""

    def __init__(self, phi: Tensor) -> None:
        super().__init__()
        self.phi = phi if isinstance(phi, nn.Parameter) else nn.Parameter(phi)

    def forward(self) -> Tensor:
        """φ [d0, d1, *taps]."""
        return self.phi


class SVDBlock(nn.Module):
    """φ = U diag(s) V with U and V frozen and s trained.

    U: [d0, k]; s: [k]; V: [k, d1, *taps]. Source: Chicchi et al., arXiv 2106.09021; its public code draws U and V, which are then not
    orthonormal.
    """

    U: Tensor
    V: Tensor

    def __init__(self, U: Tensor, s: Tensor, V: Tensor) -> None:
        super().__init__()
        self.register_buffer("U", U)
        self.s = nn.Parameter(s)
        self.register_buffer("V", V)

    def forward(self) -> Tensor:
        """φ [d0, d1, *taps]."""
        return _times(self.U * self.s, self.V)


class QRBlock(nn.Module):
    """φ = R Q with Q frozen, its rows orthonormal over senders and taps, and all of R trained.

    R: [d0, k]; Q: [k, d1, *taps]. Source: the public code of Chicchi et al., arXiv 2106.09021, which trains R without a triangular mask.
    """

    Q: Tensor

    def __init__(self, R: Tensor, Q: Tensor) -> None:
        super().__init__()
        self.R = nn.Parameter(R)
        self.register_buffer("Q", Q)

    def forward(self) -> Tensor:
        """φ [d0, d1, *taps]."""
        return _times(self.R, self.Q)


class TriangularBlock(QRBlock):
    """φ = (R∘free) Q: entries of R above the diagonal are zero and stay zero.

    free: bool [d0, k], a buffer rather than a position rule, so that rows may leave. Trained entries: k(k+1)/2, and (d0 − k)·k more where
    d0 > k. Source: the parameter count printed in Chicchi et al., arXiv 2106.09021.
    """

    free: Tensor

    def __init__(self, R: Tensor, Q: Tensor) -> None:
        super().__init__(R.tril(), Q)
        self.register_buffer("free", torch.ones_like(R, dtype=torch.bool).tril())

    def forward(self) -> Tensor:
        """φ [d0, d1, *taps]."""
        return _times(self.R * self.free, self.Q)


def as_kept(basis: nn.Module) -> Tensor:
    """φ in the precision it is kept in, for those who widen it piece by piece."""
    phi: Tensor = basis.phi if isinstance(basis, NarrowBlock) else basis()
    return phi


def true_factors(base: Tensor) -> SVDBlock:
    """The singular value decomposition of `base` [d0, d1, *taps], taps counted to the columns; φ equals base to rounding."""
    U, s, V = torch.linalg.svd(_matrix(base), full_matrices=False)
    return SVDBlock(U.to(base.dtype).contiguous(), s.to(base.dtype), _rows(V, base))


def full_factors(base: Tensor) -> QRBlock:
    """base = R Q from the reduced decomposition of baseᵀ, all of R trained."""
    return QRBlock(*_qr(base))


def triangular_factors(base: Tensor) -> TriangularBlock:
    """base = R Q with R lower triangular (its surplus rows full where d0 > k)."""
    return TriangularBlock(*_qr(base))


def _qr(base: Tensor) -> tuple[Tensor, Tensor]:
    q, r = torch.linalg.qr(_matrix(base).t())
    return r.t().to(base.dtype).contiguous(), _rows(q.t(), base)


def _matrix(base: Tensor) -> Tensor:
    """base [d0, d1·taps], in at least float32: decompositions know no 16-bit numbers."""
    matrix = base.detach().flatten(1)
    return matrix if matrix.dtype in (torch.float32, torch.float64) else matrix.float()


def _rows(matrix: Tensor, base: Tensor) -> Tensor:
    return matrix.to(base.dtype).reshape(-1, *base.shape[1:]).contiguous()


def _times(left: Tensor, right: Tensor) -> Tensor:
    """left [d0, k] times right [k, d1, *taps]."""
    if right.dim() == 2:
        return left @ right
    return (left @ right.flatten(1)).reshape(-1, *right.shape[1:])
