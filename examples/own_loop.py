"""A network shrinks inside a hand-written training loop: the whole of parsinet's library use on one page.

python examples/own_loop.py [--epochs 40] [--out lean]
"""

from __future__ import annotations

import argparse

import torch
from torch import nn
from torch.nn import functional

import parsinet as pn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", default="lean")
    options = parser.parse_args()

    torch.manual_seed(0)
    data = pn.data.load("digits")
    batches = pn.data.Batches(data.train, batch_size=32)
    model = build()

    method = pn.methods.Gates(price=1e-3)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=1e-3, weight_decay=1e-4)
    pruner = pn.Pruner(model, optimizer, method, data.train.inputs[:2], steps=options.epochs * len(batches), round_to=4)

    for epoch in range(options.epochs):
        for x, y in batches:
            loss = functional.cross_entropy(model(x), y) + pruner.penalty()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            removal = pruner.step()
            if removal is not None:
                print(f"epoch {epoch + 1}: " + ", ".join(f"{name} {a}→{b}" for name, (a, b) in removal.groups.items()))

    lean = pruner.finish().eval()
    error = float((lean(data.test.inputs).argmax(1) != data.test.targets).float().mean())
    profile = pn.measure.profile(lean, data.test.inputs[:64])
    print(f"test error {100 * error:.2f} %, {profile.parameters:,} parameters, {profile.macs:,} MACs")
    pn.save(lean, options.out)
    again = pn.load(options.out, build).eval()
    print("loaded bitwise equal:", torch.equal(again(data.test.inputs), lean(data.test.inputs)))


def build() -> nn.Module:
    """The original architecture; `pn.load` builds it again and replays what was removed."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


if __name__ == "__main__":
    main()
