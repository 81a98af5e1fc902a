"""Small networks of every kind in the zoo, after real removals, with batch statistics and weights that are nowhere trivial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import parsinet as pn

IMAGE = (1, 8, 8)


@dataclass(frozen=True)
class Lean:
    """One network. shape, classes, options: as for `models.build`."""

    name: str
    shape: Sequence[int] = IMAGE
    classes: int = 5
    options: dict[str, Any] = field(default_factory=dict)

    def factory(self) -> nn.Module:
        """The original architecture."""
        return pn.models.build(self.name, self.shape, self.classes, **self.options)

    def inputs(self, batch: int = 9) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        if self.name == "char-gpt":
            return torch.randint(self.classes, (batch, *self.shape), generator=generator)
        return torch.randn(batch, *self.shape, generator=generator)

    def model(self) -> nn.Module:
        """About a third of the units of every group that can lose any are gone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.factory()
            with torch.no_grad():
                for name, tensor in (*model.named_parameters(), *model.named_buffers()):
                    if "norm" in name or ".bn" in f".{name}":
                        tensor.copy_(torch.rand(tensor.shape) + 0.5)
            found = pn.trace(model, self.inputs(2))
            alive = {group.name: torch.rand(group.size) > 0.35 for group in found.removable()}
            for mask in alive.values():
                mask[0] = True
            pn.shrink(model, found.plan(alive))
        return model.eval()


NETWORKS = {
    "mlp": Lean("mlp", (2, 7), options={"widths": (9, 8), "batch_norm": True}),
    "lenet-300-100": Lean("lenet-300-100"),
    "lenet-5-caffe": Lean("lenet-5-caffe", (1, 16, 18)),
    "vgg-small": Lean("vgg-small", options={"width": 4}),
    "resnet-20": Lean("resnet-20", (3, 8, 9)),
    "wrn-12": Lean("wrn-12", options={"dropout": 0.1}),
    "tiny-vit": Lean("tiny-vit", options={"patch": 4, "width": 16, "depth": 1}),
    "char-gpt": Lean("char-gpt", (6,), 11, {"width": 16, "depth": 1}),
    "lstm": Lean("lstm", (5, 3), options={"hidden": 6, "layers": 2}),
}
"""Every kind of layer the zoo has."""
FURTHER = {
    "resnet-56": Lean("resnet-56", (3, 8, 8)),
    "wrn-18": Lean("wrn-18"),
    "wrn-22": Lean("wrn-22"),
    "tiny-vit, mean": Lean("tiny-vit", (3, 6, 9), options={"patch": 3, "width": 12, "heads": 3, "hidden": 7, "pool": "mean"}),
    "lstm on images": Lean("lstm", options={"hidden": 6}),
}
"""The rest of the zoo, and other options."""
