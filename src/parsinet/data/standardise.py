"""From what a reader found to a `Dataset`: cut off the validation part, then standardise everything by the training part."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from parsinet.data.dataset import Dataset, Split
from parsinet.data.splitting import stratified
from parsinet.errors import DataError, UsageError

CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Raw:
    """A classification data set as it lies on the disk.

    train, test: (inputs, labels); inputs uint8 [n, c, h, w] (images) or float64 [n, c, h, w] or [n, columns]; labels int64 [n].
    largest: what white is in uint8 images; they are divided by it.
    """

    name: str
    classes: tuple[str, ...]
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    largest: int = 255


def finish(raw: Raw, validation: float, seed: int) -> Dataset:
    """Cut `validation` (a fraction of the training part) off by class, then standardise all splits by the rest.

    Raises UsageError for a fraction so small that no example would be held out, DataError for values that float32 cannot hold.
    """
    inputs, labels = raw.train
    held = None
    if validation > 0:
        kept, chosen = stratified(labels, validation, seed)
        if len(chosen) == 0:
            raise UsageError(f"load: validation={validation} of {len(labels)} training examples leaves none to validate on; use more.")
        held = (inputs[chosen], labels[chosen])
        inputs, labels = inputs[kept], labels[kept]
    mean, std = moments(inputs, raw.largest)
    if not bool(std.isfinite().all()):
        raise DataError(f"{raw.name}: values are so large that their spread is no finite number; look for an outlier.")

    def split(part: tuple[Tensor, Tensor]) -> Split:
        values = standardise(part[0], mean, std, raw.largest)
        if part[0].is_floating_point() and not bool(values.isfinite().all()):
            raise DataError(
                f"{raw.name}: a value is too large, or too far from the training part's mean, for float32; look for an outlier."
            )
        return Split(values, part[1])

    return Dataset(
        name=raw.name,
        task="classification",
        train=split((inputs, labels)),
        validation=None if held is None else split(held),
        test=split(raw.test),
        classes=raw.classes,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        divided_by=raw.largest if raw.train[0].dtype == torch.uint8 else 1,
    )


def moments(inputs: Tensor, largest: int = 255) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation over all dimensions but the second, float64; 1 where there is no spread.

    uint8 goes through its histogram, float64 through numpy's single thread: the same bits whatever the number of threads.
    """
    columns = inputs.unbind(1)
    pairs = [_uint8_moments(x, largest) if inputs.dtype == torch.uint8 else _float_moments(x) for x in columns]
    mean, std = torch.tensor(pairs, dtype=torch.float64).T
    return mean, torch.where(std > 1e-12 * mean.abs(), std, 1.0)


def _uint8_moments(values: Tensor, largest: int) -> tuple[float, float]:
    counts = torch.bincount(values.flatten(), minlength=256).double()
    levels = torch.arange(256, dtype=torch.float64) / largest
    mean = float(counts @ levels / counts.sum())
    return mean, math.sqrt(float(counts @ (levels - mean).square() / counts.sum()))


def _float_moments(values: Tensor) -> tuple[float, float]:
    array = np.ascontiguousarray(values.numpy())
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(array.mean())
        return mean, math.sqrt(float(np.square(array - mean).mean()))


def standardise(inputs: Tensor, mean: Tensor, std: Tensor, largest: int = 255) -> Tensor:
    """(x − mean) / std along the second dimension, float32; float64 inputs are worked on in float64, uint8 is divided by `largest`."""
    images = inputs.dtype == torch.uint8
    dtype = torch.float32 if images else torch.float64
    shape = (1, -1) + (1,) * (inputs.dim() - 2)
    shift, spread = mean.to(dtype).view(shape), std.to(dtype).view(shape)
    result = torch.empty(inputs.shape, dtype=torch.float32)
    for out, chunk in zip(torch.split(result, CHUNK), torch.split(inputs, CHUNK), strict=True):
        values = chunk.to(dtype).div_(largest) if images else chunk
        out.copy_((values - shift) / spread)
    return result
