"""Whether a method is still at work on a network: its gates stand in the forward pass, and no file of weights holds them."""

from __future__ import annotations

from torch import nn

PACKAGES = ("parsinet.methods.", "parsinet.baselines.")
"""Where hooks come from that a method puts on a model and takes away when it has finished."""


def is_at_work(model: nn.Module, packages: tuple[str, ...] = PACKAGES) -> bool:
    """Whether a method of parsinet, or whatever else of these packages, stands in the model's forward pass."""
    hooks = (hook for module in model.modules() for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()))
    return any((getattr(hook, "__module__", None) or "").startswith(packages) for hook in hooks)
