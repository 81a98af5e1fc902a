"""What two processes of transformers' Trainer go through together, and the same training by hand, without DDP."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from integrations.test_transformers import EPOCHS, EXAMPLES, INPUTS, SAVED, SIZE, gradual, method, model, sequences, train
from parsinet.distributed import Replicas, digest
from parsinet.errors import ParsinetError, RunError
from parsinet.integrations.transformers import Prune, save_pretrained
from parsinet.integrations.transformers_replicas import Wrapping
from parsinet.methods import Method, Pruner

RANK = int(os.environ["RANK"])
STEPS = EPOCHS * EXAMPLES // SIZE // 2


METHODS: dict[str, Callable[[], Method]] = {"gates": method, "gradual": gradual}


def resumed(folder: Path) -> Any:
    """Dropout and shuffled batches included: never stopped; stopped after a checkpoint; gone on from it."""
    whole, prune, widths = train(folder / "whole", dropout=0.1, prune=Prune(gradual(), INPUTS), save_steps=6)
    _, _, part = train(folder / "part", dropout=0.1, stop=6, prune=Prune(gradual(), INPUTS), save_steps=6)
    again, _, _ = train(folder / "part", dropout=0.1, resume=True, prune=Prune(gradual(), INPUTS), save_steps=6)
    if RANK == 0:  # the other process need not be there any more
        save_pretrained(prune.finish(), folder / "lean")
    return {"whole": digest(whole.state_dict()), "resumed": digest(again.state_dict()), "widths": [widths[0], part[-1], widths[-1]]}


def by_hand(name: str, accumulate: int) -> nn.Module:
    """What the Trainer does in each process, on the network itself: gradients are averaged one by one."""
    net, net_method = model().train(), METHODS[name]()
    net_method.prepare(net)
    replicas = Replicas(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.0)
    steps, rows = STEPS // accumulate, sequences()
    pruner = Pruner(replicas, optimizer, net_method, INPUTS, steps=steps, examples=EXAMPLES)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (steps - step) / steps
        for part in range(accumulate):
            first = ((step * accumulate + part) * 2 + RANK) * SIZE % EXAMPLES
            batch = torch.stack([row["input_ids"] for row in rows[first : first + SIZE]])
            items = torch.tensor(SIZE * 8 * 2 * accumulate)
            (2 * net(input_ids=batch, labels=batch, num_items_in_batch=items).loss).backward()
        for parameter in net.parameters():
            (parameter.grad,) = replicas.ranks.mean([parameter.grad])
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        penalty = pruner.penalty()
        if isinstance(penalty, Tensor):
            penalty.backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    return pruner.finish()


def twins(folder: Path) -> Any:
    """Digests of both, and how often the widths changed."""
    found = {}
    for name in METHODS:
        for accumulate in (1, 2):
            options = {"train_sampling_strategy": "sequential", "gradient_accumulation_steps": accumulate, "save_strategy": "no"}
            net, _, widths = train(folder / "twins", prune=Prune(METHODS[name](), INPUTS), **options)
            found[f"{name} {accumulate}"] = [
                digest(net.state_dict()),
                digest(by_hand(name, accumulate).state_dict()),
                len({tuple(each) for each in widths}),
            ]
    return found


def caught(act: Callable[[], Any]) -> list[str]:
    try:
        act()
    except ParsinetError as error:
        return [type(error).__name__, str(error)]
    return ["", ""]


def planted(folder: Path) -> Any:
    """Wrappers that let gradients stay at home, and that stay as they were built; a checkpoint of which one process has other weights."""
    before, found = Wrapping.replicas, {}

    def local(self: Wrapping, args: Any) -> Replicas:
        wrapper = self._wrapper
        replicas = before(self, args)
        assert wrapper is not None
        wrapper.forward = replicas.module.forward  # type: ignore[method-assign]
        return replicas

    Wrapping.replicas = local  # type: ignore[method-assign]
    found["local gradients"] = caught(lambda: train(folder / "local", prune=Prune(gradual(), INPUTS)))
    Wrapping.replicas = before  # type: ignore[method-assign]
    return found


SCENARIOS = {"resumed": resumed, "twins": twins, "planted": planted}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    told = {name: scenario(folder) for name, scenario in SCENARIOS.items()}
    (folder / f"rank-{RANK}.json").write_text(json.dumps(told))
