"""The mean of the last weights: by hand, batch normalisation anew, when it begins, what is refused."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from parsinet.data import Batches, Split
from parsinet.errors import UsageError
from parsinet.training import Average, fit


def linear(value: float) -> nn.Linear:
    model = nn.Linear(2, 1).double()
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


def averaged(values: list[float], **options: Any) -> float:
    """The weight that is left of a training that went through `values`."""
    average, model = Average(**options), linear(0.0)
    for value in values:
        model.load_state_dict(linear(value).state_dict())
        average.step(model)
    average.finish(model)
    assert len({float(entry) for parameter in model.parameters() for entry in parameter.detach().flatten()}) == 1
    return float(model.bias.detach())


def test_the_mean_of_two_known_states() -> None:
    assert averaged([1.0, 4.0]) == 2.5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (1 + 4 + 9 + 16) / 4),
        ({"begin": 2}, (9 + 16) / 2),
        ({"begin": 3}, 16),
        ({"kind": "ema", "decay": 0.5}, (((1 + 4) / 2 + 9) / 2 + 16) / 2),
        ({"kind": "ema", "decay": 0.5, "begin": 2}, (9 + 16) / 2),
        ({"kind": "ema", "decay": 0.0}, 16),
        ({"kind": "ema"}, 0.999 * (0.999 * (0.999 * 1 + 0.001 * 4) + 0.001 * 9) + 0.001 * 16),
    ],
)
def test_equals_the_recursion_by_hand(options: dict[str, Any], expected: float) -> None:
    assert averaged([1.0, 4.0, 9.0, 16.0], **options) == pytest.approx(expected, rel=1e-12)


def test_it_waits_until_the_structure_is_fixed() -> None:
    average, model = Average(), linear(0.0)
    for value, settled in ((1.0, False), (2.0, False), (3.0, True), (5.0, True)):
        model.load_state_dict(linear(value).state_dict())
        average.step(model, settled)
    average.finish(model)
    assert float(model.bias.detach()) == 4.0


def test_units_that_leave_later_are_refused() -> None:
    average, model = Average(), linear(1.0)
    average.step(model)
    model.weight.data = model.weight.data[:, :1]
    with pytest.raises(UsageError, match=r"settled=pruner\.settled"):
        average.step(model)


def test_what_never_began_warns_and_leaves_the_weights() -> None:
    average, model = Average(begin=5), linear(3.0)
    average.step(model)
    with pytest.warns(UserWarning, match="nothing was averaged: in 1 steps the structure was never fixed after step 5"):
        average.finish(model)
    assert float(model.bias.detach()) == 3.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"begin": -1}, "begin must be a whole number of steps ≥ 0, got -1"),
        ({"begin": 0.9}, "begin must be a whole number of steps ≥ 0, got 0.9"),
        ({"kind": "mean"}, "kind must be 'equal' or 'ema', got 'mean'"),
        ({"decay": 0.9}, r"goes with kind='ema' alone; got 0.9 with 'equal'"),
        ({"kind": "ema", "decay": 1.0}, r"decay must be in \[0, 1\)"),
    ],
)
def test_refusals(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Average(**options)


def normalised() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.BatchNorm1d(4).eval()).double()


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        yield torch.randn(8, 2, generator=generator, dtype=torch.float64), torch.zeros(8)


def test_statistics_are_the_means_over_the_batches_under_the_averaged_weights() -> None:
    model, average = normalised(), Average()
    average.step(model)
    with torch.no_grad():
        model[0].weight.mul_(3)
    average.step(model)
    average.finish(model, batches())
    hidden = [x @ (2 * normalised()[0].weight).T + model[0].bias for x, _ in batches()]
    torch.testing.assert_close(model[1].running_mean, torch.stack([h.mean(0) for h in hidden]).mean(0).detach())
    torch.testing.assert_close(model[1].running_var, torch.stack([h.var(0) for h in hidden]).mean(0).detach())
    assert (model[1].training, model[3].training) == (True, False)
    assert model[1].momentum == 0.1


def test_batch_normalisation_wants_batches() -> None:
    model, average = normalised(), Average()
    average.step(model)
    with pytest.raises(UsageError, match="give finish the training batches"):
        average.finish(model)


def norm_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize("left", [0, 2, 4])
def test_batches_that_a_loop_has_left_are_taken_from_their_first(left: int) -> None:
    """The statistics are of whole epochs, wherever the loop broke off."""
    found = []
    for breaking in (0, left):
        batches = Batches(Split(torch.arange(48.0).view(16, 3), torch.zeros(16, dtype=torch.long)), 4, seed=1)
        for taken, _ in enumerate(batches):
            if taken + 1 == breaking:
                break
        batches.epoch, average, model = 0, Average(), norm_net()
        average.step(model)
        before = batches.state_dict()
        average.finish(model, batches)
        found.append(model[1].running_mean)
        assert breaking == 0 or batches.state_dict() == before, "the loop goes on where it stopped"
    assert torch.equal(*found)
    assert found[0].abs().max() > 1


def test_an_iterator_that_is_used_up_is_refused_before_anything_changes() -> None:
    average, model = Average(), norm_net()
    average.step(model)
    nn.init.zeros_(model[0].weight)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UsageError, match="no batch, as from an iterator that is used up"):
        average.finish(model, iter([]))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_averaging_does_not_touch_the_training() -> None:
    def trained(average: Average | None) -> nn.Module:
        x = torch.randn(32, 2, generator=torch.Generator().manual_seed(2))
        model = nn.Sequential(nn.Linear(2, 2))
        nn.init.ones_(model[0].weight)
        nn.init.zeros_(model[0].bias)
        fit(model, torch.optim.SGD(model.parameters(), lr=0.1), Batches(Split(x, (x[:, 0] > 0).long()), 8), epochs=2, average=average)
        return model

    average = Average(begin=3)
    plain, watched = trained(None), trained(average)
    assert torch.equal(plain[0].weight, watched[0].weight)  # type: ignore[index]
    average.finish(watched)
    assert not torch.equal(plain[0].weight, watched[0].weight)  # type: ignore[index]


def test_norms_in_evaluation_mode_keep_their_statistics() -> None:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    frozen, trained = model[1], model[5]
    assert isinstance(frozen, nn.BatchNorm1d)
    assert isinstance(trained, nn.BatchNorm1d)
    assert frozen.running_mean is not None
    assert trained.running_mean is not None
    frozen.running_mean.fill_(2.0)
    frozen.eval()
    model[3].eval()
    average = Average()
    average.step(model)
    again = Average()
    again.load_state_dict(average.state_dict(), model)
    model.eval()
    again.finish(model, [(x, x)])
    assert (frozen.running_mean == 2).all()
    with torch.no_grad():
        assert torch.allclose(trained.running_mean, model[:5](x).mean(0), atol=1e-6)
    assert not any(module.training for module in model.modules())
    assert trained.momentum == 0.1
