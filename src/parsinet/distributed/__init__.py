"""Several processes that train one network, as replicas or in shards: the same units leave; means over ranks, digests that compare."""

from parsinet.distributed.digest import digest
from parsinet.distributed.opening import Together, opened
from parsinet.distributed.pooling import pooled
from parsinet.distributed.processes import device_of, joined, launched, one_message
from parsinet.distributed.ranks import ALONE, Ranks, lost, reached
from parsinet.distributed.replicas import Replicas, check_whole
from parsinet.distributed.sharded import Sharded, gathered, is_sharded, scattered
from parsinet.distributed.streams import mixed, own

__all__ = [
    "ALONE",
    "Ranks",
    "Replicas",
    "Sharded",
    "Together",
    "check_whole",
    "device_of",
    "digest",
    "gathered",
    "is_sharded",
    "joined",
    "launched",
    "lost",
    "mixed",
    "one_message",
    "opened",
    "own",
    "pooled",
    "reached",
    "scattered",
]
