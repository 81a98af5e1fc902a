"""What is minimised and what is counted as an error, for classes and for characters."""

from torch import Tensor
from torch.nn import functional

from parsinet.errors import UsageError


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood in nats: over examples [B, K] with [B], or over all positions [B, T, K] with [B, T]."""
    if logits.dim() > 2:
        logits, targets = logits.flatten(0, -2), targets.flatten()
    return functional.cross_entropy(logits, targets)


def distillation(logits: Tensor, told: Tensor, temperature: float) -> Tensor:
    """How far a student is from its teacher.

        T² · mean KL( softmax(told/T) ‖ softmax(logits/T) )

    in nats, over examples [B, K] or over all positions [B, T, K]; T² keeps the size of the gradient whatever T. No gradient reaches `told`.

    Errors: UsageError for logits of different shapes, or without at least two classes in the last dimension.
    Source: G. Hinton, O. Vinyals and J. Dean, Distilling the Knowledge in a Neural Network, arXiv 1503.02531.
    """
    if logits.shape != told.shape:
        raise UsageError(f"distillation: the student's logits have shape {list(logits.shape)}, the teacher's {list(told.shape)}.")
    if logits.dim() < 2 or logits.shape[-1] < 2:
        raise UsageError(
            f"distillation: logits must be [examples, …, classes] with at least 2 classes, got shape {list(logits.shape)}. "
            "A teacher compares distributions over classes; for numbers to regress on, leave it out."
        )
    student = functional.log_softmax(logits / temperature, -1).flatten(0, -2)
    teacher = functional.log_softmax(told.detach() / temperature, -1).flatten(0, -2)
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def mistakes(logits: Tensor, targets: Tensor) -> Tensor:
    """How many targets are not the class with the largest logit; a tensor without dimensions, so nothing waits for it."""
    return (logits.argmax(-1) != targets).sum()
