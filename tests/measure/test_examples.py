"""Example inputs: three kinds of them, their batch, and the model left as found after each measurement."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from parsinet import measure
from parsinet.errors import ArgumentTypeError, UsageError

ROWS = torch.arange(6.0).reshape(3, 2)


class Two(nn.Module):
    """Takes what all three kinds of inputs can give; counts its calls, draws random numbers, caches on the first call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.cache: Tensor | None = None

    def forward(self, x: Tensor, shift: float = 0.0) -> Tensor:
        if self.cache is None:
            self.cache = torch.ones(4)
        return self.inner(x) * self.cache + shift * torch.rand(1)


INPUTS: dict[str, Any] = {"tensor": ROWS, "tuple": (ROWS, 2.0), "dict": {"x": ROWS, "shift": 2.0}, "mapping": MappingProxyType({"x": ROWS})}
MEASUREMENTS: dict[str, Callable[[nn.Module, Any], Any]] = {
    "macs": measure.macs,
    "latency": lambda model, inputs: measure.latency(model, inputs, repeats=2, warmup=1),
    "compare_latency": lambda model, inputs: measure.compare_latency({"a": model, "again": model}, inputs, repeats=2),
    "profile": lambda model, inputs: measure.profile(model, inputs, latency=False),
}


@pytest.mark.parametrize("inputs", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("measurement", MEASUREMENTS.values(), ids=MEASUREMENTS)
def test_the_model_is_left_as_found(measurement: Callable[[nn.Module, Any], Any], inputs: Any) -> None:
    model = Two()
    model.inner[1].eval()
    flags = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    measurement(model, inputs)
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    model(ROWS).sum().backward()


@pytest.mark.parametrize("measurement", MEASUREMENTS.values(), ids=MEASUREMENTS)
def test_flags_come_back_after_a_failure(measurement: Callable[[nn.Module, Any], Any]) -> None:
    model = Two()
    with pytest.raises(UsageError, match="cannot run on the example inputs"):
        measurement(model, torch.randn(3, 7))
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("inputs", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize(("n", "rows"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (7, [0, 1, 2, 0, 1, 2, 0])])
def test_resize_batch(inputs: Any, n: int, rows: list[int]) -> None:
    resized = measure.resize_batch(inputs, n)
    assert measure.batch_size(inputs) == 3
    assert measure.batch_size(resized) == n
    given = resized if isinstance(resized, Tensor) else resized["x"] if isinstance(resized, dict) else resized[0]
    assert torch.equal(given, ROWS[rows])
    Two().eval()(given)


def test_resize_batch_leaves_the_rest_alone() -> None:
    table, scalar = torch.zeros(5, 3), torch.tensor(1.0)
    rows, (same, labels), number, setting = measure.resize_batch((ROWS, [table, torch.arange(3)], scalar, "mean"), 2)
    assert torch.equal(rows, ROWS[:2])
    assert same is table
    assert labels.tolist() == [0, 1]
    assert number is scalar
    assert setting == "mean"


@pytest.mark.parametrize(
    ("inputs", "words"),
    [((), "no tensor"), ({"x": 3}, "no tensor"), (torch.tensor(1.0), "first dimension"), (torch.zeros(0, 2), r"\[0, 2\]")],
)
def test_inputs_without_a_batch(inputs: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        measure.macs(Two(), inputs)


def test_inputs_of_another_kind() -> None:
    with pytest.raises(ArgumentTypeError, match="tuple of arguments or a dict of keyword arguments, got list"):
        measure.macs(Two(), [ROWS])  # type: ignore[arg-type]


def test_resize_to_nothing() -> None:
    with pytest.raises(UsageError, match="n must be ≥ 1, got 0"):
        measure.resize_batch(ROWS, 0)
