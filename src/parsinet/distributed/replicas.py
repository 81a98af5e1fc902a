"""A network trained by several processes with torch's DistributedDataParallel, wrapped anew whenever units have left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from parsinet.distributed.ranks import Ranks, reached
from parsinet.errors import UsageError

TENSORS = "torch.distributed.tensor"
SHARDING = "torch.distributed.fsdp"


class Replicas(nn.Module):
    """Your network on every rank, kept in step by `DistributedDataParallel`; call it as you would call that.

        torch.distributed.init_process_group("gloo")                     # torchrun has set the rest
        method.prepare(net)
        model = pn.distributed.Replicas(net)
        optimizer = torch.optim.Adam(method.param_groups(net), lr=1e-3)
        pruner = pn.Pruner(model, optimizer, method, example_inputs, steps=steps)
        for x, y in pn.data.Batches(train, 128, rank=model.rank, world_size=model.world_size):
            loss = loss_fn(model(x), y) + pruner.penalty()
            loss.backward(); optimizer.step(); optimizer.zero_grad()
            pruner.step(lambda: loss_fn(model(x), y))

    DDP fixes its buckets for the parameters it is given, so the wrapper is dropped before units leave and made anew around what remains;
    the same if a method freezes or releases parameters. module: the network itself, whose names carry no prefix; save and evaluate that.
    Without gradients the network is called directly and nothing is sent. process_group, options: as `DistributedDataParallel` takes them.
    part: name of the module inside the network that a `Pruner` works on, where it is not the whole network.

    The first wrapping gives every rank the weights of rank 0. Buffers, such as running statistics, are those of rank 0 in every training
    pass, and after every removal.

    Errors: UsageError if no process group is there, the network is wrapped or sharded already, or has no such part.
    """

    def __init__(self, module: nn.Module, *, process_group: Any = None, part: str = "", **options: Any) -> None:
        super().__init__()
        check_group("Replicas")
        check_whole(module, "Replicas")
        if part not in dict(module.named_modules()):
            raise UsageError(f"Replicas: {type(module).__name__} has no module {part!r}.")
        self.module = module
        self._part = part
        self.ranks = Ranks.of(process_group)
        self._options = {"process_group": self.ranks.group, **options}
        self._wrapped: list[DistributedDataParallel] = []
        self._parameters_wrapped: tuple[tuple[int, torch.Size], ...] = ()
        self.wrap(synchronise=True)

    @property
    def rank(self) -> int:
        """Of this process, from 0."""
        return self.ranks.rank

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        return self.ranks.size

    @property
    def part(self) -> nn.Module:
        """What a `Pruner` works on: the network, or the part of it that was named."""
        return self.module.get_submodule(self._part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's output; with gradients through DDP."""
        return self._live()(*args, **kwargs) if torch.is_grad_enabled() else self.module(*args, **kwargs)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Backward passes inside stay on this rank; the first one outside sends the sum, as in DDP."""
        with self._live().no_sync():
            yield

    def drop(self) -> None:
        """Let go of the wrapper and its hooks; the next pass with gradients wraps anew."""
        self._wrapped.clear()
        self._parameters_wrapped = ()

    def wrap(self, *, synchronise: bool = False) -> None:
        """Wrap what the network is now. synchronise: give every rank the weights of rank 0 first."""
        self.drop()
        with reached():
            self._wrapped.append(DistributedDataParallel(self.module, init_sync=synchronise, **self._options))
        self._parameters_wrapped = self._trained()

    @contextmanager
    def loosened(self) -> Iterator[None]:
        """Inside, no wrapper holds the parameters; what is there afterwards is wrapped anew."""
        self.drop()
        yield
        self.wrap()

    @torch.no_grad()
    def align(self, *beside: nn.Module) -> None:
        """Give every rank the buffers of rank 0, of the network and of others that go along with it."""
        source = dist.get_global_rank(self.ranks.group, 0)
        with reached():
            for network in (self.module, *beside):
                for buffer in network.buffers():
                    dist.broadcast(buffer, source, group=self.ranks.group)

    def end(self) -> None:
        """Training is over: every rank has the buffers of rank 0, and no wrapper holds the parameters."""
        self.align()
        self.drop()

    def _live(self) -> DistributedDataParallel:
        if not self._wrapped or self._parameters_wrapped != self._trained():
            self.wrap()
        return self._wrapped[0]

    def _trained(self) -> tuple[tuple[int, torch.Size], ...]:
        return tuple((id(parameter), parameter.shape) for parameter in self.module.parameters() if parameter.requires_grad)


def check_group(who: str) -> None:
    """UsageError where no process group is there."""
    if not (dist.is_available() and dist.is_initialized()):
        raise UsageError(f"{who}: there is no process group. Start with torchrun and call torch.distributed.init_process_group first.")


def check_whole(model: nn.Module, who: str) -> None:
    """UsageError for a network in torch's wrappers, which cannot follow a removal, and for one whose parameters are sharded."""
    if isinstance(model, nn.DataParallel | DistributedDataParallel):
        raise UsageError(
            f"{who}: {type(model).__name__} cannot follow a removal: its parameters are fixed when it is built. Use "
            "parsinet.distributed.Replicas(net) in its place; it builds DDP anew whenever units have left."
        )
    sharded = _sharded(model)
    if sharded:
        raise UsageError(
            f"{who}: {sharded} is sharded over processes already (FSDP, tensor parallel), and units cannot leave a part of a tensor. Give "
            "the whole network to parsinet.distributed.Sharded(net, shard), which shards it with FSDP2, and again whenever units have left."
        )


def _sharded(model: nn.Module) -> str:
    """The first part of the model that is sharded; "" if none is. What nobody has imported, nobody has used."""
    tensors, sharding = sys.modules.get(TENSORS), sys.modules.get(SHARDING)
    kinds = tuple(kind for name in ("FullyShardedDataParallel", "FSDPModule") if (kind := getattr(sharding, name, None)) is not None)
    for name, module in model.named_modules():
        if isinstance(module, kinds):
            return f"module {name or type(module).__name__!r}"
    sharded = getattr(tensors, "DTensor", None)
    return next((name for name, parameter in model.named_parameters() if sharded is not None and isinstance(parameter, sharded)), "")
