"""A tiny vision transformer loses heads and feed-forward units.

python examples/vit.py [--epochs 30]
"""

from __future__ import annotations

import argparse
import copy

import torch
from before_after import show
from torch.nn import functional

import parsinet as pn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()

    torch.manual_seed(0)
    data = pn.data.load("digits")
    batches = pn.data.Batches(data.train, batch_size=64)
    model = pn.models.build("tiny-vit", data.input_shape, data.num_classes, patch=2, width=64, depth=2, heads=4, hidden=128)
    before = copy.deepcopy(model)

    method = pn.methods.Gates(cost_price=0.1)
    optimizer = torch.optim.AdamW(method.param_groups(model), lr=2e-3, weight_decay=0.01)
    pruner = pn.Pruner(model, optimizer, method, data.train.inputs[:2], steps=options.epochs * len(batches))

    for _ in range(options.epochs):
        for x, y in batches:
            loss = functional.cross_entropy(model(x), y) + pruner.penalty()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.step(lambda x=x, y=y: functional.cross_entropy(model(x), y))

    lean = pruner.finish().eval()
    print(", ".join(f"{name} {units}" for name, units in pruner.widths().items()))
    error = float((lean(data.test.inputs).argmax(1) != data.test.targets).float().mean())
    show(before, lean, data.test.inputs[:64])
    print(f"test error {100 * error:.2f} %")


if __name__ == "__main__":
    main()
