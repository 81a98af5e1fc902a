"""The networks of lenet.py, and what is done to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from protocol import HOLD, Recipe
from torch import Tensor, nn

from parsinet import baselines
from parsinet.data import Augmentation
from parsinet.methods import Gates, Method

Build = Callable[..., Method]
"""From strength, seed and whether pixels may leave; those with a price take a `target` too."""


@dataclass(frozen=True)
class Row:
    """A method under one strength, which is the share of units that leave, the number of parameters or multiply-adds to end with, or a
    price; then `first` is that of the first trial."""

    build: Build
    strength: Literal["price", "share", "size", "macs"]
    first: float = 1.0
    fold: Literal["constant", "mean"] | None = None


EARLY: dict[str, Any] = {"gated": 0.4, "fall_steps": 390, "pursuit": 0.0, "doubt": 0.0}
"""Picked from five schedules on held-out images, one seed, at 5,000 to 25,000 parameters: as good at 25,000, better at 5,000, less work.
Older than the default of `pursuit`, without which a target of multiply-adds is not come near in time."""
ROWS = {
    "Gates": Row(lambda s, seed, inputs: Gates(target=f"params={s:.0f}", inputs=inputs, seed=seed, **EARLY), "size"),
    "Gates, defaults": Row(lambda s, seed, inputs: Gates(target=f"params={s:.0f}", inputs=inputs, seed=seed), "size"),
    "Gates, longer": Row(lambda s, seed, inputs: Gates(target=f"params={s:.0f}", inputs=inputs, seed=seed, gated=0.6), "size"),
    "Gates, MACs too": Row(
        lambda s, seed, inputs: Gates(target=f"params={s:.0f}", computation=0.5, inputs=inputs, seed=seed, **EARLY), "size"
    ),
    "Gates, longer, MACs too": Row(
        lambda s, seed, inputs: Gates(target=f"params={s:.0f}", computation=0.5, inputs=inputs, seed=seed, gated=0.6), "size"
    ),
    "Gates, to MACs": Row(lambda s, seed, inputs: Gates(target=f"macs={s:.0f}", inputs=inputs, seed=seed), "macs"),
    "Gates, to MACs, no doubt": Row(
        lambda s, seed, inputs: Gates(target=f"macs={s:.0f}", inputs=inputs, seed=seed, doubt=0.0, gated=0.4), "macs"
    ),
    "Gates, one price": Row(lambda s, seed, inputs: Gates(price=s, rise=1.0, inputs=inputs, seed=seed), "price", 1e-3),
    "VIB": Row(lambda s, seed, inputs, **more: baselines.VIB(kl=s, rate=5e-3, inputs=inputs, seed=seed, **more), "price", 5e-4),
    "SBP": Row(
        lambda s, seed, inputs, **more: baselines.SBP(kl=s, rate=1e-2, draws="batch", inputs=inputs, seed=seed, **more), "price", 20.0
    ),
    "L0": Row(lambda s, seed, inputs, **more: baselines.L0(lam=s, drop=0.2, rate=3e-2, inputs=inputs, seed=seed, **more), "price"),
    "group lasso": Row(lambda s, seed, inputs, **more: baselines.GroupLasso(lam=s, inputs=inputs, **more), "price", 0.05, fold="constant"),
    "magnitude": Row(lambda s, seed, inputs: baselines.MagnitudeUnits(share=s, begin=HOLD, end=HOLD, inputs=inputs), "share", fold="mean"),
    "random": Row(lambda s, seed, inputs: baselines.RandomUnits(share=s, begin=HOLD, end=HOLD, inputs=inputs, seed=seed), "share"),
}
ALONE = ("dense", "Torch-Pruning", "scratch")
"""Rows with a training of their own: the whole network, the peer's library, a small network with the widths that Gates left."""
NAMES = ("dense", *ROWS, "Torch-Pruning", "scratch")


