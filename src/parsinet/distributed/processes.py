"""A job of several processes, as torchrun starts them: joined, left, and ended with one message whatever happens."""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed as dist

from parsinet.distributed.ranks import ALONE, Ranks, elsewhere, lost
from parsinet.errors import ParsinetError, ReplicaError, RunError, UsageError

TIMEOUT = datetime.timedelta(minutes=10)
"""How long one process waits for the others before it gives up."""
HEARING = 3.0
"""Seconds in which a failing process waits for word whether rank 0 fails too, and tells."""
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets, and torch reads."""
REASON, TOLD = "parsinet/reason", "parsinet/told"


def launched() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in VARIABLES) else 1


def device_of(name: str) -> str:
    """The device of this process: of several on one machine, each has a GPU of its own. UsageError where they are told to share one."""
    if launched() == 1 or not name.startswith("cuda"):
        return name
    if name != "cuda":
        raise UsageError(f"Device {name!r} names one GPU for {launched()} processes. Use cuda: every process takes its own.")
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


@contextlib.contextmanager
def joined(timeout: datetime.timedelta = TIMEOUT) -> Iterator[Ranks]:
    """Inside, the processes that torchrun has started form a group; ALONE without torchrun.

    gloo moves what lies on the CPU, NCCL what lies on a GPU. A group that is there already is used, and left as it is. An error ends the
    job with one message, see `one_message`.

    Errors: ReplicaError if the processes cannot reach each other; else whatever the block raises.
    """
    if dist.is_available() and dist.is_initialized():
        with one_message(Ranks.of()) as ranks:
            yield ranks
        return
    if launched() == 1:
        yield ALONE
        return
    _meet(timeout)
    try:
        with one_message(Ranks.of()) as ranks:
            yield ranks
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def one_message(ranks: Ranks) -> Iterator[Ranks]:
    """Inside, an error on any rank ends all of them: the others cannot reach the rank that has left.

    An error that all ranks raise is rank 0's to tell, one that a single rank raises its own. The errors that need not be told again have an
    attribute `elsewhere`; where a process has died without a word, the others say so.
    """
    try:
        yield ranks
    except BaseException as error:
        if ranks.size == 1 or hasattr(error, "elsewhere"):
            raise
        if lost(error) or lost(error.__cause__):
            raise _of_others(ranks) from error
        _leave(REASON, f"rank {ranks.rank}: {_words(error)}")
        if ranks.rank == 0:
            _leave(TOLD, "0")
        error.elsewhere = ranks.rank > 0 and bool(_left(TOLD))  # type: ignore[attr-defined]
        raise


def _meet(timeout: datetime.timedelta) -> None:
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=timeout))  # type: ignore[attr-defined]
        if os.environ.get("GROUP_WORLD_SIZE") == "1":  # torchrun keeps its store over restarts, and with it the addresses of the dead
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            store = dist.PrefixStore(f"parsinet/{attempt}", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    except (dist.DistError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ReplicaError(f"The {launched()} processes cannot reach each other ({reason}). See GLOO_SOCKET_IFNAME.") from error


def _of_others(ranks: Ranks) -> BaseException:
    """What this rank raises when it cannot reach another."""
    reason = _left(REASON)
    if reason:
        return elsewhere(RunError, f"The run has ended on {reason}")
    if ranks.rank == 0:
        _leave(TOLD, "0")
    elif _left(TOLD):
        return elsewhere(RunError, "Another process of this run is gone.")
    gone = ReplicaError(
        "Another process of this run has died or does not answer. What was saved last is whole: start the same processes with --resume."
    )
    gone.elsewhere = False  # type: ignore[attr-defined]
    return gone


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, ParsinetError) else f"{type(error).__name__}: {error}"


def _leave(key: str, message: str) -> None:
    """Write into the store of the job, unless somebody has."""
    with contextlib.suppress(RuntimeError):
        _store().compare_set(key, "", message)


def _left(key: str) -> str:
    """What somebody writes there within `HEARING`; "" if nobody does."""
    deadline = time.monotonic() + HEARING
    with contextlib.suppress(RuntimeError):
        while not _store().check([key]):
            if time.monotonic() > deadline:
                return ""
            time.sleep(0.05)
        return str(_store().get(key).decode())
    return ""


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()
