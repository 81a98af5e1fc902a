"""A network shrinks in a loop with Hugging Face Accelerate, in one process.

pip install 'parsinet[accelerate]'; python examples/accelerate_loop.py [--epochs 20] [--out lean]

In several processes leave the model out of `prepare`, whose DDP cannot follow a removal, and write
`model = parsinet.distributed.Replicas(model.to(accelerator.device))` in its place; the rest stays as it is.
"""

from __future__ import annotations

import argparse

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import parsinet as pn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", default="lean")
    options = parser.parse_args()

    torch.manual_seed(0)
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    data = pn.data.load("digits")
    loader = DataLoader(TensorDataset(data.train.inputs, data.train.targets), batch_size=32, shuffle=True)
    model = build()
    method = pn.methods.Gates(price=1e-3)
    method.prepare(model)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=1e-3, weight_decay=1e-4)

    model, prepared, batches = accelerator.prepare(model, optimizer, loader)
    inputs = data.train.inputs[:2].to(accelerator.device)
    steps = options.epochs * len(batches)
    pruner = pn.Pruner(model, prepared.optimizer, method, inputs, steps=steps, scaler=accelerator.scaler)
    for epoch in range(options.epochs):
        for x, y in batches:
            loss = functional.cross_entropy(model(x), y)
            accelerator.backward(loss + pruner.penalty())
            prepared.step()
            prepared.zero_grad()
            removal = pruner.step()
            if removal is not None:
                print(f"epoch {epoch + 1}: " + ", ".join(f"{name} {a}→{b}" for name, (a, b) in removal.groups.items()))

    lean = accelerator.unwrap_model(pruner.finish()).cpu().eval()
    error = float((lean(data.test.inputs).argmax(1) != data.test.targets).float().mean())
    print(f"test error {100 * error:.2f} %, {pn.measure.parameters(lean):,} parameters")
    pn.save(lean, options.out)
    again = pn.load(options.out, build).eval()
    print("loaded bitwise equal:", torch.equal(again(data.test.inputs), lean(data.test.inputs)))


def build() -> nn.Module:
    """The original architecture; `pn.load` builds it again and replays what was removed."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


if __name__ == "__main__":
    main()
