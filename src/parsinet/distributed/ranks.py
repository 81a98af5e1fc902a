"""The processes that train one network together: who this one is, and what all of them know."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from parsinet.errors import ParsinetError, ReplicaError, RunError

T = TypeVar("T")
LOST = ("gloo", "NCCL", "ncclRemoteError", "Connection closed", "Connection reset", "Broken pipe", "timeout caused pair closure")
"""What torch's errors say when another process is gone or silent; they have no type of their own on every backend."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """One process of several, `rank` of `size`; alone by default, and then nothing is sent.

    Every method below is a collective: all ranks call it, in the same order. group: where tensors are reduced. control: a group on the CPU
    for flags and objects, the same one where that is gloo's.

    Errors: ReplicaError if another process is gone or does not answer within the group's timeout.
    """

    rank: int = 0
    size: int = 1
    group: Any = None
    control: Any = None

    @classmethod
    def of(cls, group: Any = None) -> Ranks:
        """The ranks of a process group, None for the default one. A collective itself where the group's backend is not gloo."""
        group = dist.group.WORLD if group is None else group
        on_cpu = "cpu:gloo" in dist.get_backend_config(group)
        control = group if on_cpu else dist.new_group(dist.get_process_group_ranks(group), backend="gloo")
        return cls(dist.get_rank(group), dist.get_world_size(group), group, control)

    def __deepcopy__(self, memo: object) -> Ranks:
        """Copies of a network share the processes it trains in."""
        return self

    @torch.no_grad()
    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The mean of each tensor over all ranks, in one all-reduce; bitwise the same on every rank."""
        if self.size == 1:
            return list(tensors)
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        with reached():
            dist.all_reduce(flat, group=self.group)
        parts = torch.split(flat.div_(self.size), [tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape).to(tensor.dtype) for part, tensor in zip(parts, tensors, strict=True)]

    def mean_number(self, value: float) -> float:
        """The mean of a number over all ranks."""
        return value if self.size == 1 else sum(self.gather(value)) / self.size

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on some rank."""
        if self.size == 1:
            return flag
        raised = torch.tensor([int(flag)])
        with reached():
            dist.all_reduce(raised, group=self.control)
        return bool(raised.item())

    def gather(self, value: T) -> list[T]:
        """Everybody's value, by rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with reached():
            dist.all_gather_object(found, value, group=self.control)
        return found

    def first(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, on all ranks; an error it raises is raised on all of them."""
        if self.size == 1:
            return make()
        told: list[Any] = [None]
        if self.rank == 0:
            try:
                told = [(make(), None)]
            except Exception as error:
                self._send([(None, (type(error), str(error)))])
                raise
        value, failure = self._send(told)
        if failure is not None:
            raise elsewhere(*failure)
        return value  # type: ignore[no-any-return]

    def _send(self, told: list[Any]) -> Any:
        """Rank 0's object, on all ranks."""
        with reached():
            dist.broadcast_object_list(told, src=dist.get_global_rank(self.control, 0), group=self.control)
        return told[0]

    def compare(self, parts: dict[str, int], when: str) -> None:
        """Refuse replicas that differ. parts: name → digest, the same names everywhere.

        Errors: ReplicaError, on every rank, that names the parts and the ranks that are not as rank 0 has them.
        """
        if self.size == 1:
            return
        own = torch.tensor(list(parts.values()), dtype=torch.int64)
        everybody = [torch.empty_like(own) for _ in range(self.size)]
        with reached():
            dist.all_gather(everybody, own, group=self.control)
        differing = [
            (rank, name) for rank, row in enumerate(everybody) for name, same in zip(parts, row == everybody[0], strict=True) if not same
        ]
        if differing:
            names = " and ".join(dict.fromkeys(name for _, name in differing))
            ranks = ", ".join(str(rank) for rank in sorted({rank for rank, _ in differing}))
            raise ReplicaError(
                f"The replicas differ {when}: {names} of rank {ranks} and rank 0 are not the same. Every process must make the same calls "
                "on the same network, with the same options and seeds; only the batches may differ."
            )


ALONE = Ranks()
"""The only process there is."""


@contextlib.contextmanager
def reached() -> Iterator[None]:
    """Inside, what torch says when another process is gone becomes a ReplicaError."""
    try:
        yield
    except (dist.DistError, RuntimeError) as error:
        if not lost(error):
            raise
        raise ReplicaError(
            "Another process of this training is gone or does not answer. Its own message, if it left one, says why."
        ) from error


def elsewhere(kind: type[BaseException], message: str) -> BaseException:
    """An error that another rank has raised, and tells: of the same kind if that is one of parsinet's, marked so that nobody repeats it."""
    plain = issubclass(kind, ParsinetError) and isinstance(kind.__init__, type(Exception.__init__))  # takes the message alone
    error = kind(message) if plain else RunError(message)
    error.elsewhere = True  # type: ignore[attr-defined]
    return error


def lost(error: BaseException | None) -> bool:
    """Whether an error says that another process is gone or does not answer."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and any(word in str(error) for word in LOST))
