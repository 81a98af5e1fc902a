"""A small problem whose expected loss can be enumerated, and its gradient in the gates' probabilities."""

import itertools
import math

import torch
from torch import nn


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def classifier_loss(xi):
    """Cross-entropy of a fixed net with three gated units; xi [3] or [B, 3]."""
    x, target = draw(40, 4, seed=1), torch.randint(0, 3, (40,), generator=generator(2))
    return nn.functional.cross_entropy((torch.relu(x @ draw(4, 3, seed=3)) * xi) @ draw(3, 3, seed=4), target)


def enumerated_gradient(loss, theta):
    """∂/∂θ_i of Σ_mask P(mask)·loss(mask), by hand over all masks."""
    gradient = torch.zeros_like(theta)
    for mask in itertools.product((0.0, 1.0), repeat=len(theta)):
        for i, bit in enumerate(mask):
            others = math.prod(theta[j].item() if mask[j] else 1 - theta[j].item() for j in range(len(theta)) if j != i)
            gradient[i] += (1 if bit else -1) * others * loss(torch.tensor(mask, dtype=theta.dtype))
    return gradient


def check_mean(samples, expected):
    """AssertionError unless the samples [k, n] average to what is expected, within 4 standard errors."""
    assert ((samples.mean(0) - expected).abs() <= 4 * samples.std(0) / math.sqrt(len(samples)) + 1e-12).all()
