"""Latency: right statistics, interleaved rounds, an early end, and a slow model that is seen to be slow."""

import gc
import time

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from parsinet import measure, models
from parsinet.errors import UsageError


class Clocked(nn.Module):
    """Writes its name into a shared list at each call and sleeps."""

    def __init__(self, name: str, calls: list[str], pause: float = 0.0) -> None:
        super().__init__()
        self.name, self.calls, self.pause = name, calls, pause
        self.modes: set[tuple[bool, bool]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(self.name)
        self.modes.add((self.training, torch.is_grad_enabled()))
        time.sleep(self.pause)
        return x


def test_rounds_are_interleaved_without_gradients_in_evaluation_mode() -> None:
    calls: list[str] = []
    pair = {name: Clocked(name, calls) for name in "ab"}
    result = measure.compare_latency(pair, torch.ones(4, 1), repeats=5, warmup=2)
    assert calls == ["a", "b"] * 7
    assert pair["a"].modes == pair["b"].modes == {(False, False)}
    assert {name: (each.batch, each.repeats) for name, each in result.items()} == {"a": (4, 5), "b": (4, 5)}


def test_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = [5.0, 1.0, 2.0, 4.0, 3.0]
    edges = np.cumsum([value for duration in durations for value in (0.5, duration)]).tolist()
    ticks = iter([0.0, 0.0, *edges])
    monkeypatch.setattr("parsinet.measure.timing.time.perf_counter", lambda: next(ticks))
    result = measure.latency(nn.Identity(), torch.ones(2, 1), repeats=5, warmup=1, seconds=1e9)
    assert result.batch == 2
    assert result.repeats == 5
    assert result.median == pytest.approx(3.0)
    assert result.p95 == pytest.approx(4.8)


def test_a_slow_model_is_slow() -> None:
    result = measure.compare_latency(
        {"fast": Clocked("fast", []), "slow": Clocked("slow", [], 0.005)}, torch.ones(1, 1), repeats=10, warmup=1
    )
    assert result["slow"].median >= 0.005 > result["fast"].median
    assert result["slow"].p95 >= result["slow"].median


def test_the_end_comes_early_but_not_before_ten() -> None:
    assert measure.latency(Clocked("a", [], 0.002), torch.ones(1, 1), repeats=1000, warmup=1000, seconds=0.01).repeats == 10
    assert measure.latency(Clocked("a", [], 0.002), torch.ones(1, 1), repeats=3, warmup=1, seconds=0.001).repeats == 3


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_found(enabled: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        measure.latency(nn.Identity(), torch.ones(1, 1), repeats=1)
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize(("option", "value"), [("repeats", 0), ("warmup", 0), ("seconds", 0.0), ("seconds", float("nan"))])
def test_refusals(option: str, value: float) -> None:
    with pytest.raises(UsageError, match=option):
        measure.latency(nn.Identity(), torch.ones(1, 1), **{option: value})  # type: ignore[arg-type]


def test_no_model() -> None:
    with pytest.raises(UsageError, match="no model given"):
        measure.compare_latency({}, torch.ones(1, 1))


def test_profile_gathers_all() -> None:
    model = models.build("lenet-300-100", (784,), 10)
    with torch.no_grad():
        model.get_submodule("fc3").get_parameter("bias").zero_()
        model.get_submodule("fc2").get_parameter("weight").fill_(1.0)[:, :7] = 0
    result = measure.profile(model, torch.randn(3, 784))
    assert (result.parameters, result.nonzeros) == (266_610, 266_610 - 10 - 700)
    assert (result.macs, result.bytes) == (266_200, 4 * 266_610)
    assert result.latency is not None
    assert result.latency.batch == 3
    assert 0 < result.latency.median <= result.latency.p95
    assert measure.profile(model, torch.randn(3, 784), latency=False).latency is None