class Pixels(nn.Module):
    """Passes on some pixels of flattened images only."""

    def __init__(self, kept: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("kept", torch.tensor(kept), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """[batch, 784] → [batch, kept]."""
        return images[:, self.kept]


def perceptron(widths: Sequence[int], pixels: Sequence[int] = ()) -> nn.Sequential:
    """Linear layers and ReLU on the pixels; 784-300-100-10 is LeNet-300-100. pixels: those it sees, if not all."""
    layers: list[nn.Module] = [nn.Flatten(), Pixels(pixels)] if pixels else [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convolutional(widths: Sequence[int], pixels: Sequence[int] = ()) -> nn.Sequential:
    """LeNet-5 as in Caffe, which 1-20-50-500-10 is, with channels last; it always sees all pixels."""
    images, first, second, hidden, classes = widths
    convolutions = [nn.Conv2d(images, first, 5), nn.MaxPool2d(2), nn.Conv2d(first, second, 5), nn.MaxPool2d(2)]
    network = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(16 * second, hidden), nn.ReLU(), nn.Linear(hidden, classes))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


@dataclass(frozen=True)
class Setting:
    """A network and how it trains. build: from widths and pixels; targets, macs: numbers of parameters and of multiply-adds that methods
    are compared at, few: the former where pixels may leave, if others; curves: whether there are rows enough to compare them between
    their sizes; leader: the row whose widths "scratch" has; rows: what is run unless told otherwise; tuned: the network whose trials say
    how strong methods with a price are, which are told the size then as well."""

    build: Callable[[Sequence[int], Sequence[int]], nn.Sequential]
    widths: tuple[int, ...]
    epochs: int
    targets: tuple[int, ...]
    macs: tuple[int, ...] = ()
    few: tuple[int, ...] = ()
    curves: bool = True
    recipe: Recipe = field(default_factory=Recipe)
    leader: str = "Gates"
    rows: tuple[str, ...] = tuple(name for name in NAMES if name not in ("Gates, defaults", "Gates, longer", "Gates, longer, MACs too"))
    tuned: str = ""

    def wanted(self, inputs: bool) -> tuple[int, ...]:
        """Numbers of parameters that methods are compared at."""
        return self.few if inputs and self.few else self.targets

    def network(self, seed: int, widths: Sequence[int] = (), pixels: Sequence[int] = ()) -> nn.Sequential:
        """A new one, of other widths if they are given."""
        torch.manual_seed(seed)
        return self.build(widths or self.widths, pixels)

    def parameters(self, share: float, inputs: bool) -> int:
        """What is left without a share of the units of every layer but the last."""
        kept = [max(1, round(width * (1 - share))) for width in self.widths[:-1]]
        with torch.device("meta"):
            model = self.build([kept[0] if inputs else self.widths[0], *kept[1:], self.widths[-1]], ())
        return sum(parameter.numel() for parameter in model.parameters())


SHIFTED: dict[str, Any] = {"recipe": Recipe(augment=Augmentation(crop_padding=1)), "curves": False, "leader": "Gates, defaults"}
COMPARED = ("dense", "Gates, defaults", "VIB", "SBP", "group lasso", "magnitude", "scratch")
SETTINGS = {
    "lenet-300-100": Setting(perceptron, (784, 300, 100, 10), 20, (100_000, 50_000, 25_000, 10_000, 5_000)),
    "lenet-5-caffe": Setting(convolutional, (1, 20, 50, 500, 10), 10, (100_000, 40_000, 20_000), (600_000, 450_000, 250_000, 150_000)),
    "lenet-5-caffe-20-epochs": Setting(convolutional, (1, 20, 50, 500, 10), 20, (42_000, 22_000), (150_000,), curves=False),
    "lenet-5-caffe-shifted": Setting(
        convolutional,
        (1, 20, 50, 500, 10),
        15,
        (42_000, 22_000),
        (150_000,),
        rows=("dense", "Gates, MACs too", "Gates, to MACs"),
        **SHIFTED,
    ),
    "lenet-300-100-shifted": Setting(
        perceptron, (784, 300, 100, 10), 40, (75_000, 45_000, 26_000), few=(15_000, 10_000), rows=COMPARED, tuned="lenet-300-100", **SHIFTED
    ),
    "lenet-300-100-shifted-100-epochs": Setting(
        perceptron, (784, 300, 100, 10), 100, (9_600,), rows=("Gates, defaults", "VIB", "SBP", "scratch"), tuned="lenet-300-100", **SHIFTED
    ),
}
