"""The multilayer perceptron: fully connected layers of any widths with one activation between them."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from parsinet.errors import UsageError, suggest
from parsinet.models.checks import any_shape, positive, positives

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky-relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class MLP(nn.Module):
    """Flatten, then fc1, fc2, …, fcN; between two layers batch norm (bn1, …; optional) and the activation (act1, …).

    Shapes: [batch, *input_shape] → [batch, classes]. `widths` are the outputs of fc1 … fc(N-1), any number of them, even none.
    `activation`: elu, gelu, leaky-relu, relu, sigmoid, silu or tanh. Initialisation: PyTorch's default.
    Raises UsageError or ArgumentTypeError for a width below 1, an unknown activation, an empty input shape.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        *,
        widths: Sequence[int] = (256, 128),
        activation: str = "relu",
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        features = prod(any_shape("mlp", input_shape))
        sizes = [features, *positives("mlp", "widths", widths), positive("mlp", "classes", classes)]
        self.depth = len(sizes) - 1
        kind = _activation(activation)
        for number, (before, after) in enumerate(pairwise(sizes), start=1):
            self.add_module(f"fc{number}", nn.Linear(before, after))
            if batch_norm and number < self.depth:
                self.add_module(f"bn{number}", nn.BatchNorm1d(after))
            if number < self.depth:
                self.add_module(f"act{number}", kind())
        self.batch_norm = bool(batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for number in range(1, self.depth):
            x = self.get_submodule(f"fc{number}")(x)
            if self.batch_norm:
                x = self.get_submodule(f"bn{number}")(x)
            x = self.get_submodule(f"act{number}")(x)
        logits: Tensor = self.get_submodule(f"fc{self.depth}")(x)
        return logits


def _activation(name: str) -> type[nn.Module]:
    if name not in ACTIVATIONS:
        raise UsageError(f"mlp: unknown activation {name!r}.{suggest(str(name), ACTIVATIONS)}")
    return ACTIVATIONS[name]
