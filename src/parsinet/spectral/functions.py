"""The composed weight and the linear map it makes, with backward passes that reduce to the eigenvalues as they go."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from parsinet.spectral.pairs import Pairs

BLOCK = 1 << 19
"""Fewest entries of the weight multiplied at a time: 2 MB in float32."""
PER_EXAMPLE, MOST = 1 << 12, 1 << 21
"""A block grows with the batch, by so many entries per example, up to `MOST`: each product reads the whole batch anew."""
TILE = 1 << 18
"""Entries composed or reduced at a time by one thread: 1 MB in float32, so that the passes after the first find them in its cache."""

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

    x: [..., n_in]; lambda_in: [n_in]; lambda_out: [n_out]; phi: [n_out, n_in]; bias: [n_out] or None; one dtype, but a frozen φ may be
    kept in 16 bits.
    Returns [..., n_out].
    """
    y: Tensor = _BlockedLinear.apply(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), lambda_in, lambda_out, phi, bias)  # type: ignore[no-untyped-call]
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
        for rows, room in _blocks(x, phi):
            torch.mm(x, _compose_rows(lambda_in, lambda_out[rows], phi[rows], room).t(), out=y[:, rows])
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
        for rows, room in _blocks(x, phi):
            own = g[:, rows]
            if needs_in or needs_out or needs_phi:
                G = torch.mm(own.t(), x, out=room if d_phi is None else d_phi[rows])
                _reduce_rows(G, phi[rows], d_in, d_out[rows], keep=needs_phi)
                if d_phi is not None:
                    _scale_rows(G, lambda_in, lambda_out[rows])
            if d_x is not None:
                d_x.addmm_(own, _compose_rows(lambda_in, lambda_out[rows], phi[rows], room))
        return d_x, d_in if needs_in else None, d_out.neg_() if needs_out else None, d_phi, g.sum(0) if needs_bias else None


def _blocks(x: Tensor, phi: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of φ to multiply at a time, and memory for as many rows in x's precision, which the next block takes over."""
    entries = max(BLOCK, min(PER_EXAMPLE * len(x), MOST))
    height = _height(phi, entries)
    room = x.new_empty(height, phi.shape[1])
    for start in range(0, len(phi), height):
        rows = slice(start, min(start + height, len(phi)))
        yield rows, room[: rows.stop - start]


def _height(phi: Tensor, entries: int) -> int:
    """Rows that hold about `entries` entries per thread, at least 16."""
    return min(max(len(phi), 1), max(16, torch.get_num_threads() * entries // max(phi.shape[1], 1)))


def _tiles(phi: Tensor) -> Iterator[slice]:
    height = _height(phi, TILE)
    return (slice(start, min(start + height, len(phi))) for start in range(0, len(phi), height))


def _compose_rows(lambda_in: Tensor, lambda_out: Tensor, phi: Tensor, out: Tensor) -> Tensor:
    """(λ_in,j − λ_out,i)·φ_ij into `out`, tile by tile."""
    for tile in _tiles(phi):
        torch.sub(lambda_in, lambda_out[tile, None], out=out[tile]).mul_(phi[tile])
    return out


def _reduce_rows(G: Tensor, phi: Tensor, d_in: Tensor, d_out: Tensor, *, keep: bool) -> None:
    """Adds Σ_i φ_ij G_ij to d_in and sets d_out to Σ_j φ_ij G_ij, tile by tile; G is lost unless it is kept."""
    for tile in _tiles(phi):
        product = G[tile] * phi[tile] if keep else G[tile].mul_(phi[tile])
        torch.sum(product, 1, out=d_out[tile])
        d_in += product.sum(0)


def _scale_rows(G: Tensor, lambda_in: Tensor, lambda_out: Tensor) -> None:
    """G ∘ (λ_in,j − λ_out,i) in place."""
    for tile in _tiles(G):
        G[tile] *= lambda_in - lambda_out[tile, None]
