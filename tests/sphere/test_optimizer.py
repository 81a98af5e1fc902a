"""LpSGD as a torch optimizer: options, state, schedulers, mixed precision, removal of units, refusals."""

import copy
import io
import warnings

import pytest
import torch
from torch import nn

import parsinet as pn
from parsinet.errors import ArgumentTypeError, UsageError
from parsinet.sphere import LpSGD, conjugate, param_groups, to_primal, unit_norm


def network(dtype=torch.float64, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).to(dtype)


def data(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(32, 10, generator=generator, dtype=dtype), torch.randint(3, (32,), generator=generator)


def loss_of(model, seed):
    x, y = data(seed, next(model.parameters()).dtype)
    return nn.functional.cross_entropy(model(x), y)


def train(model, optimizer, seeds):
    for seed in seeds:
        optimizer.zero_grad(set_to_none=True)
        loss_of(model, seed).backward()
        optimizer.step()


def spheres(model, optimizer):
    """|‖w_r‖_p − 1|, largest over everything constrained."""
    sizes = [
        (unit_norm(w.detach(), group["p"], group["unit_dim"]) - 1).abs().max().item()
        for group in optimizer.param_groups
        if group["constrained"]
        for w in group["params"]
        if w.dim() > 1
    ]
    return max(sizes)


def test_it_trains_a_network():
    model = network()
    optimizer = LpSGD(param_groups(model, 1.2, free={"lr": 0.05}), lr=0.02, nesterov=True)
    assert spheres(model, optimizer) < 1e-12
    before = sum(loss_of(model, seed).item() for seed in range(5))
    train(model, optimizer, list(range(5)) * 20)
    assert sum(loss_of(model, seed).item() for seed in range(5)) < 0.85 * before
    assert spheres(model, optimizer) < 1e-12


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
        {"momentum": 0.0, "weight_decay": 0.1},
    ],
)
def test_free_groups_are_torch_sgd(options, foreach):
    ours, theirs = network(), network()
    one = LpSGD(ours.parameters(), lr=0.1, constrained=False, foreach=foreach, **options)
    other = torch.optim.SGD(theirs.parameters(), lr=0.1, **options)
    train(ours, one, range(5))
    train(theirs, other, range(5))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-14)


def test_all_parameters_at_once_constrains_matrices_and_frees_vectors():
    model = network()
    train(model, optimizer := LpSGD(model.parameters(), lr=0.01), range(3))
    assert {"dual" in optimizer.state[p] for p in model.parameters() if p.dim() > 1} == {True}
    assert not any("dual" in optimizer.state[p] for p in model.parameters() if p.dim() == 1)
    assert spheres(model, optimizer) < 1e-12


