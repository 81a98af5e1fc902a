"""Several processes that train one network: replicas that lose the same units, means over ranks, digests that compare them."""

from parsinet.distributed.digest import digest
from parsinet.distributed.pooling import pooled
from parsinet.distributed.processes import device_of, joined, launched, one_message
from parsinet.distributed.ranks import ALONE, Ranks, lost, reached
from parsinet.distributed.replicas import Replicas, check_whole, opened
from parsinet.distributed.streams import mixed, own

__all__ = [
    "ALONE",
    "Ranks",
    "Replicas",
    "check_whole",
    "device_of",
    "digest",
    "joined",
    "launched",
    "lost",
    "mixed",
    "one_message",
    "opened",
    "own",
    "pooled",
    "reached",
]
