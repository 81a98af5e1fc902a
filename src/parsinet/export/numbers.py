"""Numbers of outputs as comparisons take them."""

import torch
from torch import Tensor


def wide(y: Tensor) -> Tensor:
    """In double precision, complex where it is; of truths 1 and 0."""
    return y.to(torch.complex128 if y.is_complex() else torch.float64)
