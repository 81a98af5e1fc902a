"""Prices that rise: from where, how far and until when, with every way to pay, and what a checkpoint and the record keep of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.toys import EARLY
from parsinet.errors import UsageError
from parsinet.methods import Gates, Pruner

X = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
WAYS = ({"price": 2e-3}, {"log_gamma": 2.0}, {"cost_price": 0.5})


class Residual(nn.Module):
    """One branch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.outer, self.last = nn.Linear(8, 6), nn.Linear(6, 5), nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        return self.last(h + self.outer(torch.relu(self.inner(h))))  # type: ignore[no-any-return]


def pruner(steps: int | None = 1000, model: nn.Module | None = None, **options: Any) -> Pruner:
    if model is None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    return Pruner(model, optimizer, Gates(**{"interval": 10, "theta": 1.0, **options}), X, steps=steps, examples=1000)


def advance(run: Pruner, steps: int) -> None:
    for _ in range(steps):
        run.model(X).square().mean().backward()
        run.step()


def paid(run: Pruner) -> Tensor:
    return torch.as_tensor(run.method._pricing.row())  # type: ignore[attr-defined]


@pytest.mark.parametrize("way", WAYS)
def test_prices_grow_by_equal_factors_from_a_tenth_to_half_of_the_way_to_the_decisions(way: dict[str, float]) -> None:
    """Of 1,000 steps gates act for 600 and walk freely for 360, half of them while prices rise: √10 times the tenth after 90."""
    run, full = pruner(fall_steps=10**9, **way), paid(pruner(fall_steps=10**9, rise=1.0, **way))
    found = []
    for _ in range(3):
        found.append(paid(run).clone())
        advance(run, 90)
    torch.testing.assert_close(found[0], full / 10)
    torch.testing.assert_close(found[1], full / 10**0.5)
    torch.testing.assert_close(found[2], full)
    torch.testing.assert_close(paid(run), full)


def test_rise_and_deciding_say_from_where_and_until_when() -> None:
    run = pruner(fall_steps=10**9, price=1e-3, rise=4.0, deciding=0.5)
    assert float(paid(run)) == pytest.approx(1e-3 / 4)
    advance(run, 75)
    assert float(paid(run)) == pytest.approx(1e-3 / 2)
    advance(run, 75)
    assert float(paid(run)) == pytest.approx(1e-3)


def test_prices_stay_where_they_are_told_to_and_where_the_run_has_no_length() -> None:
    for run in (pruner(rise=1.0), pruner(steps=None), pruner(deciding=1.0)):
        assert float(paid(run)) == pytest.approx(1e-3)
        advance(run, 20)
        assert float(paid(run)) == pytest.approx(1e-3)


def test_blocks_pay_little_at_first_too() -> None:
    steady, rising = pruner(model=Residual(), rise=1.0, blocks=True), pruner(model=Residual(), blocks=True)
    torch.testing.assert_close(paid(rising), paid(steady) / 10)
    told, full = rising.describe(), steady.describe()
    assert told["block_prices"] == pytest.approx({name: price / 10 for name, price in full["block_prices"].items()})


def test_the_record_tells_what_is_paid_now_and_how_far_that_is() -> None:
    run = pruner(fall_steps=10**9, price=1e-3)
    assert (run.describe()["price"], run.describe()["risen"]) == pytest.approx((1e-4, 0.1))
    advance(run, 90)
    assert (run.describe()["price"], run.describe()["risen"]) == pytest.approx((1e-3 / 10**0.5, 10**-0.5))
    assert run.describe()["groups"]["0"]["price"] == pytest.approx(1e-3 / 10**0.5)


def test_a_price_that_is_half_way_up_goes_on_from_there() -> None:
    whole, first, second = pruner(), pruner(), pruner()
    advance(whole, 115)
    advance(first, 55)
    second.load_state_dict(first.state_dict())
    assert torch.equal(paid(second), paid(first)), "before the next look, too"
    advance(second, 60)
    assert torch.equal(paid(second), paid(whole))
    assert torch.equal(second.method._bank.theta, whole.method._bank.theta)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("before", "after"), [(1000, 2000), (None, 1000)], ids=["longer", "then known"])
def test_a_run_that_goes_on_with_another_length_never_pays_less(before: int | None, after: int | None) -> None:
    first, second = pruner(before), pruner(after)
    advance(first, 150)
    with pytest.warns(UserWarning, match="steps"):
        second.load_state_dict(first.state_dict())
    found = float(paid(first))
    for _ in range(5):
        assert float(paid(second)) >= found
        found = float(paid(second))
        advance(second, 60)


def test_a_checkpoint_without_a_rise_goes_on_at_the_full_price() -> None:
    """As older versions wrote them."""
    older, newer = pruner(rise=1.0), pruner()
    advance(older, 20)
    assert "risen" not in older.state_dict()["method"]["state"]
    with pytest.warns(UserWarning, match="rise"):
        newer.load_state_dict(older.state_dict())
    for _ in range(2):
        assert float(paid(newer)) == pytest.approx(1e-3)
        advance(newer, 20)


@pytest.mark.parametrize("options", [{"clamp": None}, {"doubt": 2.0}])
def test_where_noise_would_grow_prices_rise_only_if_told_to(options: dict[str, Any]) -> None:
    assert float(paid(pruner(**options))) == pytest.approx(1e-3)
    assert float(paid(pruner(rise=10.0, **options))) == pytest.approx(1e-4)


@pytest.mark.parametrize(("steps", "options"), [(None, {}), (1000, {"deciding": 1.0})])
def test_a_rise_without_time_is_refused(steps: int | None, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="rise"):
        pruner(steps, rise=10.0, **options)


@pytest.mark.filterwarnings(EARLY)
def test_a_run_that_ends_while_prices_rise_says_so() -> None:
    run = pruner()
    advance(run, 90)
    with pytest.warns(UserWarning, match="ends after step 90, while prices rise and are at 32% of their height"):
        run.finish()


def test_the_price_of_a_branch_rises_too() -> None:
    steady = pruner(model=Residual(), rise=1.0, blocks=True, price=1e-3, block_price=0.3)
    rising = pruner(model=Residual(), blocks=True, price=1e-3, block_price=0.3)
    (full,), (now,) = steady.describe()["block_prices"].values(), rising.describe()["block_prices"].values()
    assert (full, now) == pytest.approx((0.3, 0.03))


@pytest.mark.parametrize("options", [{"rise": 0.5}, {"rise": float("nan")}, {"rise": float("inf")}])
def test_what_is_no_rise_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="rise"):
        Gates(**options)  # type: ignore[arg-type]


def test_with_a_target_there_is_no_price_to_rise() -> None:
    with pytest.raises(UsageError, match="rise is how a given price grows"):
        Gates(target="macs=20%", rise=10.0)
