"""What torch cannot run safely after a removal is said before the removal: a narrow strided 1×1 convolution with channels last."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import parsinet as pn
from parsinet.errors import ParsinetWarning, StructureError

IMAGES = torch.randn(4, 3, 8, 8)


def network(kernel: int = 1, stride: int = 2) -> nn.Sequential:
    """Twelve channels that a second convolution reads."""
    layers = [nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 6, kernel, stride=stride), nn.Flatten(), nn.LazyLinear(5)]
    model = nn.Sequential(*layers)
    model(IMAGES)
    return model.to(memory_format=torch.channels_last)


def said(model: nn.Module, channels: int) -> list[str]:
    """What is said when the first convolution keeps so many of its channels."""
    structure = pn.trace(model, IMAGES)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pn.shrink(model, structure.plan({"0": torch.arange(structure.group("0").size) < channels}))
    return [str(entry.message) for entry in caught if entry.category is ParsinetWarning]


@pytest.fixture(autouse=True)
def without_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


def test_fewer_than_eight_inputs_are_said_once() -> None:
    model = network()
    assert said(model, 8) == []
    (message,) = said(model, 7)
    assert message.startswith("2, a strided 1×1 convolution, is left with 7 input channels.")
    assert "round_to=8" in message
    assert said(model, 5) == []
    assert model[2].in_channels == 5


@pytest.mark.parametrize(
    ("model", "capability"),
    [
        (network().to(memory_format=torch.contiguous_format), "AVX2"),
        (network(kernel=3), "AVX2"),
        (network(stride=1), "AVX2"),
        (network().double(), "AVX2"),
        (network(), "AVX512"),
    ],
    ids=["usual order", "3×3", "stride 1", "double precision", "AVX-512"],
)
def test_what_is_safe_is_not_warned_of(model: nn.Module, capability: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    dtype = next(model.parameters()).dtype
    structure = pn.trace(model, IMAGES.to(dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ParsinetWarning)
        pn.shrink(model, structure.plan({"0": torch.arange(12) < 7}))
    assert model[2].in_channels == 7


def test_where_warnings_are_errors_nothing_is_removed() -> None:
    model = network()
    plan = pn.trace(model, IMAGES).plan({"0": torch.arange(12) < 7})
    with warnings.catch_warnings():
        warnings.simplefilter("error", ParsinetWarning)
        with pytest.raises(ParsinetWarning, match="strided 1×1"):
            pn.shrink(model, plan)
    assert model[0].out_channels == 12


class _Projected(nn.Module):
    """An LSTM of twelve units whose states are projected to six."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.last = nn.LSTM(4, 12, batch_first=True, proj_size=6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.lstm(x)[0].mean(1))  # type: ignore[no-any-return]


UNSUPPORTED = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


@UNSUPPORTED
@pytest.mark.parametrize(("left", "runs"), [(7, True), (6, False), (5, True)])
def test_a_projection_as_wide_as_its_lstm_is_refused(left: int, runs: bool) -> None:
    """Torch tells by the difference that there is a projection: it computes nonsense or dies."""
    model, x = _Projected(), torch.randn(5, 7, 4)
    plan = pn.trace(model, x).plan({"lstm": torch.arange(12) < left})
    with pn.silence(model, plan):
        wanted = model(x)
    if runs:
        pn.shrink(model, plan)
        assert torch.allclose(model(x), wanted, atol=1e-6)
    else:
        with pytest.raises(StructureError, match="lstm would be left with 6 hidden units and a projection of as many"):
            pn.shrink(model, plan)
        assert model.lstm.hidden_size == 12


@UNSUPPORTED
@pytest.mark.parametrize(("multiple", "kept"), [(1, 7), (2, 8), (6, 12)])
def test_a_run_keeps_more_units_where_a_projection_would_be_as_wide(multiple: int, kept: int) -> None:
    model, x = _Projected(), torch.randn(5, 7, 4)
    method = pn.baselines.MagnitudeUnits(share=0.5, begin=0.5, end=0.5, groups=["lstm"])
    optimizer = torch.optim.Adam(method.param_groups(model))
    pruner = pn.Pruner(model, optimizer, method, x, steps=4, round_to=multiple)
    for _ in range(4):
        model(x).square().mean().backward()
        optimizer.step()
        pruner.step()
    assert pruner.finish() is model
    assert model.lstm.hidden_size == kept
    model(x).square().mean().backward()
