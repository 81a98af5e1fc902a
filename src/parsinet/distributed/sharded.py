"""A network whose parameters are spread over several processes by torch's FSDP2, built anew and smaller whenever units have left."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from parsinet.distributed.ranks import Ranks, reached
from parsinet.distributed.replicas import TENSORS, check_group, check_whole
from parsinet.errors import UsageError

Shard = Callable[[nn.Module], object]
"""Calls `fully_shard` on the parts of a network, and last on the whole of it."""


class Sharded(nn.Module):
    """Your network with its parameters, gradients and optimizer state spread over all ranks by `fully_shard`; call it as the network.

        def shard(net):                                                  # as you would without parsinet
            for block in net.blocks:
                fully_shard(block)
            fully_shard(net)

        method.prepare(net)                                              # plain and whole, on the CPU
        model = pn.distributed.Sharded(net, shard)
        optimizer = torch.optim.Adam(method.param_groups(model.module), lr=1e-3)
        pruner = pn.Pruner(model, optimizer, method, example_inputs, steps=steps)
        ...                                                              # the loop of `Replicas`
        pruner.finish()
        lean = model.whole()                                             # plain, on rank 0; pn.save(lean, folder)

    FSDP cuts every parameter into equal pieces when it is called, so units leave in three acts: a network of the smaller shapes is built
    without memory, `shard` shards it, and what remains of each parameter and of its optimizer state is put into it, one tensor at a time.
    module: the sharded network. **After a removal it is another object**: hold none of its parts; the optimizer stays the same object.
    What you have set on modules since the start, hooks for example, is not on the new one; training or evaluation mode is.

    shard: default `fully_shard` of the network as one part. The first sharding gives every rank the weights of rank 0.

    Errors: UsageError if no process group is there, the network is wrapped, sharded or without values, or `shard` leaves parameters
    whole or spreads them otherwise than over all processes in one dimension.
    """

    def __init__(self, module: nn.Module, shard: Shard | None = None) -> None:
        super().__init__()
        check_group("Sharded")
        check_whole(module, "Sharded")
        _check_values(module)
        self.ranks = Ranks.of()
        self._shard = shard or _as_one
        self._outline = hollowed(module)
        self._send([*module.parameters(), *module.buffers()])
        self.module = self.spread(module)

    @property
    def rank(self) -> int:
        """Of this process, from 0."""
        return self.ranks.rank

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        return self.ranks.size

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's output. A collective, with gradients and without: every rank calls it equally often."""
        return self.module(*args, **kwargs)

    def whole(self) -> nn.Module | None:
        """The network as plain modules with whole parameters on the CPU of rank 0; None on the others, which send their parts.

        A collective. It takes one parameter at a time on the devices, and the whole network in the memory of rank 0's machine.
        """
        self.reshard()
        memo: dict[int, object] = {}
        for hollow, parameter in zip(self._outline.parameters(), self.module.parameters(), strict=True):
            with reached():
                full = gathered(parameter.detach())
            if self.rank == 0:
                memo[id(hollow)] = _parameter(full.to("cpu", copy=True), parameter)
        if self.rank > 0:
            return None
        for old, buffer in zip(self._outline.buffers(), self.module.buffers(), strict=True):
            memo[id(old)] = buffer.detach().to("cpu", copy=True)
        return _in_mode_of(self.module, copy.deepcopy(self._outline, memo))

    def reshard(self) -> None:
        """Let go of what a forward pass has left whole; a pass without gradients leaves the outermost part so."""
        from torch.distributed.fsdp import FSDPModule

        for module in self.module.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    @torch.no_grad()
    def align(self, *beside: nn.Module) -> None:
        """Give every rank the buffers of rank 0, of the network and of others that go along with it."""
        for network in (self.module, *beside):
            self._send(network.buffers())

    @contextmanager
    def loosened(self) -> Iterator[None]:
        """Inside, parameters are what the optimizer holds: this rank's parts."""
        self.reshard()
        yield

    def outline(self) -> nn.Module:
        """The network as plain modules whose parameters have shapes and no values; buffers are copies of its own."""
        twin = copy.deepcopy(self._outline, {id(old): new.clone() for old, new in _pairs(self._outline.buffers(), self.module.buffers())})
        for hollow, parameter in _pairs(twin.parameters(), self.module.parameters()):
            hollow.requires_grad_(parameter.requires_grad)
        return _in_mode_of(self.module, twin)

    def spread(self, module: nn.Module) -> nn.Module:
        """The module sharded, in place; what has no values gets none."""
        self._shard(module)
        for name, parameter in module.named_parameters():
            mesh = getattr(parameter, "device_mesh", None)
            if mesh is None:
                raise UsageError(f"Sharded: shard leaves {name} whole on every process. Let it end with fully_shard(net).")
            if mesh.ndim != 1 or mesh.size() != self.ranks.size:
                raise UsageError(
                    f"Sharded: shard spreads {name} over a mesh of shape {tuple(mesh.shape)}, and {self.ranks.size} processes train. "
                    "Only one dimension over all of them is supported."
                )
        return module

    def become(self, outline: nn.Module, module: nn.Module, parts: Mapping[str, Tensor]) -> None:
        """Be this network from now on: `module`, made by `spread` from a copy of `outline`, with the parts of parameters by name.

        The network of before loses its memory, whoever still holds it.
        """
        aliases = {alias: name for name, alias in _aliases(outline)}
        module.load_state_dict(dict(parts), strict=False, assign=True)
        for alias, name in aliases.items():
            path, _, last = alias.rpartition(".")
            setattr(module.get_submodule(path), last, module.get_parameter(name))
        before, self.module, self._outline = self.module, module, outline
        before.zero_grad()  # what is kept of the gradients has been taken
        before.to("meta")

    @torch.no_grad()
    def _send(self, tensors: Any) -> None:
        """Rank 0's values to all ranks, in place."""
        for tensor in tensors:
            group = self.ranks.control if tensor.device.type == "cpu" else self.ranks.group
            with reached():
                dist.broadcast(tensor.detach(), dist.get_global_rank(group, 0), group=group)


