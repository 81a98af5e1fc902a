"""Example inputs: a tensor, a tuple (positional arguments) or a mapping (keyword arguments) a model can be called with."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from parsinet.draws import kept
from parsinet.errors import ArgumentTypeError, UsageError

ExampleInputs = Tensor | tuple[Any, ...] | Mapping[str, Any]


def arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """`(args, kwargs)` for `model(*args, **kwargs)`. Raises ArgumentTypeError for anything but a tensor, a tuple or a mapping."""
    if isinstance(example_inputs, Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, tuple):
        return example_inputs, {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    kind = type(example_inputs).__name__
    raise ArgumentTypeError(f"example_inputs: expected a tensor, a tuple of arguments or a dict of keyword arguments, got {kind}.")


def tensors(example_inputs: ExampleInputs) -> list[Tensor]:
    """Every tensor among the inputs, in order; nested tuples, lists and dicts are searched."""
    return [leaf for leaf in tree_leaves(arguments(example_inputs)) if isinstance(leaf, Tensor)]


def batch_size(example_inputs: ExampleInputs) -> int:
    """The first dimension of the first tensor. Raises UsageError where there is no tensor, no dimension or no row."""
    found = tensors(example_inputs)
    if not found:
        raise UsageError("example_inputs: no tensor in them; give at least one with the batch as its first dimension.")
    if found[0].dim() == 0 or found[0].shape[0] == 0:
        raise UsageError(f"example_inputs: the first tensor has shape {list(found[0].shape)}; its first dimension must be a batch of ≥ 1.")
    return found[0].shape[0]


def resize_batch(example_inputs: ExampleInputs, n: int) -> ExampleInputs:
    """The same inputs with `n` rows: row i is row `i mod batch`, so a smaller batch is cut and a larger one repeats.

    Tensors whose first dimension is the batch are resized; all else (scalars, masks of another size, settings) stays as it is.
    A mapping comes back as a dict. Raises UsageError for n < 1.
    """
    if n < 1:
        raise UsageError(f"resize_batch: n must be ≥ 1, got {n}.")
    batch = batch_size(example_inputs)

    def resized(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.dim() == 0 or leaf.shape[0] != batch:
            return leaf
        return leaf.index_select(0, torch.arange(n, device=leaf.device) % batch)

    inputs: ExampleInputs = dict(example_inputs) if isinstance(example_inputs, Mapping) else example_inputs
    result: ExampleInputs = tree_map(resized, inputs)
    return result


def call(who: str, model: nn.Module, example_inputs: ExampleInputs) -> None:
    """Run the model once without gradients; raises UsageError in the name of `who` if the model refuses the inputs."""
    args, kwargs = arguments(example_inputs)
    try:
        with torch.no_grad():
            model(*args, **kwargs)
    except Exception as error:
        given = ", ".join(f"{leaf.dtype} {list(leaf.shape)}".removeprefix("torch.") for leaf in tensors(example_inputs))
        raise UsageError(f"{who}: the model cannot run on the example inputs ({given}): {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module's own training flag and the CPU's generators (torch, Python, NumPy) are as before."""
    flags = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        with kept():
            yield
    finally:
        for module, training in flags:
            module.training = training
