"""Prices by cost: what they are at the start, how fast θ falls under them, that they follow the network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from parsinet import measure
from parsinet.methods import Gates, Pruner

X = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    """A convolution whose filters hold most multiply-adds, a layer whose units hold most parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.out = nn.Conv2d(2, 5, 3), nn.Linear(80, 30), nn.Linear(30, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.fc(torch.relu(self.conv(x)).flatten(1))))  # type: ignore[no-any-return]


def pruner(model: nn.Module | None = None, **options: object) -> Pruner:
    model = Small() if model is None else model
    return Pruner(model, torch.optim.SGD(model.parameters(), lr=0.0), Gates(**{"theta": 1.0, "rise": 1.0, **options}), X, steps=1000)


def prices(run: Pruner) -> dict[str, Tensor]:
    pricing = run.method._pricing  # type: ignore[attr-defined]
    return {name: pricing.of(name) for name in ("conv", "fc")}


def test_a_unit_pays_its_share_of_the_whole_networks_price() -> None:
    """By hand: a filter holds 18·16 + 16·30 multiply-adds and 19 + 16·30 parameters, a unit 80 + 3 and 80 + 1 + 3."""
    macs, parameters = 5 * 18 * 16 + 80 * 30 + 30 * 3, 5 * 19 + 81 * 30 + 31 * 3
    found = prices(pruner(cost_price=0.3, computation=1.0))
    assert found["conv"].tolist() == pytest.approx([0.3 * (18 * 16 + 16 * 30) / macs] * 5)
    assert found["fc"].tolist() == pytest.approx([0.3 * 83 / macs] * 30)
    found = prices(pruner(cost_price=0.3, computation=0.0))
    assert found["conv"].tolist() == pytest.approx([0.3 * (19 + 16 * 30) / parameters] * 5)
    both = prices(pruner(cost_price=0.3))
    assert both["fc"].tolist() == pytest.approx([0.15 * (83 / macs + 84 / parameters)] * 30), "half and half unless told otherwise"


def test_cheap_and_dear_units_fall_equally_fast() -> None:
    """Nothing is learned with zero weights in the last layer, so prices act alone: 1/T_fall per step, whatever they are."""
    model = Small()
    nn.init.zeros_(model.out.weight)
    run = pruner(model, cost_price=0.3, fall_steps=20, interval=100)
    for _ in range(5):
        model(X).sum().backward()
        run.step()
    told = run.describe()["groups"]
    assert told["conv"]["theta"] == pytest.approx([0.75] * 5, abs=1e-4)
    assert told["fc"]["theta"] == pytest.approx([0.75] * 30, abs=1e-4)


def test_prices_follow_the_network() -> None:
    """Once half of the layer behind them has gone, filters are cheaper, by what they no longer feed."""
    model = Small()
    run = pruner(model, cost_price=0.3, computation=1.0, interval=2, fall_steps=100)
    dense = measure.macs(model, X)
    with torch.no_grad():
        run.method._bank.theta[5:20] = 0  # type: ignore[attr-defined]
        run.method._bank.theta[20:] = 1  # type: ignore[attr-defined]
    run.step()
    assert run.step() is not None
    assert run.widths() == {"conv": 5, "fc": 15}
    assert prices(run)["conv"].tolist() == pytest.approx([0.3 * (18 * 16 + 16 * 15) / dense] * 5)
    assert prices(run)["fc"].shape == (15,)
    assert run.describe()["cost"] == pytest.approx(measure.macs(model, X) / dense)
    assert run.describe()["cost_price"] == 0.3


def test_the_record_tells_the_mean_price() -> None:
    run = pruner(cost_price=0.3, computation=1.0)
    rows = prices(run)
    assert run.describe()["price"] == pytest.approx(float(torch.cat([rows["conv"], rows["fc"]]).mean()))
