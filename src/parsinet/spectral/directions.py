"""Eigenvectors as directions: rows of φ of unit length in the Lp norm, so that |λ_i| alone says how much node i takes in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from parsinet.errors import UsageError
from parsinet.switches import replaced

HIGH = 4.0
"""Orders above it are taken of entries divided by the largest of their row, whose powers would leave the range of float32."""
OPERATOR = True
"""Whether an exported graph holds one operator of ours for unit rows."""


class UnitBlock(nn.Module):
    """φ_i = scale_i·θ_i/‖θ_i‖_p over the senders and taps of every receiver i, θ trained.

    phi: θ [d0, d1, *taps]. scale: 1, a buffer with one entry per receiver: where senders leave, the removal engine sets it to what is
    left of the row's length, ‖θ_i kept‖/‖θ_i‖, so that the rest of the weight stays as it is. dim: the dimension that counts receivers.
    Source: our choice; with p = 2 the reparametrisation of Salimans and Kingma, arXiv 1602.07868.
    """

    scale: Tensor

    def __init__(self, phi: Tensor, p: float, dim: int) -> None:
        super().__init__()
        self.phi = nn.Parameter(phi)
        self.register_buffer("scale", phi.new_ones([size if d == dim else 1 for d, size in enumerate(phi.shape)]))
        self.p, self.dim = p, dim

    def forward(self) -> Tensor:
        """φ [d0, d1, *taps]."""
        return unit_rows(self.phi, self.scale, self.p, self.dim)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"


def unit_rows(phi: Tensor, scale: Tensor, p: float, dim: int) -> Tensor:
    """u = scale·φ/‖φ‖_p, the norm over all dimensions but `dim`.

    With g = ∂L/∂u and ψ(v) = sign(v)|v|^(p−1):  ∂L/∂φ = (scale/‖φ‖_p)·(g − ⟨g, v⟩ ψ(v)),  v = φ/‖φ‖_p: no step along φ itself.
    phi: [d0, d1, *taps]; scale: [d0, 1, …] (1 but along `dim`). A row of zeros stays zero.
    """
    if torch.compiler.is_exporting() and OPERATOR:
        exported: Tensor = torch.ops.parsinet.unit_rows(phi, scale, p, dim)
        return exported
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return _unit_rows(phi, scale, p, dim)
    result: Tensor = _UnitRows.apply(phi, scale, p, dim)  # type: ignore[no-untyped-call]
    return result


@contextmanager
def in_parts() -> Iterator[None]:
    """Within, an exported graph holds what unit rows are computed by: it leaves for places that have no operator of ours."""
    with replaced(globals(), {"OPERATOR": False}):
        yield


def lengths(phi: Tensor, p: float, dim: int) -> Tensor:
    """‖φ‖_p over all dimensions but `dim`, kept as 1; in float32 for 16-bit numbers, and never quite zero."""
    wide = torch.promote_types(phi.dtype, torch.float32)
    over = [d for d in range(phi.dim()) if d != dim]
    tiny = torch.finfo(wide).tiny
    if p > HIGH and phi.numel():
        largest = phi.abs().amax(over, keepdim=True).to(wide).clamp_min(tiny)
        norms: Tensor = torch.linalg.vector_norm(phi / largest, p, over, keepdim=True, dtype=wide) * largest
    else:
        norms = torch.linalg.vector_norm(phi, p, over, keepdim=True, dtype=wide)
    return norms.clamp_min(tiny)


def directions(phi: Tensor, gap: Tensor, p: float, dim: int) -> tuple[Tensor, Tensor]:
    """(θ, λ) with −λ_i·θ_i = gap_i·φ_i, ‖θ_i‖_p = 1 and λ_i ≥ 0. gap: λ_in − λ_out,i, [] or one per receiver.

    A row whose weights are all zero gets λ_i = 0 and the direction of φ_i, or the one with equal entries where φ_i is zero too.
    """
    shape = [-1 if d == dim else 1 for d in range(phi.dim())]
    gaps = gap.expand(phi.shape[dim]).reshape(shape)
    length = lengths(phi, p, dim)
    even = (phi[:1] if dim else phi[:, :1]).numel()
    some = (phi.abs().amax([d for d in range(phi.dim()) if d != dim], keepdim=True) > 0) if even else torch.zeros_like(length).bool()
    unit = torch.where(some, phi / length, max(even, 1) ** (-1.0 / p))
    theta = torch.where(gaps > 0, -unit, unit).to(phi.dtype)
    return theta, (gaps.abs() * length * some).flatten()


def check_order(p: float | None) -> float:
    """The order of the norm, 2 where none is given; UsageError outside of 1 < p < ∞, where the sphere has corners."""
    if p is None:
        return 2.0
    if not isinstance(p, (int, float)) or not 1 < p < float("inf"):
        raise UsageError(f"spectralize: p must be > 1 and finite (the sphere has corners at 1 and at infinity), got {p!r}.")
    return float(p)


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(phi: Tensor, scale: Tensor, p: float, dim: int) -> Tensor:
        return _unit_rows(phi, scale, p, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        phi, scale, ctx.p, ctx.dim = inputs
        ctx.save_for_backward(phi, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        phi, scale = ctx.saved_tensors
        length = lengths(phi, ctx.p, ctx.dim)
        v = phi / length
        over = [d for d in range(phi.dim()) if d != ctx.dim]
        along = (g * v).sum(over, keepdim=True)
        slope = v if ctx.p == 2 else v.abs().pow_(ctx.p - 1).copysign_(v)
        return (torch.addcmul(g, slope, along, value=-1) * (scale / length)).to(phi.dtype), None, None, None


def _unit_rows(phi: Tensor, scale: Tensor, p: float, dim: int) -> Tensor:
    return (phi * (scale / lengths(phi, p, dim))).to(phi.dtype)


_LIBRARY = torch.library.Library("parsinet", "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define("unit_rows(Tensor phi, Tensor scale, float p, int dim) -> Tensor")  # type: ignore[no-untyped-call]
_LIBRARY.impl("unit_rows", _unit_rows, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
"""One operator for whoever reads the exported graph: the removal engine has a rule for it."""
