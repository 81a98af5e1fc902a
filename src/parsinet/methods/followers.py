"""Networks of the same architecture that lose what the trained one loses: averages of its weights, target networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from parsinet.errors import ArgumentTypeError, UsageError, told
from parsinet.methods.base import Method
from parsinet.structure import Fold, Plan, shrink
from parsinet.structure.at_work import is_at_work
from parsinet.structure.atomic import all_or_nothing
from parsinet.structure.record import record_of
from parsinet.structure.removal import tensors_of


def followers_of(given: Iterable[nn.Module], model: nn.Module, method: Method, *, sharded: bool = False) -> list[nn.Module]:
    """The networks in what was given; one that wraps its network as `module` (`torch.optim.swa_utils.AveragedModel`) is opened.

    Raises ArgumentTypeError for what is no list of modules; UsageError for a network that is not a copy of the model, and where a
    method's or sharded weights are not the network's own.
    """
    entries: list[Any] = [given] if isinstance(given, nn.Module) or not isinstance(given, Iterable) else list(given)
    for entry in entries:
        if not isinstance(entry, nn.Module):
            raise ArgumentTypeError(f"Pruner: followers must be a list of torch modules, got {told(entry)}.")
    if entries and (sharded or getattr(method, "rescales", False)):
        why = "the ranks hold but parts of the weights" if sharded else f"{method.name} turns what trains into weights when it finishes"
        raise UsageError(f"Pruner: no network can follow here, since {why}. Leave followers out.")
    return [_network(entry, model) for entry in entries]


@contextmanager
def following(followers: Iterable[nn.Module], plan: Plan, folds: Mapping[nn.Module, Fold]) -> Iterator[None]:
    """Let the same units go from every follower; all come back if the context fails. folds: what moves into biases first."""
    with ExitStack() as changes:
        for follower in followers:
            changes.enter_context(all_or_nothing(follower, tensors_of(follower).values(), ()))
            shrink(follower, plan, fold=folds.get(follower))
        yield


def _network(follower: nn.Module, model: nn.Module) -> nn.Module:
    """What is to follow. UsageError if it is no copy of the model."""
    network, difference = follower, _difference(follower, model)
    while difference and isinstance(inner := getattr(network, "module", None), nn.Module):
        network, difference = inner, _difference(inner, model)
    if difference:
        raise UsageError(
            f"Pruner: a follower is a copy of the model, but this {type(follower).__name__} {difference}. Copy the model after "
            "method.prepare and before anything leaves."
        )
    own = {id(tensor) for tensor in tensors_of(model).values()}
    if any(id(tensor) in own for tensor in tensors_of(network).values()):
        raise UsageError("Pruner: this follower shares tensors with the model. Give it its own: copy.deepcopy(model).")
    if is_at_work(network):
        raise UsageError("Pruner: a follower was copied with a method's hooks in it. Copy the model before its Pruner is built.")
    return network


def _difference(network: nn.Module, model: nn.Module) -> str:
    """What keeps it from being a copy of the model, "" if nothing does."""
    have, want = _shapes(tensors_of(network)), _shapes(tensors_of(model))
    for name in {**want, **have}:
        if have.get(name) != want.get(name):
            return f"has {name} of {_said(have.get(name))}, the model of {_said(want.get(name))}"
    lost, gone = (len(record_of(net).removals) for net in (network, model))
    return "" if lost == gone else f"has lost units {lost} times, the model {gone} times"


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _said(shape: tuple[int, ...] | None) -> str:
    return "no shape" if shape is None else f"shape {shape}"
