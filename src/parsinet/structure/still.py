"""Networks that draw random numbers in evaluation too (samples of a latent, dropout that stays on) can be compared with smaller ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from parsinet.draws import kept

NOISE = 0.5
"""In the place of every number drawn from a density: one that normal, uniform and exponential numbers can be."""

CERTAIN = 1.0
"""In the place of every draw of 0 or 1, so that dropout drops nothing."""

DRAWN: Mapping[str, float] = {
    **dict.fromkeys(("normal", "normal_", "normal_functional", "randn", "randn_like", "log_normal", "log_normal_", "cauchy_"), NOISE),
    **dict.fromkeys(("rand", "rand_like", "uniform", "uniform_", "exponential", "exponential_"), NOISE),
    **dict.fromkeys(("bernoulli", "bernoulli_", "poisson", "geometric_", "binomial"), CERTAIN),
}
"""Operators whose results are filled with one number."""

FIRST = ("randint", "randint_like", "random", "random_")
"""Operators that draw whole numbers, of which the smallest takes the place of all."""

DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout")
"""Operators that draw where their last argument says so."""

ATTENTION = ("query", "key", "value", "attn_mask", "dropout_p")
"""Arguments of attention, the last one a chance."""


@contextlib.contextmanager
def still(graph: torch.fx.Graph, model: nn.Module, beside: bool = False) -> Iterator[None]:
    """Within the context torch's random numbers are always the same, whatever their shape; without effect for a graph that draws none.

    beside: whether the network may draw what is not in the graph, where another coin of Python's leads it elsewhere.
    """
    if not beside and not any(draws(node) for node in graph.nodes):
        yield
        return
    with kept(model), _Still():  # type: ignore[no-untyped-call]
        yield


def draws(node: torch.fx.Node) -> bool:
    """Whether an operator of an exported graph draws random numbers."""
    name = _name(node.target)
    if name == "scaled_dot_product_attention":
        return bool(dict(zip(ATTENTION, node.args, strict=False)).get("dropout_p", node.kwargs.get("dropout_p")))
    return name in DRAWN or name in FIRST or name == "randperm" or (name in DROPOUTS and bool(node.args[-1]))


def _name(operator: object) -> str:
    return operator.overloadpacket.__name__ if isinstance(operator, torch._ops.OpOverload) else ""


class _Still(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fills what operators draw."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        result, name = func(*args, **(kwargs or {})), _name(func)
        if not isinstance(result, Tensor):
            return (args[0].clone(), torch.ones_like(result[1])) if name == "native_dropout" else result
        if name in DRAWN:
            return result.fill_(DRAWN[name])
        if name in FIRST:
            return result.fill_(_lowest(func, args))
        return torch.arange(len(result), dtype=result.dtype, device=result.device) if name == "randperm" else result


def _lowest(func: Any, args: Sequence[Any]) -> int:
    """The smallest number that an operator may draw."""
    names = [argument.name for argument in func._schema.arguments]
    given = dict(zip(names, args, strict=False))
    return int(given.get("low", given.get("from", 0)) or 0)
