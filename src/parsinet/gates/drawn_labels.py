"""Curvature from labels drawn from the model: the squares that the default estimator takes at the true labels, taken at the model's own."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from parsinet.errors import UsageError

LabelEstimator = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(q, s, ξ) → ĝ: derivatives of each example's loss, those at drawn labels, and the gates, all [B, n], to one estimate per unit [n]."""


def drawn_curvature(q: Tensor, s: Tensor, xi: Tensor) -> Tensor:
    """Straight-through with half the Gauss-Newton curvature as second-order term, estimated at one drawn label per example.

    ĝ_i = mean_n [ q_{n,i} + (½ − ξ_{n,i})·s_{n,i}² ]. Over labels drawn from the model E s² is the curvature in ξ_i of example n's
    cross-entropy, as far as the logits are linear in ξ_i; squares at the true labels (`curvature_corrected`) shrink as the model learns.

    q: [B, n] derivative of the example's loss in ξ_i. s: [B, n] that of −log p(ŷ_n | x_n), ŷ_n drawn from p(· | x_n). xi: [B, n].
    Returns [n], nats per example. Raises UsageError for shapes that do not fit. Source: derived in our specification.
    """
    if q.dim() != 2 or len(q) == 0 or not q.shape == s.shape == xi.shape:
        shapes = ", ".join(str(list(each.shape)) for each in (q, s, xi))
        raise UsageError(f"drawn_curvature: q, s and xi must be [batch, units] of one shape with at least one example, got {shapes}.")
    total: Tensor = q.sum(0) + torch.linalg.vecdot((0.5 - xi) * s, s, dim=0)
    return total / len(q)


LABEL_ESTIMATORS: Mapping[str, LabelEstimator] = MappingProxyType({"drawn-labels": drawn_curvature})
"""Estimators that draw labels from the model, by the name a recipe uses."""


def draw_labels(logits: Tensor, uniform: Tensor) -> Tensor:
    """ŷ ~ softmax(logits): the first class at which the sum of the probabilities passes u.

    logits: [..., K]; uniform: [...], in [0, 1). Returns int64 [...]. Raises UsageError for shapes that do not fit.
    """
    if logits.dim() < 1 or logits.shape[:-1] != uniform.shape:
        raise UsageError(f"draw_labels: logits [..., classes] want uniform [...], got {list(logits.shape)} and {list(uniform.shape)}.")
    passed = logits.double().softmax(-1).cumsum(-1) <= uniform.to(logits.device).double().unsqueeze(-1)
    return passed.sum(-1).clamp(max=logits.shape[-1] - 1)


def is_cross_entropy(logits: Tensor, gradient: Tensor) -> bool:
    """Whether a derivative can be that of a mean cross-entropy of softmax(logits), whatever the targets.

    ∂loss/∂logits = (p − t)/N over N distributions t, so that p − N·∂loss/∂logits must hold distributions: no entry below 0, sums of 1.
    What rounds in half precision is allowed for.

    logits, gradient: [..., K] with the same leading axes; N is their number of rows. A derivative that is not finite says nothing: True.
    """
    if logits.shape[-1] < 2:
        return False
    rows = logits.numel() // logits.shape[-1]
    targets = logits.float().softmax(-1) - rows * gradient.float()
    slack = 1e-3 if logits.dtype in (torch.float32, torch.float64) else 0.02
    wrong = (targets < -slack).any() | ((targets.sum(-1) - 1).abs() > slack).any()
    return not bool(wrong & gradient.isfinite().all())
