"""A network that is spread over several processes by FSDP2 shrinks in a hand-written loop, is saved in the middle, and goes on.

torchrun --nproc-per-node 2 examples/sharded.py [--epochs 10] [--out lean] [--checkpoint part.pt]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.nn import functional

import parsinet as pn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", default="lean")
    parser.add_argument(
        "--checkpoint", type=Path, default=Path("part.pt"), help="written after every epoch, and gone on from if it is there"
    )
    options = parser.parse_args()

    torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    data = pn.data.load("digits")
    net = build()
    method = pn.methods.Gates(price=1e-3)
    method.prepare(net)
    model = pn.distributed.Sharded(net, shard)  # net is plain and whole; from here on, model.module is the network
    optimizer = torch.optim.Adam(method.param_groups(model.module), lr=1e-3, weight_decay=1e-4)
    batches = pn.data.Batches(data.train, batch_size=64, rank=model.rank, world_size=model.world_size)
    pruner = pn.Pruner(model, optimizer, method, data.train.inputs[:2], steps=options.epochs * len(batches), round_to=4)
    if options.checkpoint.is_file():
        resume(options.checkpoint, model, optimizer, pruner, batches)

    while batches.epoch < options.epochs:
        for x, y in batches:
            loss = functional.cross_entropy(model(x), y) + pruner.penalty()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.step(lambda x=x, y=y: functional.cross_entropy(model(x), y))
        save(options.checkpoint, model, optimizer, pruner, batches)
        if model.rank == 0:
            print(f"epoch {batches.epoch}: " + ", ".join(f"{name} {units}" for name, units in pruner.widths().items()))

    pruner.finish()
    lean = model.whole()  # every process calls this; rank 0 gets the network, plain, on the CPU
    if lean is not None:
        error = float((lean.eval()(data.test.inputs).argmax(1) != data.test.targets).float().mean())
        profile = pn.measure.profile(lean, data.test.inputs[:64])
        print(f"test error {100 * error:.2f} %, {profile.parameters:,} parameters, {profile.macs:,} MACs, {model.world_size} processes")
        pn.save(lean, options.out)
    torch.distributed.destroy_process_group()


def build() -> nn.Module:
    """The original architecture."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


def shard(net: nn.Module) -> None:
    """What FSDP gathers together: the largest layer, and the rest; called again whenever units have left."""
    fully_shard(net.get_submodule("1"))
    fully_shard(net)


def save(path: Path, model: Any, optimizer: torch.optim.Optimizer, pruner: pn.Pruner, batches: Any) -> None:
    """A full checkpoint, on any number of processes loadable: all processes give their parts, rank 0 writes."""
    full = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(model.module, options=full)
    moments = get_optimizer_state_dict(model.module, optimizer, options=full)
    if model.rank == 0:
        torch.save({"model": weights, "optimizer": moments, "pruner": pruner.state_dict(), "batches": batches.state_dict()}, path)


def resume(path: Path, model: Any, optimizer: torch.optim.Optimizer, pruner: pn.Pruner, batches: Any) -> None:
    """First the removals, so that all shapes fit, then weights and moments."""
    saved = torch.load(path, weights_only=True)
    pruner.load_state_dict(saved["pruner"])
    full = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model.module, saved["model"], options=full)
    set_optimizer_state_dict(model.module, optimizer, saved["optimizer"], options=full)
    batches.load_state_dict(saved["batches"])


if __name__ == "__main__":
    main()
