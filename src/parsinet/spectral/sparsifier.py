"""When masks are decided: a hook on the model that brings them up to date before a forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from parsinet.spectral.layers import SpectralLayer
from parsinet.spectral.masks import Mask, cut_off


class Sparsifier:
    """Brings the masks of some layers up to date before a forward pass of the model they belong to: a hook on that model.

    dynamic: before every `every`-th training pass the smallest |W| are masked anew. With every=1 also before an evaluation if anything
    may have changed; with every > 1 evaluations use the mask as it is. threshold: the same with c fixed. fixed: nothing to do.
    """

    def __init__(self, layers: list[SpectralLayer], scope: str, mode: str, every: int) -> None:
        self.scope, self.mode, self.every = scope, mode, every
        self._layers = layers
        self._seen: tuple[object, ...] | None = None
        self._held = False

    @property
    def layers(self) -> list[tuple[SpectralLayer, Mask]]:
        """The layers that are still masked (others were folded since), each with its mask."""
        masked = [(layer, layer.spectrum.mask) for layer in self._layers if isinstance(layer, SpectralLayer)]
        return [(layer, mask) for layer, mask in masked if mask is not None]

    def __call__(self, model: nn.Module, inputs: Any) -> None:
        """Before a forward pass of `model`."""
        if not self._held and self.mode != "fixed" and not torch.compiler.is_exporting():
            before = self._before
            if torch.compiler.is_compiling():
                before = torch.compiler.disable(before)  # type: ignore[no-untyped-call]
            before(model.training and torch.is_grad_enabled())

    def _before(self, training: bool) -> None:
        masks = [mask for _, mask in self.layers]
        if training:
            due = bool(masks) and masks[0].forwards % self.every == 0
            for mask in masks:
                mask.forwards += 1
        else:
            due = self.every == 1 and (any(mask.loaded for mask in masks) or self._seen != self._versions())
        if due:
            self.refresh()
        self._seen = None if training else self._versions()

    def refresh(self) -> None:
        """Decide every mask from the weights as they are now."""
        with torch.inference_mode(False), torch.no_grad():
            magnitudes = self._magnitudes()
            fixed: list[Tensor | float] = [mask.threshold for _, mask in self.layers]
            cuts = fixed if self.mode == "threshold" else self._cuts(magnitudes)
            for (_, mask), values, cut in zip(self.layers, magnitudes, cuts, strict=True):
                mask.update(values > cut)

    def refresh_if_stale(self) -> None:
        """What an evaluation would see, for whoever reads weights outside of a pass."""
        if not self._held and self.mode != "fixed":
            self._before(False)

    def set_sparsity(self, sparsity: float) -> None:
        """Another share of masked entries, from the next update on; at once where nothing is updated by itself."""
        for _, mask in self.layers:
            mask.sparsity = sparsity
        self._seen = None
        if self.mode == "threshold":
            with torch.inference_mode(False), torch.no_grad():
                cuts = self._cuts(self._magnitudes())
            for (_, mask), cut in zip(self.layers, cuts, strict=True):
                mask.threshold = float(cut)
        if self.mode != "dynamic":
            self.refresh()

    def hold(self) -> None:
        """Leave the masks as they are from now on: on a copy that is only tried out."""
        self._held = True

    def _magnitudes(self) -> list[Tensor]:
        """|W| of every layer, without its mask."""
        return [layer.unmasked_weight().abs_() for layer, _ in self.layers]

    def _cuts(self, magnitudes: list[Tensor]) -> list[Tensor | float]:
        if self.scope == "global":
            return [cut_off(magnitudes, self.layers[0][1].sparsity)] * len(magnitudes) if magnitudes else []
        return [cut_off([values], mask.sparsity) for values, (_, mask) in zip(magnitudes, self.layers, strict=True)]

    def _versions(self) -> tuple[object, ...]:
        """What tells whether a tensor was written to since: its counter of writes and its memory.

        Fused optimizers leave the counter as it is, so of tensors that have a gradient the sum of their bits counts too.
        """
        parts = [part for layer, _ in self.layers for part in (layer.spectrum, layer.spectrum.basis)]
        tensors = [tensor for part in parts for tensor in (*part.parameters(recurse=False), *part.buffers(recurse=False))]
        return tuple((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version, _bits(tensor)) for tensor in tensors)


def _bits(tensor: Tensor) -> int:
    """The sum of the entries read as integers, exact; 0 where no gradient waits to be applied."""
    if tensor.grad is None:
        return 0
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return int(tensor.detach().view(integer).sum())


def sparsifiers(model: nn.Module) -> list[Sparsifier]:
    """The hooks that keep the masks of `model`, each once."""
    hooks = (hook for module in model.modules() for hook in module._forward_pre_hooks.values())
    return list(dict.fromkeys(hook for hook in hooks if isinstance(hook, Sparsifier)))


def forget_masks(model: nn.Module) -> None:
    """Take the hooks off `model` whose layers are all folded."""
    for module in model.modules():
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, Sparsifier) and not hook.layers:
                del module._forward_pre_hooks[key]
