"""Batches shared by several processes: together the rows of one process's batches, augmented alike, resumable with any number of them."""

import pytest
import torch
from torch import Tensor

from parsinet.data import Augmentation, Batches, Split
from parsinet.errors import UsageError

AUGMENT = Augmentation(crop_padding=2, flip=True, cutout=2)


def split(count: int) -> Split:
    return Split(torch.randn(count, 2, 5, 6, generator=torch.Generator().manual_seed(0)), torch.arange(count))


def rows(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The whole batch of the parts of all ranks: row k is row k // size of rank k % size."""
    return tuple(torch.stack(own, 1).flatten(0, 1) for own in zip(*parts, strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize("size", [2, 3, 6])
@pytest.mark.parametrize("augment", [None, AUGMENT])
def test_ranks_share_the_batches_of_one_process(size: int, augment: Augmentation | None) -> None:
    whole = Batches(split(30), 12, seed=1, augment=augment)
    shares = [Batches(split(30), 12, seed=1, augment=augment, rank=rank, world_size=size) for rank in range(size)]
    for _ in range(2):
        assert {len(share) for share in shares} == {len(whole)} == {3}
        for (inputs, targets), *parts in zip(whole, *shares, strict=True):
            found_inputs, found_targets = rows(parts)
            assert torch.equal(found_targets, targets)
            assert torch.equal(found_inputs, inputs)


@pytest.mark.parametrize("rest", [1, 2, 3])
def test_a_last_batch_is_filled_up_with_its_own_first_rows(rest: int) -> None:
    whole = list(Batches(split(8 + rest), 8))[-1][1].tolist()
    parts = [list(Batches(split(8 + rest), 8, rank=rank, world_size=4))[-1][1].tolist() for rank in range(4)]
    assert [part[0] for part in parts] == (whole * 4)[:4]
    assert {len(part) for part in parts} == {1}


def test_a_position_holds_for_any_number_of_processes() -> None:
    two = Batches(split(40), 8, seed=2, augment=AUGMENT, rank=1, world_size=2)
    iterator = iter(two)
    next(iterator), next(iterator)
    for size in (1, 4):
        shares = [Batches(split(40), 8, augment=AUGMENT, rank=rank, world_size=size) for rank in range(size)]
        for share in shares:
            share.load_state_dict(two.state_dict())
        found_inputs, found_targets = rows([next(iter(share)) for share in shares])
        own = next(iter(_at(two)))
        assert torch.equal(found_inputs[1::2], own[0])
        assert torch.equal(found_targets[1::2], own[1])


def _at(batches: Batches) -> Batches:
    again = Batches(split(40), 8, augment=AUGMENT, rank=batches.rank, world_size=batches.world_size)
    again.load_state_dict(batches.state_dict())
    return again


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"world_size": 3}, "3 cannot share it evenly. Take a multiple of 3"),
        ({"rank": 2, "world_size": 2}, "rank must be below world_size 2, got 2"),
        ({"rank": -1}, "rank must be ≥ 0"),
        ({"world_size": 0}, "world_size must be ≥ 1"),
    ],
)
def test_shares_that_cannot_be_are_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Batches(split(20), 8, **options)  # type: ignore[arg-type]
