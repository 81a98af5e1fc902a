"""Random crops, flips and holes for a whole batch of images at once."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from parsinet.errors import ArgumentTypeError, UsageError


@dataclass(frozen=True)
class Augmentation:
    """What is done to each image at random, in this order; everything off by default.

    crop_padding: p > 0 shifts the image by up to p pixels each way, uniformly; what comes in from outside is zero, which is the mean
        of standardised images (He et al. 2015, arXiv:1512.03385: p = 4).
    flip: mirrors left and right with probability ½.
    cutout: s > 0 sets a square of s×s pixels to zero, its centre anywhere in the image, clipped at the border
        (DeVries and Taylor 2017, arXiv:1708.04552).
    """

    crop_padding: int = 0
    flip: bool = False
    cutout: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.flip, bool):
            raise ArgumentTypeError(f"Augmentation: flip must be True or False, got {self.flip!r}.")
        for name, value in (("crop_padding", self.crop_padding), ("cutout", self.cutout)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise ArgumentTypeError(f"Augmentation: {name} must be a whole number of pixels, got {value!r}.")
            if value < 0:
                raise UsageError(f"Augmentation: {name} must be ≥ 0, got {value}.")

    def check(self, height: int, width: int) -> None:
        """UsageError where images of this size could lose everything at once."""
        for name, value, most in (("crop_padding", self.crop_padding, min(height, width)), ("cutout", self.cutout, 2 * max(height, width))):
            if value >= most:
                raise UsageError(f"Augmentation: {name} must be below {most} for images of {height} × {width}, got {value}.")

    def __call__(self, images: Tensor, generator: torch.Generator, *, rows: Tensor | None = None, batch: int | None = None) -> Tensor:
        """New images [n, c, h, w], each changed on its own; every draw comes from `generator`, a CPU one for images on any device.

        rows [n], batch: the images are these rows of a batch of so many, and are changed as they would be in the whole of it.
        One gather does all: each pixel of the result looks up its place in the zero-padded image, a pixel in the hole looks up
        the padding's corner.
        """
        if images.dim() != 4:
            raise UsageError(f"Augmentation: images must have shape [n, c, h, w], got {list(images.shape)}.")
        if not (self.crop_padding or self.flip or self.cutout):
            return images
        n, c, h, w = images.shape
        margin = max(self.crop_padding, 1)
        padded = pad(images, (margin, margin, margin, margin))
        drawn, own = (n, torch.arange(n)) if rows is None else (batch or n, rows.cpu())
        source = self._sources(drawn, own, h, w, margin, generator).to(images.device)
        return padded.flatten(2).gather(2, source.view(n, 1, h * w).expand(n, c, h * w)).view(n, c, h, w)

    def _sources(self, n: int, own: Tensor, h: int, w: int, margin: int, generator: torch.Generator) -> Tensor:
        """For each pixel of the result, [len(own), h, w], the flat index in the padded image it is taken from; draws are for all n."""
        rows = torch.arange(margin, margin + h).repeat(len(own), 1)
        columns = torch.arange(margin, margin + w).repeat(len(own), 1)
        if self.crop_padding:
            shifts = torch.randint(-self.crop_padding, self.crop_padding + 1, (2, n, 1), generator=generator)[:, own]
            rows, columns = rows + shifts[0], columns + shifts[1]
        if self.flip:
            mirrored = torch.rand(n, 1, generator=generator)[own] < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        source = rows.unsqueeze(2) * (w + 2 * margin) + columns.unsqueeze(1)
        if self.cutout:
            hole = self._inside(h, n, own, generator).unsqueeze(2) & self._inside(w, n, own, generator).unsqueeze(1)
            source.masked_fill_(hole, 0)
        return source

    def _inside(self, length: int, n: int, own: Tensor, generator: torch.Generator) -> Tensor:
        """Whether each of `length` places lies in the hole, [len(own), length]; it begins ⌊cutout/2⌋ before its centre."""
        begin = torch.randint(length, (n, 1), generator=generator)[own] - self.cutout // 2
        places = torch.arange(length)
        return (places >= begin) & (places < begin + self.cutout)
