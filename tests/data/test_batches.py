"""Batches: each example once per epoch, an order that depends on (seed, epoch) only, and bitwise resume anywhere."""

from typing import Any

import pytest
import torch
from torch import Tensor

from parsinet.data import Augmentation, Batches, Split
from parsinet.errors import ArgumentTypeError, UsageError

AUGMENT = Augmentation(crop_padding=2, flip=True, cutout=2)


def split(count: int = 23) -> Split:
    generator = torch.Generator().manual_seed(0)
    return Split(torch.randn(count, 2, 5, 6, generator=generator), torch.arange(count))


def equal(first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True))


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [5, 5, 5, 5, 3]), (True, [5, 5, 5, 5])])
@pytest.mark.parametrize("shuffle", [True, False])
def test_one_epoch_gives_each_example_once(drop_last: bool, sizes: list[int], shuffle: bool) -> None:
    data = split()
    batches = Batches(data, 5, shuffle=shuffle, drop_last=drop_last)
    seen = list(batches)
    assert [len(targets) for _, targets in seen] == sizes
    assert len(batches) == len(sizes)
    order = torch.cat([targets for _, targets in seen])
    assert len(order.unique()) == sum(sizes)
    assert shuffle == (order.tolist() != sorted(order.tolist()))
    assert torch.equal(torch.cat([inputs for inputs, _ in seen]), data.inputs[order])


def test_order_depends_on_seed_and_epoch_only() -> None:
    first, second = Batches(split(), 4, seed=1), Batches(split(), 4, seed=1)
    epochs = [list(first) for _ in range(3)]
    second.load_state_dict({"seed": 1, "epoch": 2, "position": 0})
    torch.manual_seed(123)
    assert equal(epochs[2], list(second))
    assert not equal(epochs[0], epochs[1])
    assert not equal(epochs[0], list(Batches(split(), 4, seed=2)))
    other_size = torch.cat([targets for _, targets in Batches(split(), 7, seed=1)])
    assert torch.equal(other_size, torch.cat([targets for _, targets in epochs[0]])), "the batch size does not change the order"


def test_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    list(Batches(split(), 4, augment=AUGMENT))
    assert torch.equal(before, torch.get_rng_state())


def test_state_counts_what_was_handed_out() -> None:
    batches = Batches(split(), 5, seed=3)
    for count, _ in enumerate(batches, start=1):
        assert batches.state_dict() == {"seed": 3, "epoch": 0, "position": count}
    assert batches.state_dict() == {"seed": 3, "epoch": 1, "position": 0}


@pytest.mark.parametrize("stop", range(6))
@pytest.mark.parametrize("augment", [None, AUGMENT])
def test_resume_inside_an_epoch_is_bitwise(stop: int, augment: Augmentation | None) -> None:
    whole = Batches(split(), 5, seed=7, augment=augment)
    expected = [batch for _ in range(3) for batch in whole]
    begun = Batches(split(), 5, seed=7, augment=augment)
    done = list(begun)
    for batch in begun:
        if begun.position > stop:
            break
        done.append(batch)
        state = begun.state_dict()
    if stop == 0:
        state = {"seed": 7, "epoch": 1, "position": 0}
    resumed = Batches(split(), 5, seed=0, augment=augment)
    resumed.load_state_dict(state)
    rest = list(resumed)
    assert resumed.epoch == 2
    assert equal(done + rest + list(resumed), expected)


def test_a_loop_left_early_goes_on_where_it_stopped() -> None:
    expected = list(Batches(split(), 5))
    batches = Batches(split(), 5)
    first = next(iter(batches))
    assert equal([first, *batches], expected)


def test_augmentation_differs_between_batches_and_epochs() -> None:
    same = Split(torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(6, 1, 1, 1), torch.zeros(6, dtype=torch.int64))
    batches = Batches(same, 2, augment=AUGMENT)
    seen = [inputs for _ in range(2) for inputs, _ in batches]
    assert all(not torch.equal(a, b) for at, a in enumerate(seen) for b in seen[:at])


def test_batches_are_copies() -> None:
    data = split()
    before = data.inputs.clone()
    for inputs, targets in Batches(data, 5, shuffle=False):
        inputs.zero_()
        targets.zero_()
    assert torch.equal(data.inputs, before)
    assert torch.equal(data.targets, torch.arange(23))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, UsageError, "Batches: batch_size must be ≥ 1, got 0"),
        ({"batch_size": 2.0}, ArgumentTypeError, "Batches: batch_size must be a whole number, got 2.0"),
        ({"seed": -1}, UsageError, "Batches: seed must be ≥ 0, got -1"),
        ({"batch_size": 24, "drop_last": True}, UsageError, "drop_last with batch_size 24 leaves no batch of 23 examples"),
    ],
)
def test_refused_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Batches(split(), **{"batch_size": 5, **options})


def test_only_images_can_be_augmented() -> None:
    with pytest.raises(UsageError, match=r"only images \[n, c, h, w\] can be augmented, got inputs \[3, 4\]"):
        Batches(Split(torch.zeros(3, 4), torch.zeros(3)), 1, augment=AUGMENT)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({"seed": 0, "epoch": 0}, UsageError, "a state has seed, epoch and position, got seed, epoch"),
        ({"seed": 0, "epoch": 0, "position": 6}, UsageError, "position 6 is beyond the 5 batches"),
        ({"seed": 0, "epoch": -1, "position": 0}, UsageError, "epoch must be ≥ 0"),
        ({"seed": 0, "epoch": 1.5, "position": 0}, ArgumentTypeError, "epoch must be a whole number"),
    ],
)
def test_refused_states(state: dict[str, Any], error: type[Exception], message: str) -> None:
    batches = Batches(split(), 5)
    with pytest.raises(error, match=message):
        batches.load_state_dict(state)
    assert batches.state_dict() == {"seed": 0, "epoch": 0, "position": 0}


@pytest.mark.parametrize(
    ("inputs", "targets", "error", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(2), UsageError, "equally many, got 3 and 2"),
        (torch.zeros(0, 2), torch.zeros(0), UsageError, "at least one example"),
        ([1, 2], torch.zeros(2), ArgumentTypeError, "inputs must be a Tensor, got list"),
        (torch.tensor(1.0), torch.zeros(2), UsageError, "first dimension"),
    ],
)
def test_refused_splits(inputs: Any, targets: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Split(inputs, targets)
