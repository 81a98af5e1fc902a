"""Standardisation: numbers come from the training part alone and agree with plain float64 arithmetic."""

import pytest
import torch

from parsinet.data.standardise import CHUNK, Raw, finish, moments, standardise
from parsinet.errors import DataError, UsageError


def raw(largest: int = 255) -> Raw:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(largest + 1, (50, 3, 4, 5), dtype=torch.uint8, generator=generator)
    images[:, 1] = images[:, 1] // 2
    labels = torch.arange(50) % 5
    return Raw("made", tuple("abcde"), (images[:40], labels[:40]), (images[40:], labels[40:]), largest)


@pytest.mark.parametrize("largest", [255, 16])
def test_uint8_moments_are_those_of_the_scaled_pixels(largest: int) -> None:
    images = raw(largest).train[0]
    pixels = images.double() / largest
    mean, std = moments(images, largest)
    torch.testing.assert_close(mean, pixels.mean((0, 2, 3)), rtol=1e-12, atol=0)
    torch.testing.assert_close(std, pixels.std((0, 2, 3), correction=0), rtol=1e-12, atol=0)


def test_training_part_has_mean_zero_and_spread_one() -> None:
    data = finish(raw(), 0.0, 0)
    values = data.train.inputs.double()
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(values.std((0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert data.train.inputs.dtype == torch.float32
    assert data.validation is None


def test_numbers_come_from_the_training_part_only() -> None:
    source = raw()
    first = finish(source, 0.25, 3)
    assert first.validation is not None
    assert (len(first.train), len(first.validation)) == (30, 10)
    assert torch.bincount(first.validation.targets).tolist() == [2] * 5
    shift, spread = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (first.mean, first.std))
    levels = ((first.train.inputs * spread + shift) * 255).round().to(torch.uint8)
    torch.testing.assert_close(moments(levels)[0], torch.tensor(first.mean, dtype=torch.float64), rtol=1e-12, atol=0)
    changed = Raw("made", source.classes, source.train, (torch.zeros_like(source.test[0]), source.test[1]))
    assert finish(changed, 0.25, 3).mean == first.mean
    assert finish(source, 0.25, 4).mean != first.mean, "another validation part, another mean"


def test_constant_channels_have_spread_one() -> None:
    columns = torch.full((9, 2), 0.1, dtype=torch.float64)
    columns[:, 1] = torch.arange(9)
    mean, std = moments(columns)
    assert std.tolist()[0] == 1.0
    assert std.tolist()[1] > 2
    torch.testing.assert_close(standardise(columns, mean, std)[:, 0], torch.zeros(9), atol=1e-7, rtol=0)


def test_chunks_leave_no_seam() -> None:
    values = torch.randn(2 * CHUNK + 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, std = moments(values)
    assert torch.equal(standardise(values, mean, std), ((values - mean) / std).float())


def test_validation_too_small() -> None:
    with pytest.raises(UsageError, match=r"validation=0\.001 of 40 training examples leaves none"):
        finish(raw(), 0.001, 0)


def test_a_spread_that_is_no_number_is_refused() -> None:
    inputs, labels = torch.tensor([[1e200], [-1e200], [0.0], [1.0]], dtype=torch.float64), torch.tensor([0, 1, 0, 1])
    with pytest.raises(DataError, match="spread is no finite number"):
        finish(Raw("huge", ("a", "b"), (inputs, labels), (inputs, labels)), 0, 0)


def test_what_inputs_were_divided_by_is_told() -> None:
    labels = torch.tensor([0, 1])
    for inputs, told in ((torch.tensor([[[[9]]], [[[0]]]], dtype=torch.uint8), 16), (torch.rand(2, 1, 1, 1, dtype=torch.float64), 1)):
        assert finish(Raw("some", ("a", "b"), (inputs, labels), (inputs, labels), largest=16), 0, 0).divided_by == told