@pytest.mark.parametrize("p", [1.07, 1.2, 2.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stored_state_continues_bit_for_bit(p, dtype):
    straight = network(dtype)
    optimizer = LpSGD(param_groups(straight, p), lr=0.02, nesterov=True)
    train(straight, optimizer, range(4))
    file = io.BytesIO()
    torch.save({"model": straight.state_dict(), "optimizer": optimizer.state_dict()}, file)
    train(straight, optimizer, range(4, 8))
    file.seek(0)
    stored = torch.load(file, weights_only=True)
    for weights_first in (True, False):
        resumed = network(dtype, seed=1)
        if weights_first:
            resumed.load_state_dict(stored["model"])
        again = LpSGD(param_groups(resumed, p), lr=0.5)
        if not weights_first:
            resumed.load_state_dict(stored["model"])
        again.load_state_dict(stored["optimizer"])
        train(resumed, again, range(4, 8))
        assert all(torch.equal(a, b) for a, b in zip(resumed.state_dict().values(), straight.state_dict().values(), strict=True))


def test_without_the_state_a_run_continues_otherwise():
    """The law above can fail: a fresh optimizer has lost the momentum."""
    model = network()
    train(model, optimizer := LpSGD(param_groups(model), lr=0.02), range(4))
    twin = copy.deepcopy(model)
    train(model, optimizer, range(4, 6))
    train(twin, LpSGD(param_groups(twin), lr=0.02), range(4, 6))
    assert not torch.equal(twin[0].weight, model[0].weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("p", [1.07, 1.3, 3.0])
def test_narrow_parameters_have_wide_state(dtype, p):
    model = network(dtype)
    optimizer = LpSGD(param_groups(model, p), lr=1e-3)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for _ in range(20):
        optimizer.step()
    for parameter in model.parameters():
        state = optimizer.state[parameter]
        assert {value.dtype for value in state.values() if torch.is_tensor(value)} == {torch.float32}
        assert parameter.dtype == dtype
        assert torch.equal(parameter, state["primal"].to(dtype))
    for weight in (model[0].weight, model[3].weight):
        assert (unit_norm(optimizer.state[weight]["primal"], p) - 1).abs().max() < 1e-5


def test_a_grad_scaler_skips_a_step_and_leaves_everything_as_it_was():
    model = network(torch.float32)
    optimizer = LpSGD(param_groups(model), lr=0.02)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(loss_of(model, 0)).backward()
    scaler.step(optimizer)
    scaler.update()
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    model[0].weight.grad.fill_(float("inf"))
    scaler.scale(loss_of(model, 1)).backward()
    scaler.step(optimizer)
    scaler.update()
    for key, value in before[1].items():
        assert all(not torch.is_tensor(v) or torch.equal(v, optimizer.state_dict()["state"][key][name]) for name, v in value.items())
    assert all(torch.equal(dict(model.named_parameters())[key], value) for key, value in before[0].items() if "weight" in key)


def test_gradients_that_are_not_finite_spread_as_in_torch():
    w = nn.Parameter(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    optimizer = LpSGD([w], lr=0.1)
    w.grad = torch.ones(3, 4)
    w.grad[1, 0] = float("nan")
    optimizer.step()
    assert w.isnan().all(1).tolist() == [False, True, False]


def test_schedulers_closures_groups_and_missing_gradients():
    model = network()
    optimizer = LpSGD([model[0].weight], lr=0.1)
    optimizer.add_param_group({"params": [model[3].weight], "p": 3.0})
    optimizer.add_param_group({"params": list(model[5].parameters()), "constrained": False, "lr": 1.5})
    assert spheres(model, optimizer) < 1e-12
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    calls = []

    def closure():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model, 0)
        loss.backward()
        calls.append(loss.item())
        return loss.item()

    for _ in range(10):
        assert optimizer.step(closure) == calls[-1]
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    assert "dual" in optimizer.state[model[0].weight]
    assert "dual" not in optimizer.state[model[3].weight]
    optimizer.zero_grad(set_to_none=True)
    before = copy.deepcopy(model.state_dict())
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    copy.deepcopy(optimizer).step()


@pytest.mark.parametrize(("before", "after"), [(2.0, 1.1), (1.1, 1.5), (1.5, 3.0), (3.0, 1.2)])
def test_a_schedule_of_p_moves_weights_radially_to_the_new_sphere(before, after):
    model = network()
    optimizer = LpSGD([model[0].weight], lr=0.05, p=before)
    train(model, optimizer, range(3))
    weight = model[0].weight.detach().clone()
    optimizer.param_groups[0].update(p=after, lr=0.0)
    train(model, optimizer, [3])
    moved = model[0].weight.detach()
    assert torch.allclose(moved, weight / unit_norm(weight, after), atol=1e-12)
    assert ("dual" in optimizer.state[model[0].weight]) == (after <= 2)
    if after <= 2:
        assert torch.allclose(to_primal(optimizer.state[model[0].weight]["dual"], after), moved, atol=1e-12)


@pytest.mark.parametrize("p", [1.07, 1.2, 2.0, 3.0])
@pytest.mark.parametrize("foreach", [True, False])
def test_after_a_removal_the_rows_left_go_back_to_their_spheres(p, foreach):
    """Unit rows stay whole, input columns leave a row short: the next step puts it back before it moves, so it moves by η and no more."""
    model = network()
    optimizer = LpSGD(param_groups(model, p, last=()), lr=0.02, foreach=foreach)
    train(model, optimizer, range(4))
    structure = pn.trace(model, data(0)[0])
    mask = torch.ones(8, dtype=torch.bool)
    mask[[1, 5]] = False
    plan = structure.plan({"0": mask})
    x = data(9)[0]
    with torch.no_grad():
        model.eval()
        with pn.silence(model, plan):
            silenced = model(x)
        pn.shrink(model, plan, optimizers=[optimizer])
        assert torch.allclose(model(x), silenced, atol=1e-12)  # nothing is rescaled by the removal itself
        model.train()
    short = model[3].weight.detach().clone()
    for parameter in model.parameters():
        state = optimizer.state[parameter]
        assert all(value.shape == parameter.shape for value in state.values() if torch.is_tensor(value))
    assert (unit_norm(model[0].weight, p) - 1).abs().max() < 1e-12
    assert (unit_norm(short, p) - 1).abs().max() > 1e-3

    twin, other = copy.deepcopy((model, optimizer))
    other.project_()
    whole = short / unit_norm(short, p)
    assert torch.allclose(twin[3].weight, whole, atol=1e-12)
    assert torch.allclose(model[3].weight, short, atol=0)
    train(model, optimizer, [7])
    assert spheres(model, optimizer) < 1e-12
    if p <= 2:
        q = conjugate(p)
        old, new = optimizer_dual(whole, p), optimizer.state[model[3].weight]["dual"]
        assert (unit_norm(new, q) - 1).abs().max() < 1e-12
        assert unit_norm(new - old, q).max() <= 2 * 0.02 / (1 - 0.02) + 1e-12
    train(model, optimizer, range(8, 10))
    assert spheres(model, optimizer) < 1e-12


def optimizer_dual(w, p):
    return torch.copysign(w.abs() ** (p - 1), w)


def test_a_stored_state_continues_bit_for_bit_across_a_removal():
    model = network()
    optimizer = LpSGD(param_groups(model), lr=0.02)
    train(model, optimizer, range(4))
    mask = torch.ones(8, dtype=torch.bool)
    mask[2] = False
    pn.shrink(model, pn.trace(model, data(0)[0]).plan({"0": mask}), optimizers=[optimizer])
    resumed = copy.deepcopy(model)
    again = LpSGD(param_groups(resumed), lr=0.02)
    resumed.load_state_dict(model.state_dict())
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, range(4, 8))
    train(resumed, again, range(4, 8))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), resumed.state_dict().values(), strict=True))


