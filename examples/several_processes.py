"""A network shrinks in a hand-written loop of several processes: the same units leave everywhere.

torchrun --nproc-per-node 2 examples/several_processes.py [--epochs 10] [--out lean]
"""

from __future__ import annotations

import argparse

import torch
from torch import nn
from torch.nn import functional

import parsinet as pn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", default="lean")
    options = parser.parse_args()

    torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    data = pn.data.load("digits")
    net = build()
    method = pn.methods.Gates(price=1e-3)
    method.prepare(net)
    model = pn.distributed.Replicas(net)  # in the place of DistributedDataParallel
    optimizer = torch.optim.Adam(method.param_groups(net), lr=1e-3, weight_decay=1e-4)
    batches = pn.data.Batches(data.train, batch_size=64, rank=model.rank, world_size=model.world_size)
    pruner = pn.Pruner(model, optimizer, method, data.train.inputs[:2], steps=options.epochs * len(batches), round_to=4)

    for epoch in range(options.epochs):
        for x, y in batches:
            loss = functional.cross_entropy(model(x), y) + pruner.penalty()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.step(lambda x=x, y=y: functional.cross_entropy(model(x), y))
        if model.rank == 0:
            print(f"epoch {epoch + 1}: " + ", ".join(f"{name} {units}" for name, units in pruner.widths().items()))

    lean = pruner.finish().eval()
    if model.rank == 0:
        error = float((lean(data.test.inputs).argmax(1) != data.test.targets).float().mean())
        profile = pn.measure.profile(lean, data.test.inputs[:64])
        print(f"test error {100 * error:.2f} %, {profile.parameters:,} parameters, {profile.macs:,} MACs, {model.world_size} processes")
        pn.save(lean, options.out)
    torch.distributed.destroy_process_group()


def build() -> nn.Module:
    """The original architecture."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


if __name__ == "__main__":
    main()
