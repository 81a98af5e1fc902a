"""Loss and error of a model over a split."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parsinet.data import Split
from parsinet.errors import UsageError
from parsinet.training.objective import cross_entropy, mistakes


@dataclass(frozen=True)
class Evaluation:
    """loss: mean in nats per target. error: fraction of targets missed, 0…1."""

    loss: float
    error: float


def evaluate(model: nn.Module, split: Split, *, batch_size: int = 1000, device: str | torch.device = "cpu") -> Evaluation:
    """Run `model` over `split` in evaluation mode without gradients; every module's training flag is put back.

    Errors: UsageError for an empty split or a batch size below 1.
    """
    if len(split) == 0:
        raise UsageError("evaluate: the split is empty, so there is no error to measure.")
    if batch_size < 1:
        raise UsageError(f"evaluate: batch_size must be ≥ 1, got {batch_size}.")
    training = {module for module in model.modules() if module.training}
    model.eval()
    try:
        return _mean(model, split, batch_size, torch.device(device))
    finally:
        for module in training:
            module.training = True


@torch.inference_mode()
def _mean(model: nn.Module, split: Split, batch_size: int, device: torch.device) -> Evaluation:
    losses: list[Tensor] = []
    wrong: list[Tensor] = []
    for start in range(0, len(split), batch_size):
        inputs = split.inputs[start : start + batch_size].to(device)
        targets = split.targets[start : start + batch_size].to(device)
        logits = model(inputs)
        losses.append(cross_entropy(logits, targets).double() * targets.numel())
        wrong.append(mistakes(logits, targets))
    total = split.targets.numel()
    return Evaluation(float(torch.stack(losses).sum()) / total, int(torch.stack(wrong).sum()) / total)
