"""What a loaded data set is: standardised tensors in memory, split three ways, with the numbers they were standardised by."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from parsinet.errors import ArgumentTypeError, UsageError


@dataclass(frozen=True, eq=False)
class Split:
    """Examples and what to predict from them.

    inputs: float32 [n, …], standardised; for language int64 [n, block], character numbers.
    targets: int64 [n], class numbers; for language int64 [n, block], the characters that come next.
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        for name, value in (("inputs", self.inputs), ("targets", self.targets)):
            if not isinstance(value, Tensor):
                raise ArgumentTypeError(f"Split: {name} must be a Tensor, got {type(value).__name__}.")
            if value.dim() == 0:
                raise UsageError(f"Split: {name} must have the examples as first dimension, got a single number.")
        if len(self.inputs) != len(self.targets):
            raise UsageError(f"Split: inputs and targets must be equally many, got {len(self.inputs)} and {len(self.targets)}.")
        if len(self.inputs) == 0:
            raise UsageError("Split: needs at least one example, got none.")

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set ready for training.

    classes: class names in the order of their numbers; for language the characters of the vocabulary.
    mean, std: (x − mean) / std was applied to every split. Taken from `train` only, after the validation examples left it; one pair
    per channel for images, one per column for tables, empty for language. std is the population's; a channel or column without spread has
    std 1. divided_by: what inputs were divided by before: for images of whole numbers what white is, else 1.
    """

    name: str
    task: Literal["classification", "language"]
    train: Split
    validation: Split | None
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    divided_by: int = 1

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example: (channels, height, width), (columns,), or (block,) for language."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def num_classes(self) -> int:
        """Number of classes, or of characters in the vocabulary."""
        return len(self.classes)
