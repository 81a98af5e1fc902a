"""Trials: sequential closing never raises the exact objective, useful units stay, one at a time; planted faults are caught."""

import itertools

import pytest
import torch
from torch import nn

from parsinet.errors import UsageError
from parsinet.gates import MOST, PANEL, Trials

UNITS = 5
MASKS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=UNITS)), dtype=torch.float64)
RHO = torch.full((UNITS,), 0.05, dtype=torch.float64)


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask_loss(xi, seed):
    """Cross-entropy of a fixed net with five gated units, of which the last two do the same."""
    x, target = draw(40, 4, seed=seed), torch.randint(0, 3, (40,), generator=torch.Generator().manual_seed(seed + 1))
    incoming, outgoing = draw(4, UNITS, seed=seed + 2), draw(UNITS, 3, seed=seed + 3)
    incoming[:, -1], outgoing[-1] = incoming[:, -2], outgoing[-2]
    return nn.functional.cross_entropy((torch.relu(x @ incoming) * xi) @ outgoing, target)


def objective(theta, table):
    """The exact expected loss plus prices, by enumeration."""
    return ((MASKS * theta + (1 - MASKS) * (1 - theta)).prod(-1) * table).sum() + (RHO * theta).sum()


def gain(theta, unit, table):
    opened, closed = theta.clone(), theta.clone()
    opened[unit], closed[unit] = 1, 0
    return objective(closed, table) - objective(opened, table) + RHO[unit]


def decide(theta, table, trials, looks=200):
    """Run trials with exact gains; the objective after every move."""
    path = [objective(theta, table)]
    for _ in range(looks):
        units = trials.panel(theta, torch.zeros(UNITS), RHO, torch.zeros(UNITS, dtype=torch.bool))
        if not units:
            break
        trials.add(units, torch.stack([gain(theta, unit, table) for unit in units]))
        verdict = trials.look(units, theta, RHO, most=3)
        for unit in verdict.kept:
            theta[unit] = 1
            path.append(objective(theta, table))
        if verdict.closed is not None:
            theta[verdict.closed] = 0
            path.append(objective(theta, table))
    return torch.stack(path)


def check_never_raises(seed):
    """Kept units move to 1 together, but only one closes at a time: with exact gains of the running state each close is a descent."""
    table = torch.stack([mask_loss(mask, seed) for mask in MASKS])
    theta = torch.ones(UNITS, dtype=torch.float64)
    path = decide(theta, table, Trials(UNITS))
    assert (path.diff() <= 1e-12).all()
    assert all(gain(theta, unit, table) >= RHO[unit] for unit in theta.nonzero().flatten().tolist())
    return theta


@pytest.mark.parametrize("seed", range(0, 60, 10))
def test_closing_one_by_one_never_raises_the_objective_and_survivors_are_worth_their_price(seed):
    check_never_raises(seed)


class AllAtOnce(Trials):
    """The planted fault: evidence gathered with a unit is used after it has gone."""

    def _end(self, kept, closed):
        before = self.rows.clone()
        super()._end(kept, closed)
        others = [unit for unit in range(self.rows.shape[1]) if unit not in (*kept, closed)]
        self.rows[2:, others] = before[2:, others]


def redundant(kind):
    """Two units of which one is enough; batch by batch, both open at first."""
    trials, theta = kind(2), torch.ones(2, dtype=torch.float64)
    price, free = torch.full((2,), 0.5, dtype=torch.float64), torch.zeros(2, dtype=torch.bool)
    noise = torch.Generator().manual_seed(0)
    for _ in range(10):
        units = trials.panel(theta, torch.zeros(2), price, free)
        gains = torch.tensor([0.0 if theta.sum() == 2 else 1.0 for _ in units], dtype=torch.float64)
        trials.add(units, gains + 1e-3 * torch.randn(len(units), generator=noise, dtype=torch.float64))
        verdict = trials.look(units, theta, price)
        if verdict.closed is not None:
            theta[verdict.closed] = 0
    return theta


def test_of_two_units_that_do_the_same_one_stays():
    assert redundant(Trials).sum() == 1
    assert redundant(AllAtOnce).sum() == 0, "the comparison can fail"


def noisy(worth, looks=400, spread=4.0):
    """Units of known worth in prices, batch noise of `spread` prices; returns θ when all looks are done."""
    theta = torch.ones(len(worth), dtype=torch.float64)
    trials, price, random = Trials(len(worth)), torch.ones(len(worth), dtype=torch.float64), torch.Generator().manual_seed(3)
    for _ in range(looks):
        units = trials.panel(theta, worth, price, torch.zeros(len(worth), dtype=torch.bool))
        if not units:
            break
        trials.add(units, worth[units] + spread * torch.randn(len(units), generator=random, dtype=torch.float64))
        verdict = trials.look(units, theta, price)
        if verdict.closed is not None:
            theta[verdict.closed] = 0
    return theta


def test_under_noise_the_useful_stay_and_the_useless_leave():
    worth = torch.tensor([20.0] * 10 + [5.0] * 10 + [-2.0] * 10, dtype=torch.float64)
    theta = noisy(worth)
    assert (theta[:20] == 1).all()
    assert (theta[20:] == 0).all()


def test_an_undecided_unit_goes_to_the_better_end_and_an_open_one_stays_where_nothing_is_clear():
    for theta, closed in ((0.5, 0), (1.0, None)):
        trials, row, price = Trials(1), torch.tensor([theta]), torch.tensor([1.0])
        for k in range(MOST):
            trials.add([0], torch.tensor([0.9 + (4.0 if k % 2 else -4.0)]))
            verdict = trials.look([0], row, price)
            assert verdict.kept == () or k == MOST - 1
        assert verdict.closed == closed


def test_the_panel_prefers_trials_that_run_then_the_undecided_then_the_least_useful():
    trials = Trials(8)
    theta = torch.tensor([1.0, 1.0, 0.3, 0.0, 1.0, 1.0, 1.0, 1.0])
    worth = torch.tensor([9.0, 3.0, 5.0, -9.0, 4.0, 8.0, -8.0, 7.0])
    fixed = torch.tensor([False] * 6 + [True, False])
    ones = torch.ones(8)
    assert trials.panel(theta, worth, ones, fixed) == [2, 1, 4, 7]
    assert len(trials.panel(theta, worth, ones, fixed)) == PANEL
    trials.add([0], torch.tensor([1.0]))
    assert trials.panel(theta, worth, ones, fixed) == [0, 2, 1, 4]
    trials.rows[0, 1], trials.rows[1, 1] = 2, 6.5
    assert trials.panel(theta, worth, ones, fixed) == [0, 2, 4, 7], "who was tried counts with its gain, and waits"
    assert trials.panel(torch.zeros(8), worth, ones, fixed) == []


def test_units_that_left_take_their_evidence_with_them():
    trials = Trials(4)
    trials.add([1, 3], torch.tensor([1.0, 3.0]))
    trials.keep(torch.tensor([False, True, False, True]))
    assert trials.rows[2].tolist() == [1, 1]
    assert trials.rows[3].tolist() == [1, 3]


def test_rows_of_another_length_are_refused():
    with pytest.raises(UsageError, match=r"one entry per unit, \[3\]"):
        Trials(3).panel(torch.ones(2), torch.ones(2), torch.ones(2), torch.zeros(2))
