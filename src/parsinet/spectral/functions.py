"""The composed weight and the linear map it makes, with backward passes that reduce to the eigenvalues as they go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from parsinet.spectral.pairs import Pairs

BLOCK = 1 << 19
"""Entries of the weight worked on at a time: 2 MB in float32, so that a block and its gradient stay in the processor's cache."""

_LINEAR = Pairs()


def composed(lambda_in: Tensor, lambda_out: Tensor, phi: Tensor, pairs: Pairs) -> Tensor:
    """w_ij = (λ_in,j − λ_out,i)·φ_ij by plain operators, in φ's dtype.

    The difference is formed in the eigenvalues' precision and cast last: a common offset of both sets must cancel exactly.
    lambda_in: [n_in] or []; lambda_out: [n_out] or []; phi: [d0, d1, *taps], all taps of a pair share its factor.
    Source: Giambagli et al., arXiv 2005.14436; Chicchi et al., arXiv 2106.09021.
    """
    return pairs.times(phi, pairs.factor(lambda_in, lambda_out))


def compose(lambda_in: Tensor, lambda_out: Tensor, phi: Tensor, pairs: Pairs = _LINEAR) -> Tensor:
    """`composed`, bitwise, with one pass over φ∘G for the gradients of both sets; plain operators under torch.compile and export.

    ∂L/∂λ_in,j = Σ_i φ_ij G_ij,  ∂L/∂λ_out,i = −Σ_j φ_ij G_ij,  ∂L/∂φ_ij = (λ_in,j − λ_out,i) G_ij with G = ∂L/∂W.
    """
    if torch.compiler.is_compiling():
        return composed(lambda_in, lambda_out, phi, pairs)
    result: Tensor = _Compose.apply(lambda_in, lambda_out, phi, pairs)  # type: ignore[no-untyped-call]
    return result


def blocked_linear(x: Tensor, lambda_in: Tensor, lambda_out: Tensor, phi: Tensor, bias: Tensor | None) -> Tensor:
    """y = x Wᵀ + b with w_ij = (λ_in,j − λ_out,i)·φ_ij, and no tensor of the weight's size besides φ (and its gradient, if it trains).

    Rows of W are composed a block at a time, multiplied and forgotten; the backward pass composes them again, and forms G = gᵀx a block
    at a time for the reductions of `compose`. Three products of the dense size, as a dense layer has.

    x: [..., n_in]; lambda_in: [n_in]; lambda_out: [n_out]; phi: [n_out, n_in]; bias: [n_out] or None; one dtype.
    Returns [..., n_out].
    """
    y: Tensor = _BlockedLinear.apply(x.reshape(-1, x.shape[-1]), lambda_in, lambda_out, phi, bias)  # type: ignore[no-untyped-call]
    return y.reshape(*x.shape[:-1], len(phi))


class _Compose(torch.autograd.Function):
    @staticmethod
    def forward(lambda_in: Tensor, lambda_out: Tensor, phi: Tensor, pairs: Pairs) -> Tensor:
        return composed(lambda_in, lambda_out, phi, pairs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.pairs = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        lambda_in, lambda_out, phi = ctx.saved_tensors
        d_in = d_out = d_phi = None
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            product = phi * G.to(lambda_out.dtype)
            d_in, d_out = ctx.pairs.gradients(product.flatten(2).sum(2) if phi.dim() > 2 else product)
        if ctx.needs_input_grad[2]:
            d_phi = ctx.pairs.times(G.to(phi.dtype), ctx.pairs.factor(lambda_in, lambda_out))
        return d_in if ctx.needs_input_grad[0] else None, d_out if ctx.needs_input_grad[1] else None, d_phi, None


class _BlockedLinear(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, lambda_in: Tensor, lambda_out: Tensor, phi: Tensor, bias: Tensor | None) -> Tensor:
        y = x.new_empty(len(x), len(phi))
        for rows, factor in _blocks(lambda_in, lambda_out, phi):
            torch.mm(x, factor.mul_(phi[rows]).t(), out=y[:, rows])
        return y if bias is None else y.add_(bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:4])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, lambda_in, lambda_out, phi = ctx.saved_tensors
        needs_x, needs_in, needs_out, needs_phi, needs_bias = ctx.needs_input_grad
        d_x = torch.zeros_like(x) if needs_x else None
        d_phi = torch.empty_like(phi) if needs_phi else None
        d_in, d_out = torch.zeros_like(lambda_in), torch.empty_like(lambda_out)
        room = torch.empty_like(phi[: _height(phi)])
        for rows, factor in _blocks(lambda_in, lambda_out, phi):
            own = g[:, rows]
            if needs_in or needs_out or needs_phi:
                G = torch.mm(own.t(), x, out=room[: len(factor)] if d_phi is None else d_phi[rows])
                if d_phi is not None:
                    product = G * phi[rows]
                    d_phi[rows] *= factor
                else:
                    product = G.mul_(phi[rows])
                torch.sum(product, 1, out=d_out[rows])
                d_in += product.sum(0)
            if d_x is not None:
                d_x.addmm_(own, factor.mul_(phi[rows]))
        return d_x, d_in if needs_in else None, d_out.neg_() if needs_out else None, d_phi, g.sum(0) if needs_bias else None


def _height(phi: Tensor) -> int:
    """Rows of a block."""
    return min(len(phi), max(16, BLOCK // max(phi.shape[1], 1)))


def _blocks(lambda_in: Tensor, lambda_out: Tensor, phi: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of a block and its factors λ_in,j − λ_out,i, in memory the next block takes over: multiply by φ in place."""
    height = _height(phi)
    room = phi.new_empty(height, phi.shape[1])
    for start in range(0, len(phi), height):
        rows = slice(start, min(start + height, len(phi)))
        yield rows, torch.sub(lambda_in, lambda_out[rows, None], out=room[: rows.stop - start])
