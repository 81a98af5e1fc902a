"""The networks of curves.py: their data, how long and how they train, and what is done to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from protocol import Recipe
from torch import nn

import parsinet as pn
from parsinet.data import Augmentation, Dataset, Split
from parsinet.structure import shrink, trace


def sgd(groups: list[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    """Nesterov's momentum, decay of matrices only."""
    return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4)


def adamw(groups: list[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    """Decay beside the gradient."""
    return torch.optim.AdamW(groups, lr=rate, weight_decay=0.1, fused=True)


@dataclass(frozen=True)
class Row:
    """How a network gets small. kind: what is done; options: of the method, or of the network that is built."""

    kind: str
    options: Mapping[str, Any]


DENSE = {"dense": Row("dense", {})}


def _narrow(*widths: int) -> dict[str, Row]:
    return {f"narrow, width {width}": Row("dense", {"width": width}) for width in widths}


def _at(kind: str, name: str, *shares: float) -> dict[str, Row]:
    return {f"{name}, {100 * share:g} %": Row(kind, {"macs": share}) for share in shares}


def _gates(name: str, *shares: float, **options: Any) -> dict[str, Row]:
    return {f"{name}, {100 * share:g} %": Row("gates", {"target": f"macs={100 * share:g}%", **options}) for share in shares}


def _images(*widths: int) -> dict[str, Row]:
    """The rows of a network on images: all ways to 40 and 20 % of the multiply-adds, dense networks of these widths among them."""
    return (
        DENSE
        | _gates("Gates", 0.4, 0.2)
        | _gates("Gates without doubt", 0.4, 0.2, doubt=0.0)
        | _gates("brief Gates", 0.4, 0.2, gated=0.4)
        | _gates("brief even Gates", 0.4, 0.2, gated=0.4, evenness=4.0)
        | _narrow(*widths)
        | _at("peer", "Torch-Pruning", 0.4, 0.2)
        | _at("again", "widths of Gates without doubt", 0.4, 0.2)
        | _at("magnitude", "magnitude", 0.4, 0.2)
    )


@dataclass(frozen=True)
class Setting:
    """A network's name and options, how much it trains on and how, its rows, and the layers whose outputs the peer's library must leave
    alone."""

    title: str
    examples: int
    epochs: int
    recipe: Recipe
    rows: Mapping[str, Row]
    fixed: tuple[str, ...]
    options: Mapping[str, Any]


VALUES = [f"blocks.{k}.{part}" for k in range(4) for part in ("attn.heads", "attn.v_dim", "mlp.fc1")]
"""What `Gates` gate in char-gpt on the defaults, and the features that heads pass on."""
IMAGES = Recipe(batch=32, rate=0.05, optimizer=sgd, augment=Augmentation(crop_padding=4, flip=True))
SETTINGS = {
    "resnet-20": Setting("ResNet-20", 8_000, 6, IMAGES, _images(10, 7), ("fc",), {}),
    # The rate with which the dense network does best on 5,000 held-out images: 34.9 % (.01: 42.7, .0025: 36.0; .05: 64.6 in the test).
    "vgg-small": Setting("VGG-Small", 8_000, 5, replace(IMAGES, rate=0.005), _images(20, 14), ("fc",), {"width": 32}),
    "resnet-56": Setting(
        "ResNet-56",
        4_000,
        5,
        IMAGES,
        DENSE
        | {
            f"blocks, price {price:g}": Row("gates", {"groups": [], "blocks": True, "block_price": price, "rise": 1.0})
            for price in (3e-3, 1e-2)
        }
        | {"blocks and units, cost price 0.3": Row("gates", {"cost_price": 0.3, "computation": 1.0, "blocks": True, "rise": 1.0})}
        | {"blocks and units, 40 %": Row("gates", {"target": "macs=40%", "blocks": True, "pursuit": 0.0, "gated": 0.6, "doubt": 0.0})}
        | {"doubting blocks and units, 40 %": Row("gates", {"target": "macs=40%", "blocks": True, "doubt": 2.0, "gated": 0.4})}
        | {"blocks and units, defaults, 40 %": Row("gates", {"target": "macs=40%", "blocks": True})}
        | {"ResNet-20": Row("other", {"network": "resnet-20"})}
        | _narrow(10),
        ("fc",),
        {},
    ),
    "char-gpt": Setting(
        "char-gpt",
        8_000,
        2,
        Recipe(batch=32, rate=2e-3, optimizer=adamw),
        DENSE
        | _gates("Gates", 0.5, 0.25)
        | _gates("doubting Gates", 0.5, 0.25, doubt=2.0)
        | _gates("Gates on values too", 0.5, 0.25, groups=VALUES)
        | {"narrow, width 66": Row("dense", {"width": 66}), "narrow, width 45": Row("dense", {"width": 45, "heads": 5})}
        | _at("magnitude", "magnitude", 0.5, 0.25)
        | _at("peer", "Torch-Pruning", 0.5, 0.25),
        ("embed", "head"),
        {"width": 96, "depth": 4, "heads": 6},
    ),
}


def load(network: str, folder: Path | None) -> Dataset:
    """The data, its training split cut to what a short run uses: a fixed random choice."""
    if network == "char-gpt":
        whole = pn.data.load(str((folder or Path("data")) / "tinyshakespeare" / "input.txt"), block=64)
    else:
        whole = pn.data.load("cifar10", folder=None if folder is None else folder / "cifar10-jpeg")
    chosen = torch.randperm(len(whole.train), generator=torch.Generator().manual_seed(0))[: SETTINGS[network].examples]
    return Dataset(**{**whole.__dict__, "train": Split(whole.train.inputs[chosen], whole.train.targets[chosen])})


def build(network: str, seed: int, data: Dataset, **options: Any) -> nn.Module:
    """A new network. Not with channels last: without AVX-512, narrow strided convolutions then make torch write past its memory."""
    torch.manual_seed(seed)
    return pn.models.build(network, data.input_shape, data.num_classes, **{**SETTINGS[network].options, **options})


def of_widths(network: str, seed: int, data: Dataset, widths: Mapping[str, int]) -> nn.Module:
    """A new network with the first units of every group that has a width, initialised anew for that width."""
    model = build(network, seed, data)
    structure = trace(model, data.train.inputs[:2])
    kept = {name: torch.arange(structure.group(name).size) < width for name, width in widths.items()}
    shrink(model, structure.plan(kept))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model
