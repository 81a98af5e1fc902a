"""A small GPT over characters loses heads, feed-forward units and whole residual branches.

python examples/char_gpt.py [--epochs 6] [--characters 60000]
"""

from __future__ import annotations

import argparse
import copy

import torch
from before_after import show
from sample_text import load

import parsinet as pn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--characters", type=int, default=60_000)
    options = parser.parse_args()

    torch.manual_seed(0)
    data = load(options.characters, block=32)
    batches = pn.data.Batches(data.train, batch_size=32)
    model = pn.models.build("char-gpt", data.input_shape, data.num_classes, width=64, depth=3, heads=4)
    before = copy.deepcopy(model)
    loss_fn = pn.training.cross_entropy

    method = pn.methods.Gates(price=3e-4, blocks=True)
    optimizer = torch.optim.AdamW(method.param_groups(model), lr=2e-3, weight_decay=0.1)
    pruner = pn.Pruner(model, optimizer, method, data.train.inputs[:2], steps=options.epochs * len(batches))

    for _ in range(options.epochs):
        for x, y in batches:
            loss = loss_fn(model(x), y) + pruner.penalty()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.step(lambda x=x, y=y: loss_fn(model(x), y))

    lean = pruner.finish().eval()
    print(", ".join(f"{name} {units}" for name, units in pruner.widths().items()))
    with torch.no_grad():
        loss = float(loss_fn(lean(data.test.inputs), data.test.targets))
    show(before, lean, data.test.inputs[:32])
    print(f"test loss {loss:.3f} nats per character, {data.num_classes} characters")


if __name__ == "__main__":
    main()
