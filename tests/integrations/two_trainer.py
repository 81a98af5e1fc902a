"""What two processes of transformers' Trainer go through together, and the same training by hand, without DDP."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

from integrations.test_transformers import EPOCHS, EXAMPLES, INPUTS, SIZE, gradual, method, model, sequences, train
from parsinet.distributed import Replicas, digest
from parsinet.errors import ParsinetError
from parsinet.integrations.transformers import Prune, save_pretrained
from parsinet.integrations.transformers_replicas import Wrapping
from parsinet.methods import Method, Pruner, Spectral

RANK = int(os.environ["RANK"])
STEPS = EPOCHS * EXAMPLES // SIZE // 2
SAVED = 6
"""The step of the checkpoint training goes on from."""
TWINS = {"gates": (model, method, 1), "gates, accumulated": (model, method, 2)}


def bert() -> nn.Module:
    """Its loss is the mean of each process, whatever the number of items."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    net = transformers.BertForMaskedLM(transformers.BertConfig(**sizes, **rates, max_position_embeddings=8))
    net.accepts_loss_kwargs = False
    return net


def spectral() -> Method:
    """Has a penalty on weights, whose gradient must not pass through DDP."""
    layers = ["bert.encoder.layer.0.intermediate.dense"]
    return Spectral(0.5, layers=layers, eigenvalue_lasso=1e-3, begin=0.2, end=0.7, interval=2)


def resumed(folder: Path, build: Callable[[], Method] = gradual) -> Any:
    """Dropout and shuffled batches included: never stopped; stopped after a checkpoint; gone on from it."""
    usual: dict[str, Any] = {"dropout": 0.1, "save_steps": SAVED}
    whole, prune, widths = train(folder / "whole", prune=Prune(build(), INPUTS), **usual)
    _, _, part = train(folder / "part", stop=SAVED, prune=Prune(build(), INPUTS), **usual)
    shutil.copytree(folder / "part" / f"checkpoint-{SAVED}", folder / f"copy-{RANK}")
    again, _, _ = train(folder / "part", resume=True, prune=Prune(build(), INPUTS), **usual)
    if RANK == 0:  # the other process need not be there any more
        save_pretrained(prune.finish(), folder / "lean")
    return {"whole": digest(whole.state_dict()), "resumed": digest(again.state_dict()), "widths": [widths[0], part[-1], widths[-1]]}


def resumed_gates(folder: Path) -> Any:
    """The same with gates, whose own state moves with every step."""
    (folder / "gates").mkdir(exist_ok=True)
    return resumed(folder / "gates", method)


def by_hand(net: nn.Module, net_method: Method, accumulate: int) -> nn.Module:
    """What the Trainer does in each process, on the network itself: gradients are averaged one by one."""
    net_method.prepare(net.train())
    replicas = Replicas(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.0)
    steps, rows = STEPS // accumulate, sequences()
    pruner = Pruner(replicas, optimizer, net_method, INPUTS, steps=steps, examples=EXAMPLES)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (steps - step) / steps
        for part in range(accumulate):
            first = ((step * accumulate + part) * 2 + RANK) * SIZE % EXAMPLES
            loss_of(net, torch.stack([row["input_ids"] for row in rows[first : first + SIZE]]), accumulate).backward()
        for parameter in net.parameters():
            if parameter.grad is not None:
                (parameter.grad,) = replicas.ranks.mean([parameter.grad])
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        penalty = pruner.penalty()
        if isinstance(penalty, Tensor):
            penalty.backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    return pruner.finish()


def loss_of(net: Any, batch: Tensor, accumulate: int) -> Tensor:
    if not getattr(net, "accepts_loss_kwargs", True):
        return net(input_ids=batch, labels=batch).loss
    return 2 * net(input_ids=batch, labels=batch, num_items_in_batch=torch.tensor(2 * accumulate * batch.numel())).loss


def twins(folder: Path) -> Any:
    """Digests of both, and how often the widths changed."""
    found = {}
    for name, (net, net_method, accumulate) in {**TWINS, "spectral": (bert, spectral, 1)}.items():
        options = {"train_sampling_strategy": "sequential", "gradient_accumulation_steps": accumulate, "save_strategy": "no"}
        trained, _, widths = train(folder / "twins", net=net(), prune=Prune(net_method(), INPUTS), **options)
        hand = by_hand(net(), net_method(), accumulate)
        found[name] = [digest(trained.state_dict()), digest(hand.state_dict()), len({tuple(each) for each in widths})]
    return found


def caught(act: Callable[[], Any]) -> list[str]:
    """The error's kind and words."""
    try:
        act()
    except ParsinetError as error:
        return [type(error).__name__, str(error)]
    return ["", ""]


def planted(folder: Path) -> Any:
    """Wrappers that let gradients stay at home or compress them; a checkpoint of which one process has other weights, or none."""
    before, found = Wrapping.replicas, {}

    def local(self: Wrapping, args: Any) -> Replicas:
        wrapper, replicas = self._wrapper, before(self, args)
        assert wrapper is not None
        wrapper.forward = replicas.module.forward  # type: ignore[method-assign]
        return replicas

    def hooked(self: Wrapping, args: Any) -> Replicas:
        assert self._wrapper is not None
        self._wrapper.register_comm_hook(None, fp16_compress_hook)
        return before(self, args)

    for name, fault in (("local gradients", local), ("hook", hooked)):
        Wrapping.replicas = fault  # type: ignore[method-assign]
        found[name] = caught(lambda: train(folder / "planted", prune=Prune(gradual(), INPUTS)))
    Wrapping.replicas = before  # type: ignore[method-assign]
    own = folder / f"copy-{RANK}"
    if RANK == 1:
        weights = load_file(own / "model.safetensors")
        save_file({name: value + 1e-6 for name, value in weights.items()}, own / "model.safetensors", {"format": "pt"})
    found["other weights"] = caught(lambda: train(folder / "other", resume=str(own), prune=Prune(gradual(), INPUTS, checkpoint=own)))
    found["no folder"] = caught(lambda: train(folder / "other", resume=str(own), prune=Prune(gradual(), INPUTS)))
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    told = {scenario.__name__: scenario(folder) for scenario in (resumed, resumed_gates, twins, planted)}
    (folder / f"rank-{RANK}.json").write_text(json.dumps(told))
