"""What is minimised and what is counted as an error, for classes and for characters."""

from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood in nats: over examples [B, K] with [B], or over all positions [B, T, K] with [B, T]."""
    if logits.dim() > 2:
        logits, targets = logits.flatten(0, -2), targets.flatten()
    return functional.cross_entropy(logits, targets)


def mistakes(logits: Tensor, targets: Tensor) -> Tensor:
    """How many targets are not the class with the largest logit; a tensor without dimensions, so nothing waits for it."""
    return (logits.argmax(-1) != targets).sum()
