"""Other libraries under the recipe of a suite: what each needs, why one is left out, and the training it does."""

from collections.abc import Mapping
from types import MappingProxyType

from parsinet.bench.peers.geotorch import low_rank
from parsinet.bench.peers.peer import Peer
from parsinet.bench.peers.torch_pruning import torch_pruning
from parsinet.bench.peers.torchao import torchao

PEERS: Mapping[str, Peer] = MappingProxyType(
    {
        "torch-pruning": Peer(
            "torch_pruning",
            "Torch-Pruning",
            {"importance": "group-magnitude", "share": None, "fixed": None, "begin": 0.5},
            torch_pruning,
        ),
        "torchao": Peer(
            "torchao.prototype.pat.optim",
            "torchao",
            {"lam": None, "fixed": None, "begin": 0.6, "groups": "rows"},
            torchao,
        ),
        "geotorch": Peer("geotorch", "geotorch", {"rank": None, "fixed": None}, low_rank),
    }
)

__all__ = ["PEERS", "Peer", "low_rank", "torch_pruning", "torchao"]