def test_a_row_left_with_one_input_goes_on_without_a_sphere():
    w = nn.Parameter(torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    optimizer = LpSGD([w], lr=0.1)
    w.grad = torch.ones(3, 4, dtype=torch.float64)
    optimizer.step()
    w.data = w.data[:, :1].clone()
    optimizer.state[w] = {key: value[:, :1] if torch.is_tensor(value) else value for key, value in optimizer.state[w].items()}
    before, w.grad = w.detach().clone(), torch.ones(3, 1, dtype=torch.float64)
    optimizer.step()
    assert torch.allclose(w, before - 0.1 * 1.9)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"p": 1.0}, UsageError, "LpSGD: p must be > 1 and finite .the sphere has corners at p = 1., got 1.0. Use 1.02 ≤ p ≤ 2"),
        ({"p": 0.9}, UsageError, "got 0.9"),
        ({"p": float("nan")}, UsageError, "p must be > 1"),
        ({"p": "small"}, ArgumentTypeError, "p must be a number, got str"),
        ({"lr": 1.0}, UsageError, r"lr must be in \[0, 1\) for a constrained group, got 1.0"),
        ({"lr": -0.1, "constrained": False}, UsageError, r"lr must be in \[0, ∞\)"),
        ({"lr": "a"}, ArgumentTypeError, "lr must be a number, got str"),
        ({"lr": None}, ArgumentTypeError, "lr must be a number, got NoneType"),
        ({"momentum": "a"}, ArgumentTypeError, "momentum must be a number, got str"),
        ({"momentum": 1.0}, UsageError, r"momentum must be in \[0, 1\)"),
        ({"dampening": -1.0}, UsageError, "dampening"),
        ({"weight_decay": -1.0}, UsageError, "weight_decay"),
        ({"g_min": float("nan")}, UsageError, "g_min"),
        ({"nesterov": True, "momentum": 0.0}, UsageError, "nesterov needs momentum"),
        ({"form": "primal"}, UsageError, "form must be one of auto, dual, frank-wolfe, got 'primal'"),
        ({"constrained": 1}, ArgumentTypeError, "constrained must be True or False"),
        ({"foreach": "x"}, ArgumentTypeError, "foreach must be True or False, got 'x'"),
        ({"unit_dim": 2}, UsageError, "unit_dim=2"),
    ],
)
def test_refusals(options, error, words):
    with pytest.raises(error, match=words):
        LpSGD([nn.Parameter(torch.ones(3, 4))], **options)


def test_a_refused_group_leaves_the_optimizer_as_it_was():
    optimizer = LpSGD([nn.Parameter(torch.ones(3, 4))])
    with pytest.raises(UsageError, match="must be real"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))]})
    with pytest.raises(UsageError, match="p must be > 1"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, 2))], "p": 1.0})
    assert len(optimizer.param_groups) == 1


def test_options_changed_later_and_sparse_gradients_are_refused_at_the_step():
    w = nn.Parameter(torch.ones(3, 4))
    optimizer = LpSGD([w])
    w.grad = torch.ones(3, 4).to_sparse()
    with pytest.raises(UsageError, match="sparse gradients"):
        optimizer.step()
    w.grad = torch.ones(3, 4)
    optimizer.param_groups[0]["lr"] = 1.5
    with pytest.raises(UsageError, match="lr must be in"):
        optimizer.step()


def test_warnings():
    w = nn.Parameter(torch.ones(3, 4))
    with pytest.warns(UserWarning, match="p = 1.01 is below 1.02"):
        LpSGD([w], p=1.01)
    with pytest.warns(UserWarning, match="weight_decay=0.1 on a constrained group"):
        optimizer = LpSGD([w], weight_decay=0.1)
    w.grad = torch.ones(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        LpSGD([nn.Parameter(torch.ones(3, 4))], weight_decay=0.1, constrained=False)
        LpSGD([nn.Parameter(torch.ones(3, 4))], weight_decay=0.1, p=2.0)
