"""A residual CNN on images of digits: every channel pays for the multiply-adds and parameters it holds, and those not worth it leave.

python examples/cnn_on_images.py [--epochs 30]
"""

from __future__ import annotations

import argparse
import copy

import torch
from before_after import show
from torch import Tensor, nn
from torch.nn import functional

import parsinet as pn


class Block(nn.Module):
    """Two convolutions with a residual connection around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(x + self.norm2(self.conv2(inner)))


class Net(nn.Module):
    """A stem, two blocks, the mean over the image, a linear layer."""

    def __init__(self, width: int = 32, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(functional.relu(self.stem(x))).mean((2, 3)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()

    torch.manual_seed(0)
    data = pn.data.load("digits")
    batches = pn.data.Batches(data.train, batch_size=64)
    model = Net()
    before = copy.deepcopy(model)

    method = pn.methods.Gates(cost_price=0.5)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=2e-3, weight_decay=1e-4)
    steps = options.epochs * len(batches)
    pruner = pn.Pruner(model, optimizer, method, data.train.inputs[:2], steps=steps, round_to=4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)

    for epoch in range(options.epochs):
        for x, y in batches:
            loss = functional.cross_entropy(model(x), y) + pruner.penalty()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            pruner.step(lambda x=x, y=y: functional.cross_entropy(model(x), y))
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1}: " + ", ".join(f"{name} {units}" for name, units in pruner.widths().items()))

    lean = pruner.finish().eval()
    error = float((lean(data.test.inputs).argmax(1) != data.test.targets).float().mean())
    show(before, lean, data.test.inputs[:64])
    print(f"test error {100 * error:.2f} %")


if __name__ == "__main__":
    main()
