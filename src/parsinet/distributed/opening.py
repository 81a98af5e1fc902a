"""What a model given by the user is: the network itself, what holds its processes together, and who these are."""

from __future__ import annotations

from torch import distributed as dist
from torch import nn

from parsinet.distributed.ranks import ALONE, Ranks
from parsinet.distributed.replicas import Replicas, check_whole
from parsinet.distributed.sharded import Sharded
from parsinet.errors import UsageError

COMPILED = "_orig_mod"
"""Where `torch.compile` keeps the network it has wrapped."""
Together = Replicas | Sharded
"""One network in several processes."""


def opened(model: nn.Module, who: str) -> tuple[nn.Module, Together | None, Ranks]:
    """What is pruned of the network, what holds it together if it trains in several processes, and these processes.

    What `torch.compile` has wrapped is opened: its names are those of the network itself.
    Errors: UsageError for a network in a wrapper of torch's or with sharded parameters, and for a bare one where several processes train.
    """
    if isinstance(model, Replicas):
        return model.part, model, model.ranks
    if isinstance(model, Sharded):
        return model.module, model, model.ranks
    model = getattr(model, COMPILED, model)
    check_whole(model, who)
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        raise UsageError(
            f"{who}: {dist.get_world_size()} processes train here, and a network of one of them alone would go its own way. Give "
            "parsinet.distributed.Replicas(net), also in the place of DDP; if each process trains a network of its own, give "
            "Replicas(net, process_group=...) a group of this process alone."
        )
    return model, None, ALONE
