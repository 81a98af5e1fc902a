"""Augmentation against a slow reference that handles one pixel at a time."""

import pytest
import torch
from torch import Tensor

from parsinet.data import Augmentation
from parsinet.errors import ArgumentTypeError, UsageError

OPTIONS = [
    Augmentation(crop_padding=2),
    Augmentation(flip=True),
    Augmentation(cutout=3),
    Augmentation(cutout=4),
    Augmentation(crop_padding=1, flip=True, cutout=2),
    Augmentation(crop_padding=9, flip=True, cutout=20),
]


def slow(images: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Crop, then flip, then cut, pixel by pixel; draws for the whole batch in the documented order: shifts, mirrors, hole rows, columns."""
    n, c, h, w = images.shape
    p = options.crop_padding
    shifts = torch.randint(-p, p + 1, (2, n, 1), generator=generator) if p else torch.zeros(2, n, 1, dtype=torch.int64)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5 if options.flip else torch.zeros(n, 1, dtype=torch.bool)
    centres = [torch.randint(length, (n, 1), generator=generator) if options.cutout else torch.zeros(n, 1) for length in (h, w)]
    result = torch.zeros_like(images)
    for i in range(n):
        for y in range(h):
            for x in range(w):
                top, left = (int(centre[i]) - options.cutout // 2 for centre in centres)
                if top <= y < top + options.cutout and left <= x < left + options.cutout:
                    continue
                from_y = y + int(shifts[0, i])
                from_x = (w - 1 - x if mirrored[i] else x) + int(shifts[1, i])
                if 0 <= from_y < h and 0 <= from_x < w:
                    for channel in range(c):
                        result[i, channel, y, x] = images[i, channel, from_y, from_x]
    return result


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_the_slow_reference(options: Augmentation) -> None:
    images = torch.randn(6, 2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    fast = options(images, torch.Generator().manual_seed(1))
    assert torch.equal(fast, slow(images, options, torch.Generator().manual_seed(1)))
    assert not torch.equal(fast, images)
    assert torch.equal(images, before)


def test_everything_off_changes_nothing() -> None:
    images = torch.randn(3, 1, 4, 4)
    assert torch.equal(Augmentation()(images, torch.Generator()), images)


def test_draws_are_uniform_and_per_image() -> None:
    images = torch.zeros(4000, 1, 5, 6)
    images[:, 0, 2, 3] = 1.0
    result = Augmentation(crop_padding=1)(images, torch.Generator().manual_seed(0))[:, 0]
    shares = result.mean(0)[1:4, 2:5]
    # nine places, p = 1/9, n = 4000: standard deviation 0.005; five of them
    torch.testing.assert_close(shares, torch.full((3, 3), 1 / 9), atol=0.025, rtol=0)
    mirrored = Augmentation(flip=True)(images, torch.Generator().manual_seed(0))[:, 0, 2, 2]
    assert abs(float(mirrored.mean()) - 0.5) < 0.04


@pytest.mark.parametrize("size", [1, 2, 3])
def test_cutout_covers_every_place_with_a_clipped_square(size: int) -> None:
    result = Augmentation(cutout=size)(torch.ones(500, 2, 4, 5), torch.Generator().manual_seed(0))
    holes = result == 0
    assert torch.equal(holes[:, 0], holes[:, 1])
    assert bool(holes.any(0).all())
    assert int(holes[:, 0].sum((1, 2)).max()) == size * size


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"crop_padding": -1}, UsageError, "crop_padding must be ≥ 0, got -1"),
        ({"cutout": -2}, UsageError, "cutout must be ≥ 0, got -2"),
        ({"cutout": 1.5}, ArgumentTypeError, "cutout must be a whole number of pixels, got 1.5"),
        ({"crop_padding": True}, ArgumentTypeError, "crop_padding must be a whole number"),
        ({"flip": 1}, ArgumentTypeError, "flip must be True or False, got 1"),
    ],
)
def test_refused_options(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Augmentation(**options)  # type: ignore[arg-type]


def test_refused_images() -> None:
    with pytest.raises(UsageError, match=r"shape \[n, c, h, w\], got \[2, 3\]"):
        Augmentation(flip=True)(torch.zeros(2, 3), torch.Generator())
