"""What processes of Accelerate go through together, and the same training by hand, without DDP."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, DataLoaderConfiguration
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from integrations.toys import METHODS
from methods.toys import network, points
from parsinet.distributed import Replicas, digest
from parsinet.errors import ParsinetError
from parsinet.integrations.accelerate import prepare_model, register_for_checkpointing
from parsinet.methods import Method, Pruner

EPOCHS, BATCHES, SIZE = 6, 8, 16
SAVED = {"gates": 1, "spectral": 2, "vib": 4}
"""After how many epochs a checkpoint is written: units have left before, and but for VIB leave afterwards."""


def toy(dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(network(0, batch_norm=True), nn.Dropout(dropout)).train()


def accelerated(method: Method, *, accumulate: int = 1, dropout: float = 0.0, **options: Any) -> tuple[Any, ...]:
    """Accelerator, model, optimizer, batches and pruner of one training, before its first step."""
    torch.manual_seed(0)
    shuffling = DataLoaderConfiguration(use_seedable_sampler=True)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate, dataloader_config=shuffling, **options)
    size = SIZE * (2 // accelerator.num_processes)
    loader = DataLoader(TensorDataset(*points(BATCHES * 2 * SIZE)), size, shuffle=dropout > 0)
    net = toy(dropout)
    method.prepare(net)
    optimizer = torch.optim.Adam(method.param_groups(net), lr=0.01)
    model = prepare_model(accelerator, net)
    prepared, batches = accelerator.prepare(optimizer, loader)
    steps = EPOCHS * BATCHES // accumulate
    pruner = Pruner(model, prepared.optimizer, method, points(4)[0], steps=steps, examples=BATCHES * 2 * SIZE, scaler=accelerator.scaler)
    register_for_checkpointing(accelerator, pruner)
    return accelerator, model, prepared, batches, pruner


def train(parts: Sequence[Any], epochs: range, save: Path | None = None) -> list[dict[str, int]]:
    """The widths after every epoch."""
    accelerator, model, optimizer, batches, pruner = parts
    widths = []
    for epoch in epochs:
        batches.set_epoch(epoch)
        for x, y in batches:
            with accelerator.accumulate(model):
                accelerator.backward(F.cross_entropy(model(x), y))
                if accelerator.sync_gradients:
                    penalty = pruner.penalty()
                    if isinstance(penalty, Tensor):
                        penalty.backward()
                    accelerator.clip_grad_norm_(pruner.model.parameters(), 0.5)
                optimizer.step()
                optimizer.zero_grad()
                if accelerator.sync_gradients:
                    pruner.step()
        widths.append(pruner.widths())
        if save is not None and epoch + 1 == SAVED[pruner.method.name]:
            accelerator.save_state(str(save))
    return widths


def finished(model: nn.Module, pruner: Pruner) -> int:
    """The digest of the lean network, its running statistics those of rank 0 where there are several."""
    lean = pruner.finish()
    if isinstance(model, Replicas):
        model.end()
    return digest(lean.state_dict())


def resumed(folder: Path, name: str = "gates", **options: Any) -> dict[str, Any]:
    """Dropout and shuffled batches included: a checkpoint is written on the way; gone on from it by what was built anew."""
    parts = accelerated(METHODS[name](), dropout=0.1, **options)
    began, widths = parts[-1].widths(), train(parts, range(EPOCHS), folder / "saved")
    whole = finished(parts[1], parts[-1])
    parts = accelerated(METHODS[name](), dropout=0.1, **options)
    parts[0].load_state(str(folder / "saved"))
    train(parts, range(SAVED[name], EPOCHS))
    again = finished(parts[1], parts[-1])
    return {"whole": whole, "resumed": again, "units": [sum(each.values()) for each in (began, widths[SAVED[name] - 1], widths[-1])]}


def by_hand(name: str, accumulate: int, rank: int) -> int:
    """What Accelerate does in each process, on the network itself: gradients are averaged one by one."""
    net, method = toy(), METHODS[name]()
    method.prepare(net)
    replicas = Replicas(net)
    optimizer = torch.optim.Adam(method.param_groups(net), lr=0.01)
    steps = EPOCHS * BATCHES // accumulate
    pruner = Pruner(replicas, optimizer, method, points(4)[0], steps=steps, examples=BATCHES * 2 * SIZE)
    x, y = points(BATCHES * 2 * SIZE)
    for step in range(steps):
        for part in range(accumulate):
            at = ((step * accumulate + part) % BATCHES * 2 + rank) * SIZE
            (F.cross_entropy(net(x[at : at + SIZE]), y[at : at + SIZE]) / accumulate).backward()
        for parameter in net.parameters():
            if parameter.grad is not None:
                (parameter.grad,) = replicas.ranks.mean([parameter.grad])
        penalty = pruner.penalty()
        if isinstance(penalty, Tensor):
            penalty.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    return finished(replicas, pruner)


def twins(rank: int) -> dict[str, list[Any]]:
    """Digests of both, and how often the widths changed."""
    found = {}
    for name, accumulate in (("gates", 1), ("gates", 2), ("vib", 1)):
        parts = accelerated(METHODS[name](), accumulate=accumulate)
        widths = train(parts, range(EPOCHS))
        trained, hand = finished(parts[1], parts[-1]), by_hand(name, accumulate, rank)
        found[f"{name}, {accumulate}"] = [trained, hand, len({tuple(w.values()) for w in widths})]
    return found


def lost(folder: Path, rank: int) -> str:
    """What each process says of a checkpoint that rank 0 cannot see."""
    parts = accelerated(METHODS["gates"]())
    try:
        parts[0].load_state(str(folder / "saved") if rank else str(folder))
    except ParsinetError as error:
        return f"{type(error).__name__}: {error}"
    return "loaded"


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    told = {"resumed": resumed(folder), "twins": twins(rank), "lost": lost(folder, rank)}
    (folder / f"rank-{rank}.json").write_text(json.dumps(told))
    dist.barrier()  # a process that leaves while another still talks to it takes both down
    dist.destroy_process_group()
