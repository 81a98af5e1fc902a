"""Fingerprints of data: equal where the data are, different where anything differs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from parsinet.data import Split, fingerprint

CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "one entry": lambda x: x.index_put((torch.tensor(0),), torch.tensor(1, dtype=x.dtype), accumulate=True),
    "order": lambda x: x.flip(0),
    "dtype": lambda x: x.to(torch.float64 if x.is_floating_point() else torch.int32),
}


def example() -> Split:
    generator = torch.Generator().manual_seed(0)
    return Split(torch.randn(5, 3, generator=generator), torch.randint(9, (5,), generator=generator))


def test_copies_and_other_strides_have_the_same_one() -> None:
    split = example()
    assert fingerprint(Split(split.inputs.t().contiguous().t(), split.targets.clone())) == fingerprint(split)


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_shows_where_it_is(what: str) -> None:
    split, change = example(), CHANGES[what]
    inputs, targets = fingerprint(Split(change(split.inputs), split.targets)), fingerprint(Split(split.inputs, change(split.targets)))
    whole = fingerprint(split)
    assert {key for key in whole if inputs[key] != whole[key]} == {"inputs"}
    assert {key for key in whole if targets[key] != whole[key]} == {"targets"}


def test_a_shape_shows() -> None:
    split = example()
    assert fingerprint(Split(split.inputs.view(5, 3, 1), split.targets))["inputs"] != fingerprint(split)["inputs"]
