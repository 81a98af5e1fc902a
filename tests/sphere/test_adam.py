"""Adam for free tensors: torch's AdamW bit for bit, in groups beside spheres."""

import copy

import pytest
import torch
from torch import nn

from parsinet.errors import UsageError
from parsinet.sphere import LpSGD, param_groups


def network(dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)


def train(model, optimizer, steps):
    for step in steps:
        x = torch.randn(16, 10, generator=torch.Generator().manual_seed(step), dtype=model[0].weight.dtype)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-4}])
def test_a_free_group_with_adam_is_torch_adamw_bit_for_bit(options, dtype, foreach):
    ours, theirs = network(dtype), network(dtype)
    one = LpSGD(ours.parameters(), lr=0.01, constrained=False, rule="adam", foreach=foreach, **options)
    other = torch.optim.AdamW(theirs.parameters(), lr=0.01, foreach=foreach, **{"weight_decay": 0.0, **options})
    train(ours, one, range(5))
    train(theirs, other, range(5))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
        assert set(one.state[a]) == set(other.state[b])
        assert all(torch.equal(one.state[a][key], other.state[b][key]) for key in one.state[a])


def test_it_is_not_sgd():
    ours, theirs = network(), network()
    train(ours, LpSGD(ours.parameters(), lr=0.01, constrained=False, rule="adam"), range(3))
    train(theirs, LpSGD(theirs.parameters(), lr=0.01, constrained=False), range(3))
    assert not torch.allclose(ours[0].weight, theirs[0].weight)


def test_spheres_and_adam_share_an_optimizer_and_its_state():
    model = network()
    optimizer = LpSGD(param_groups(model, 1.2, free={"rule": "adam", "lr": 1e-3}), lr=0.02)
    train(model, optimizer, range(3))
    assert set(optimizer.state[model[0].weight]) == {"dual", "momentum_buffer", "p", "fan_in"}
    assert set(optimizer.state[model[3].weight]) == {"step", "exp_avg", "exp_avg_sq"}
    resumed = network()
    again = LpSGD(param_groups(resumed), lr=0.5)
    resumed.load_state_dict(model.state_dict())
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, range(3, 6))
    train(resumed, again, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), resumed.state_dict().values(), strict=True))


def test_half_precision_parameters_have_wide_moments():
    model = network(torch.bfloat16)
    optimizer = LpSGD(model.parameters(), lr=1e-4, constrained=False, rule="adam")
    before = model[0].weight.detach().clone()
    train(model, optimizer, range(3))
    state = optimizer.state[model[0].weight]
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert torch.equal(model[0].weight, state["primal"].bfloat16())
    assert not torch.equal(state["primal"], before.float())


def test_states_of_earlier_versions_get_the_new_options():
    model = network()
    optimizer = LpSGD(param_groups(model), lr=0.02)
    train(model, optimizer, range(2))
    stored = copy.deepcopy(optimizer.state_dict())
    for group in stored["param_groups"]:
        for name in ("rule", "betas", "eps", "regrow", "norm_over"):
            del group[name]
    again = LpSGD(param_groups(model), lr=0.02)
    again.load_state_dict(stored)
    train(model, again, range(2, 4))
    assert again.param_groups[0]["regrow"] == "semi"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rule": "adamw"}, "rule must be one of sgd, adam, got 'adamw'"),
        ({"betas": (0.9, 1.0)}, r"betas must be two numbers in \[0, 1\)"),
        ({"betas": (0.9,)}, "betas"),
        ({"eps": -1.0}, "eps"),
    ],
)
def test_refusals(options, words):
    with pytest.raises(UsageError, match=words):
        LpSGD([nn.Parameter(torch.ones(3, 4))], **options)
