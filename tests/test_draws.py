"""Random numbers of torch, Python and NumPy: what a block draws is not missed after it, and a pass can be repeated."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.random import PCG64
from torch import nn

from parsinet.draws import Place, kept


def drawn() -> tuple[float, float, float]:
    """The next number of each generator; a normal one of NumPy's leaves a second one behind."""
    return random.gauss(), float(np.random.standard_normal()), float(torch.rand(()))


def test_what_is_drawn_within_is_not_missed_afterwards() -> None:
    with kept(nn.Linear(2, 2)):
        expected = drawn()
    with pytest.raises(ZeroDivisionError), kept():
        sum(drawn()) / 0
    assert drawn() == expected
    assert drawn() != expected


def test_a_place_is_drawn_from_again_and_again_and_torch_goes_on() -> None:
    place = Place.now()
    passes = []
    for _ in range(3):
        with place.drawn_from():
            passes.append(drawn())
    assert len({found[:2] for found in passes}) == 1
    assert len({found[2] for found in passes}) == 3
    assert place.moved(Place.now()) == []


def test_places_beyond_give_other_numbers_and_always_the_same() -> None:
    start = Place.now()
    numbers = []
    for place in (start, *start.beyond(4), *start.beyond(4)):
        with place.drawn_from():
            numbers.append(drawn()[:2])
    assert len(set(numbers[:5])) == 5
    assert numbers[5:] == numbers[1:5]
    assert start.moved(Place.now()) == []


def test_who_has_drawn_is_told() -> None:
    start = Place.now()
    np.random.rand()
    assert start.moved(Place.now()) == ["NumPy"]
    random.random()
    assert start.moved(Place.now()) == ["Python", "NumPy"]


@pytest.fixture
def _another_generator() -> Iterator[None]:
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(PCG64(1))
    yield
    np.random.set_bit_generator(before)


@pytest.mark.usefixtures("_another_generator")
def test_another_generator_of_numpys_is_kept_too() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with kept():
            expected = drawn()
        start = Place.now()
        assert len(start.beyond(2)) == 2
        assert drawn() == expected
    assert start.moved(Place.now()) == ["Python", "NumPy"]
