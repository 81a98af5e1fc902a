"""A network shrinks in a loop with Hugging Face Accelerate, in one process or several, and goes on where it was stopped.

pip install 'parsinet[accelerate]'; python examples/accelerate_loop.py [--epochs 20] [--out lean] [--save checkpoint]
torchrun --nproc-per-node 2 examples/accelerate_loop.py …
python examples/accelerate_loop.py --resume checkpoint …
"""

from __future__ import annotations

import argparse

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import parsinet as pn
from parsinet.integrations.accelerate import prepare_model, register_for_checkpointing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", default="lean")
    parser.add_argument("--save", metavar="FOLDER", help="write a checkpoint after half of the epochs")
    parser.add_argument("--resume", metavar="FOLDER", help="go on from that checkpoint")
    options = parser.parse_args()

    torch.manual_seed(0)
    shuffling = DataLoaderConfiguration(use_seedable_sampler=True)  # the order of an epoch follows from its number, in a resumed run too
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), dataloader_config=shuffling)
    data = pn.data.load("digits")
    loader = DataLoader(TensorDataset(data.train.inputs, data.train.targets), batch_size=32, shuffle=True)
    method = pn.methods.Gates(price=1e-3)
    model = build()
    method.prepare(model)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=1e-3, weight_decay=1e-4)

    model = prepare_model(accelerator, model)
    prepared, batches = accelerator.prepare(optimizer, loader)
    inputs = data.train.inputs[:2].to(accelerator.device)
    steps = options.epochs * len(batches)
    pruner = pn.Pruner(model, prepared.optimizer, method, inputs, steps=steps, scaler=accelerator.scaler)
    register_for_checkpointing(accelerator, pruner)
    first = 0
    if options.resume:
        accelerator.load_state(options.resume)
        first = options.epochs // 2
    for epoch in range(first, options.epochs):
        batches.set_epoch(epoch)
        for x, y in batches:
            loss = functional.cross_entropy(model(x), y)
            accelerator.backward(loss + pruner.penalty())
            prepared.step()
            prepared.zero_grad()
            removal = pruner.step()
            if removal is not None:
                accelerator.print(f"epoch {epoch + 1}: " + ", ".join(f"{name} {a}→{b}" for name, (a, b) in removal.groups.items()))
        if options.save and epoch + 1 == options.epochs // 2:
            accelerator.save_state(options.save)

    lean = accelerator.unwrap_model(pruner.finish()).cpu().eval()
    error = float((lean(data.test.inputs).argmax(1) != data.test.targets).float().mean())
    accelerator.print(f"test error {100 * error:.2f} %, {pn.measure.parameters(lean):,} parameters")
    if accelerator.is_main_process:
        pn.save(lean, options.out)
        again = pn.load(options.out, build).eval()
        print("loaded bitwise equal:", torch.equal(again(data.test.inputs), lean(data.test.inputs)))
    accelerator.end_training()


def build() -> nn.Module:
    """The original architecture; `pn.load` builds it again and replays what was removed."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


if __name__ == "__main__":
    main()
