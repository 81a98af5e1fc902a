"""Linear and convolutional layers whose weight is composed from eigenvalues and eigenvectors: one class per kind, in one table."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from parsinet.spectral.bases import as_kept
from parsinet.spectral.functions import BLOCK, blocked_linear, compose
from parsinet.spectral.masks import Mask
from parsinet.spectral.pairs import pairs_of


class Spectrum(nn.Module):
    """Eigenvalues and eigenvectors of a map: λ_in of its senders, λ_out of its receivers, φ between them.

    A set that trains is a Parameter [n]; a set held at one value is a buffer with no dimension. `basis()` returns φ in the layout of the
    layer's weight. mask: which entries of the composed weight are kept, in sparse training. frozen_weight: the weight was not trained
    before, and will not be once the layer is plain again.
    """

    lambda_in: Tensor
    lambda_out: Tensor
    mask: Mask | None
    frozen_weight: bool

    def __init__(self, lambda_in: Tensor, lambda_out: Tensor, basis: nn.Module, *, frozen_weight: bool) -> None:
        super().__init__()
        for name, values in (("lambda_in", lambda_in), ("lambda_out", lambda_out)):
            if values.dim():
                self.register_parameter(name, nn.Parameter(values))
            else:
                self.register_buffer(name, values)
        self.basis = basis
        self.register_module("mask", None)
        self.frozen_weight = frozen_weight

    def extra_repr(self) -> str:
        sets = ((name, getattr(self, name)) for name in ("lambda_in", "lambda_out"))
        return ", ".join(f"{name}={'trained' if values.dim() else f'{float(values):g}'}" for name, values in sets)


class SpectralLayer(nn.Module):
    """What all spectral layers share: w_ij = (λ_in,j − λ_out,i)·φ_ij, composed whenever it is asked for; the bias is never scaled."""

    spectrum: Spectrum

    @property
    def weight(self) -> Tensor:
        """The composed weight, masked in sparse training; a result and no Parameter: what is written into it is lost."""
        mask = self.spectrum.mask
        whole = self.unmasked_weight()
        if mask is None:
            return whole
        masked: Tensor = mask(whole)
        return masked

    def unmasked_weight(self) -> Tensor:
        """The composed weight with all its entries."""
        own = self.spectrum
        return compose(own.lambda_in, own.lambda_out, own.basis(), pairs_of(self))

    def _gates(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None] | None:
        """(φ, scale of the input, scale of the output) where one set trains and φ does not: no gradient of the weight is needed.

        None where the weight must be composed: both sets train, φ trains, the weight is masked, the graph is exported, nothing is
        differentiated (then the plain product gives bitwise what the folded layer gives).
        """
        own = self.spectrum
        if not torch.is_grad_enabled() or torch.compiler.is_exporting() or own.mask is not None:
            return None
        if own.lambda_in.dim() == own.lambda_out.dim() or any(parameter.requires_grad for parameter in own.basis.parameters()):
            return None
        phi: Tensor = own.basis()
        gate = own.lambda_in - own.lambda_out
        return (phi, gate.to(x.dtype), None) if own.lambda_in.dim() else (phi, None, gate)


class SpectralLinear(SpectralLayer, nn.Linear):  # type: ignore[override]
    """A Linear layer in spectral form."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., n_in] to [..., n_out]: gated where one set trains, by blocks where the weight outgrows the cache, else composed."""
        gates = self._gates(input)
        if gates is not None:
            phi, into, out = gates
            if into is not None:
                return functional.linear(input * into, phi, self.bias)
            assert out is not None
            return _shifted(_scaled(functional.linear(input, phi), out), self.bias)
        if self._by_blocks(input):
            own = self.spectrum
            return blocked_linear(input, own.lambda_in, own.lambda_out, as_kept(own.basis), self.bias)
        return functional.linear(input, self.weight, self.bias)

    def _by_blocks(self, x: Tensor) -> bool:
        own = self.spectrum
        if (
            not torch.is_grad_enabled()
            or own.mask is not None
            or torch.compiler.is_compiling()
            or torch.is_autocast_enabled(x.device.type)
            or x.device.type != "cpu"
        ):
            return False
        full = x.dtype == own.lambda_in.dtype == own.lambda_out.dtype
        return full and own.lambda_in.dim() == own.lambda_out.dim() == 1 and self.in_features * self.out_features > BLOCK


class _SpectralConv(SpectralLayer):
    """A convolution over 1, 2 or 3 axes in spectral form."""

    bias: Tensor | None

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, …] to [B, C', …]; the eigenvalues stand on the channel axis."""
        gates = self._gates(input)
        if gates is None:
            return self._conv_forward(input, self.weight, self.bias)  # type: ignore[no-any-return, operator]
        phi, into, out = gates
        if into is not None:
            return self._conv_forward(_on_channels(into, phi) * input, phi, self.bias)  # type: ignore[no-any-return, operator]
        assert out is not None
        y: Tensor = self._conv_forward(input, phi, None)  # type: ignore[operator]
        return _shifted(_scaled(y, _on_channels(out, phi)), None if self.bias is None else _on_channels(self.bias, phi))


class SpectralConv1d(_SpectralConv, nn.Conv1d):  # type: ignore[override]
    """A Conv1d layer in spectral form."""


class SpectralConv2d(_SpectralConv, nn.Conv2d):  # type: ignore[override]
    """A Conv2d layer in spectral form."""


class SpectralConv3d(_SpectralConv, nn.Conv3d):  # type: ignore[override]
    """A Conv3d layer in spectral form."""


class SpectralConvTranspose1d(SpectralLayer, nn.ConvTranspose1d):  # type: ignore[override]
    """A ConvTranspose1d layer in spectral form."""


class SpectralConvTranspose2d(SpectralLayer, nn.ConvTranspose2d):  # type: ignore[override]
    """A ConvTranspose2d layer in spectral form."""


class SpectralConvTranspose3d(SpectralLayer, nn.ConvTranspose3d):  # type: ignore[override]
    """A ConvTranspose3d layer in spectral form."""


LAYERS: dict[type[nn.Module], type[SpectralLayer]] = {
    nn.Linear: SpectralLinear,
    nn.Conv1d: SpectralConv1d,
    nn.Conv2d: SpectralConv2d,
    nn.Conv3d: SpectralConv3d,
    nn.ConvTranspose1d: SpectralConvTranspose1d,
    nn.ConvTranspose2d: SpectralConvTranspose2d,
    nn.ConvTranspose3d: SpectralConvTranspose3d,
}
"""Plain kind → spectral kind. A layer changes its class and keeps its identity, hooks and attributes."""

PLAIN: dict[type[nn.Module], type[nn.Module]] = {spectral: plain for plain, spectral in LAYERS.items()}


def spectral_layers(model: nn.Module) -> dict[str, SpectralLayer]:
    """The spectral layers of a model by name, each once."""
    return {name: module for name, module in model.named_modules() if isinstance(module, SpectralLayer)}


def _on_channels(values: Tensor, phi: Tensor) -> Tensor:
    """[C] shaped [C, 1, …], one 1 per axis of the kernel."""
    return values.reshape(-1, *[1] * (phi.dim() - 2))


def _scaled(y: Tensor, gate: Tensor) -> Tensor:
    return y * gate.to(y.dtype)


def _shifted(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias.to(y.dtype)