def hollowed(module: nn.Module) -> nn.Module:
    """A deep copy whose parameters have shapes and no memory; ties and attributes of parameters stay."""
    hollow = {id(parameter): _parameter(torch.empty_like(parameter, device="meta"), parameter) for parameter in module.parameters()}
    return copy.deepcopy(module, dict(hollow))


def gathered(tensor: Tensor) -> Tensor:
    """A sharded tensor as a whole on every rank, a collective; another one as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def scattered(whole: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a whole tensor that all ranks have, spread as `like` is; with memory of its own."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]


def is_sharded(value: object) -> bool:
    """Whether it is a tensor spread over processes. What nobody has imported, nobody has used."""
    kind = getattr(sys.modules.get(TENSORS), "DTensor", None)
    return kind is not None and isinstance(value, kind)


def _as_one(module: nn.Module) -> None:
    from torch.distributed.fsdp import fully_shard

    fully_shard(module)


def _parameter(data: Tensor, like: nn.Parameter) -> nn.Parameter:
    made = nn.Parameter(data, like.requires_grad)
    made.__dict__.update(like.__dict__)
    return made


def _pairs(hollow: Iterator[Any], full: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(hollow, full, strict=True)


def _in_mode_of(model: nn.Module, twin: nn.Module) -> nn.Module:
    """The twin with every module in training or evaluation mode as the model's."""
    for module, other in zip(model.modules(), twin.modules(), strict=True):
        other.training = module.training
    return twin


def _aliases(module: nn.Module) -> Iterator[tuple[str, str]]:
    """(name, further name) of every parameter that is shared."""
    first: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            yield first[id(parameter)], name
        first.setdefault(id(parameter), name)


def _check_values(module: nn.Module) -> None:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta or isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
            raise UsageError(f"Sharded: {name} has no values yet. Build the network on the CPU: units are found by running a copy of it.")
