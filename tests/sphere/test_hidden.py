"""Hidden weights: 0 in the forward pass, remembered in v, back at once, under every mode, norm, form and way of stepping."""

import copy
import io

import pytest
import torch
from torch import nn

import parsinet as pn
from parsinet.errors import ArgumentTypeError, UsageError
from parsinet.sphere import LpSGD, conjugate, param_groups, retract, to_dual, to_primal, unit_norm

PS = (1.02, 1.2, 1.3, 2.0, 3.0)
LAYOUTS = {"linear": ((6, 9), 0), "convolution": ((5, 3, 2, 4), 0), "transposed": ((3, 5, 2, 4), 1), "channels last": ((5, 3, 2, 4), 0)}


def normal(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mask_of(shape, seed, unit_dim=0, density=0.6):
    """A random mask with an active entry in every unit."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < density
    mask.movedim(unit_dim, 0).flatten(1)[:, 0] = True
    return mask


def made(layout="linear", dtype=torch.float64, steps=3, **options):
    """A parameter after some steps, its optimizer and unit dimension."""
    shape, unit_dim = LAYOUTS[layout]
    value = normal(shape, 0, dtype)
    if layout == "channels last":
        value = value.contiguous(memory_format=torch.channels_last)
    w = nn.Parameter(value)
    optimizer = LpSGD([w], **{"lr": 0.05, "g_min": 0.0, "unit_dim": unit_dim, **options})
    advance(w, optimizer, range(1, 1 + steps))
    return w, optimizer, unit_dim


def advance(w, optimizer, seeds):
    for seed in seeds:
        w.grad = (
            normal(w.shape, seed)
            .to(w.dtype)
            .contiguous(memory_format=torch.channels_last if w.dim() == 4 and not w.is_contiguous() else torch.contiguous_format)
        )
        optimizer.step()


def hidden_part(optimizer, w):
    """The coordinates in which a step averages: v, or the unmasked w."""
    state = optimizer.state[w]
    return state["dual"] if "dual" in state else state["primal"]


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("regrow", ["semi", "hard", "dense"])
@pytest.mark.parametrize("norm_over", ["all", "active"])
@pytest.mark.parametrize("p", PS)
def test_units_stay_on_the_sphere_of_the_norm_that_counts(p, norm_over, regrow, foreach):
    for layout in LAYOUTS:
        w, optimizer, unit_dim = made(layout, p=p, norm_over=norm_over, regrow=regrow, foreach=foreach, nesterov=True)
        exponent = conjugate(p) if p <= 2 else p
        for round_ in range(3):
            mask = mask_of(w.shape, round_, unit_dim)
            optimizer.set_masks({w: mask})
            for _ in range(2):
                assert (w[~mask] == 0).all()
                whole = hidden_part(optimizer, w)
                if norm_over == "active":
                    assert (unit_norm(w.detach(), p, unit_dim) - 1).abs().max() < 1e-10
                    whole = whole * mask
                assert (unit_norm(whole, exponent, unit_dim) - 1).abs().max() < 1e-12
                advance(w, optimizer, range(10 * round_, 10 * round_ + 4))


def test_the_norm_over_all_entries_leaves_the_visible_unit_short():
    """The law above can fail: under "all" the visible part is inside the sphere, and v of the hidden part makes up for it."""
    w, optimizer, _ = made(p=1.2)
    optimizer.set_masks({w: mask_of(w.shape, 0)})
    assert (unit_norm(w.detach(), 1.2) < 0.99).any()


@pytest.mark.parametrize("p", PS)
@pytest.mark.parametrize("regrow", ["semi", "hard", "dense"])
@pytest.mark.parametrize("norm_over", ["all", "active"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_foreach_equals_plain(layout, norm_over, regrow, p):
    for eta in (0.05, 0.5):
        ends = []
        for foreach in (True, False):
            w, optimizer, unit_dim = made(layout, p=p, foreach=foreach, regrow=regrow, norm_over=norm_over, lr=eta, momentum=0.5)
            for seed in (1, 2):
                optimizer.set_masks({w: mask_of(w.shape, seed, unit_dim)})
                advance(w, optimizer, range(5 * seed, 5 * seed + 3))
            ends.append(w.detach())
        assert (ends[0] - ends[1]).abs().max() < 1e-9


@pytest.mark.parametrize("p", [1.07, 1.2, 2.0, 3.0])
def test_semi_pruned_weights_come_back_with_value_and_sign(p):
    w, optimizer, _ = made(p=p)
    before, mask = w.detach().clone(), mask_of(w.shape, 1)
    optimizer.set_masks({w: mask})
    assert torch.equal(w, torch.where(mask, before, 0.0))  # what stays keeps every bit
    advance(w, optimizer, range(20, 25))
    assert (w[~mask] == 0).all()
    whole, visible = hidden_part(optimizer, w).clone(), w.detach().clone()
    optimizer.set_masks({w: torch.ones_like(mask)})
    expected = to_primal(whole, p) if p <= 2 else whole
    assert torch.equal(w[~mask], expected[~mask])
    assert torch.equal(w[mask], visible[mask])
    assert torch.equal(w[~mask].sign(), before[~mask].sign())
    assert (w[~mask] != 0).all()


def test_hard_pruned_weights_come_back_as_zero_and_then_move():
    w, optimizer, _ = made(p=1.3, regrow="hard")
    mask = mask_of(w.shape, 1)
    optimizer.set_masks({w: mask})
    assert (optimizer.state[w]["dual"][~mask] == 0).all()
    assert (unit_norm(w.detach(), 1.3) - 1).abs().max() < 1e-12  # the rest takes over what was lost
    advance(w, optimizer, range(20, 25))
    optimizer.set_masks({w: torch.ones_like(mask)})
    assert (w[~mask] == 0).all()
    optimizer.param_groups[0]["momentum"] = 0.0
    advance(w, optimizer, [30])
    assert torch.equal(w[~mask].sign(), -w.grad[~mask].sign())


@pytest.mark.parametrize(("p", "foreach"), [(1.07, True), (1.2, True), (1.2, False), (2.0, True)])
def test_a_hidden_dual_shares_the_rescaling_of_its_unit_and_nothing_else(p, foreach):
    """v ← v(1−η)/N with N the norm of what the visible entries moved to."""
    w, optimizer, _ = made(p=p, momentum=0.0, foreach=foreach)
    mask, q, eta = mask_of(w.shape, 1), conjugate(p), 0.05
    optimizer.set_masks({w: mask})
    v, g = optimizer.state[w]["dual"].clone(), normal(w.shape, 40) * mask
    moved = (1 - eta) * v - eta * g / unit_norm(g, q)
    w.grad = normal(w.shape, 40)
    dense = w.grad.clone()
    optimizer.step()
    assert torch.equal(w.grad, dense)  # the engine reads the dense gradient there
    after = optimizer.state[w]["dual"]
    assert torch.allclose(after[~mask], (v * (1 - eta) / unit_norm(moved, q))[~mask], atol=1e-13)
    assert torch.allclose(after, moved / unit_norm(moved, q), atol=1e-13)


@pytest.mark.parametrize("form", ["dual", "frank-wolfe"])
def test_hidden_gradients_do_not_count_unless_the_mode_is_dense(form):
    changed = {}
    for regrow in ("semi", "hard", "dense"):
        ends = []
        for scale in (1.0, 100.0):
            w, optimizer, _ = made(p=1.5, form=form, regrow=regrow)
            mask = mask_of(w.shape, 1)
            optimizer.set_masks({w: mask})
            w.grad = torch.where(mask, normal(w.shape, 7), scale * normal(w.shape, 7))
            optimizer.step()
            ends.append((w.detach().clone(), hidden_part(optimizer, w)))
            assert ((optimizer.state[w]["momentum_buffer"][~mask] == 0).all()) == (regrow != "dense")
        changed[regrow] = not torch.equal(*[whole for _, whole in ends])
        assert all((visible[~mask] == 0).all() for visible, _ in ends)
    assert changed == {"semi": False, "hard": False, "dense": True}


def test_in_dense_mode_the_hidden_dual_trains_as_if_nothing_were_hidden():
    """Straight-through: along given gradients the trajectory of v does not depend on the mask, momentum apart."""
    one, free, _ = made(p=1.3, regrow="dense", momentum=0.0)
    two, masked, _ = made(p=1.3, regrow="dense", momentum=0.0)
    masked.set_masks({two: mask_of(two.shape, 1)})
    advance(one, free, range(20, 26))
    advance(two, masked, range(20, 26))
    assert torch.allclose(masked.state[two]["dual"], free.state[one]["dual"], atol=1e-12)
    masked.set_masks({two: None})
    assert torch.allclose(two, one, atol=1e-12)


def test_moments_are_cleared_where_weights_are_hidden():
    w, optimizer, _ = made()
    mask = mask_of(w.shape, 1)
    buffer = optimizer.state[w]["momentum_buffer"].clone()
    optimizer.set_masks({w: mask})
    assert torch.equal(optimizer.state[w]["momentum_buffer"], buffer * mask)
    advance(w, optimizer, [5])
    assert (optimizer.state[w]["momentum_buffer"][~mask] == 0).all()
    optimizer.set_masks({w: torch.ones_like(mask)})
    assert (optimizer.state[w]["momentum_buffer"][~mask] == 0).all()


@pytest.mark.parametrize("p", [1.2, 3.0])
def test_showing_everything_leaves_no_trace(p):
    w, optimizer, _ = made(p=p)
    keys, before = set(optimizer.state[w]), w.detach().clone()
    optimizer.set_masks({w: None})
    assert optimizer.mask(w) is None
    optimizer.set_masks({w: mask_of(w.shape, 1)})
    assert optimizer.mask(w).equal(mask_of(w.shape, 1))
    optimizer.set_masks({w: None})
    assert optimizer.mask(w) is None
    assert set(optimizer.state[w]) == keys
    assert torch.allclose(w, before, atol=1e-15)


def test_masks_may_be_set_before_the_first_step_and_are_copied():
    w, optimizer, _ = made(steps=0, p=1.2)
    start, mask = w.detach().clone(), mask_of(w.shape, 1)
    optimizer.set_masks({w: mask})
    visible = mask.clone()
    mask.fill_(True)
    assert torch.equal(w, torch.where(visible, start, 0.0))
    advance(w, optimizer, [1])
    assert (w[~visible] == 0).all()
    assert torch.allclose(to_primal(optimizer.state[w]["dual"], 1.2)[visible], w[visible])


@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_free_weights_are_hard_pruned(rule, dtype):
    w, optimizer, _ = made(constrained=False, rule=rule, weight_decay=0.1, dtype=dtype)
    mask = mask_of(w.shape, 1)
    optimizer.set_masks({w: mask})
    advance(w, optimizer, range(5, 8))
    moments = [
        value for value in optimizer.state[w].values() if torch.is_tensor(value) and value.shape == w.shape and value.is_floating_point()
    ]
    assert len(moments) == (1 if rule == "sgd" else 2) + (dtype == torch.bfloat16)
    assert all((value[~mask] == 0).all() for value in (w, *moments))
    assert (w[mask] != 0).all()
    optimizer.set_masks({w: None})
    assert (w[~mask] == 0).all()
    advance(w, optimizer, [9])
    assert (w != 0).all()


@pytest.mark.parametrize("p", [1.2, 3.0])
def test_narrow_parameters_are_hidden_too(p):
    w, optimizer, _ = made(dtype=torch.bfloat16, p=p)
    mask = mask_of(w.shape, 1)
    optimizer.set_masks({w: mask})
    for _ in range(2):
        assert (w[~mask] == 0).all()
        state = optimizer.state[w]
        assert torch.equal(w, (state["primal"] * mask).to(w.dtype))
        assert {value.dtype for value in state.values() if torch.is_tensor(value)} == {torch.float32, torch.bool}
        advance(w, optimizer, range(5, 8))
    optimizer.set_masks({w: None})
    whole = to_primal(state["dual"], p) if p <= 2 else state["primal"]
    assert torch.equal(w, whole.to(w.dtype))


@pytest.mark.parametrize("p", [1.2, 3.0])
@pytest.mark.parametrize("norm_over", ["all", "active"])
@pytest.mark.parametrize("regrow", ["semi", "hard", "dense"])
def test_units_with_nothing_active_stay_and_nothing_becomes_nan(regrow, norm_over, p):
    for foreach in (True, False):
        w, optimizer, _ = made(p=p, norm_over=norm_over, regrow=regrow, foreach=foreach)
        mask = mask_of(w.shape, 1)
        mask[2] = False
        optimizer.set_masks({w: mask})
        advance(w, optimizer, range(5, 9))
        assert (w[2] == 0).all()
        optimizer.set_masks({w: None})
        advance(w, optimizer, range(9, 12))
        assert w.isfinite().all()
        assert (unit_norm(w.detach(), p) - 1).abs().max() < 1e-12


@pytest.mark.parametrize(("before", "after"), [(1.2, 1.5), (1.5, 3.0), (3.0, 1.3)])
def test_a_schedule_of_p_keeps_hidden_weights(before, after):
    w, optimizer, _ = made(p=before)
    mask = mask_of(w.shape, 1)
    optimizer.set_masks({w: mask})
    whole = hidden_part(optimizer, w)
    whole = to_primal(whole, before) if before <= 2 else whole.clone()
    optimizer.param_groups[0].update(p=after, lr=0.0)
    advance(w, optimizer, [5])
    assert (w[~mask] == 0).all()
    optimizer.set_masks({w: None})
    assert torch.allclose(w, retract(whole, after), atol=1e-12)


def test_a_change_of_the_norm_takes_effect_at_the_next_step():
    w, optimizer, _ = made(p=1.2)
    optimizer.set_masks({w: mask_of(w.shape, 1)})
    for norm_over, exact in (("active", True), ("all", False)):
        optimizer.param_groups[0].update(norm_over=norm_over, lr=0.0)
        advance(w, optimizer, [5])
        assert bool((unit_norm(w.detach(), 1.2) - 1).abs().max() < 1e-12) == exact


def network(dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)).to(dtype)


def train(model, optimizer, seeds):
    for seed in seeds:
        optimizer.zero_grad()
        model(normal((32, 8), seed, model[0].weight.dtype)).square().mean().backward()
        optimizer.step()


def masked_network(dtype=torch.float64, **options):
    model = network(dtype)
    optimizer = LpSGD(param_groups(model, free={"rule": "adam"}, **options), lr=0.02)
    train(model, optimizer, range(3))
    weights = [model[place].weight for place in (0, 3, 5)]
    optimizer.set_masks({w: mask_of(w.shape, seed) for seed, w in enumerate(weights)})
    train(model, optimizer, range(3, 5))
    return model, optimizer


@pytest.mark.parametrize("options", [{}, {"p": 3.0}, {"regrow": "dense", "norm_over": "active"}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stored_state_continues_bit_for_bit(dtype, options):
    model, optimizer = masked_network(dtype, **options)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    stored = torch.load(file, weights_only=True)
    resumed = network(dtype)
    again = LpSGD(param_groups(resumed), lr=0.5)
    resumed.load_state_dict(stored["model"])
    again.load_state_dict(stored["optimizer"])
    assert again.mask(resumed[0].weight).dtype == torch.bool
    for one, other in ((model, optimizer), (resumed, again)):
        train(one, other, range(5, 8))
        other.set_masks({one[0].weight: mask_of(one[0].weight.shape, 9), one[3].weight: None})
        train(one, other, range(8, 10))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), resumed.state_dict().values(), strict=True))
    assert (model[0].weight[~mask_of((8, 8), 9)] == 0).all()


@pytest.mark.parametrize("options", [{}, {"p": 3.0}, {"norm_over": "active"}, {"regrow": "hard"}])
def test_a_removal_cuts_masks_and_duals_with_the_weights(options):
    """All weights are square: only the optimizer's own word tells that its state has one number per entry."""
    model, optimizer = masked_network(**options)
    before = {name: copy.deepcopy(optimizer.state[w]) for name, w in model.named_parameters()}
    keep = torch.ones(8, dtype=torch.bool)
    keep[[1, 5]] = False
    pn.shrink(model, pn.trace(model, normal((4, 8))).plan({"0": keep}), optimizers=[optimizer])
    for name, rows, columns in (("0.weight", keep, slice(None)), ("3.weight", slice(None), keep)):
        old, new = before[name], optimizer.state[model.get_parameter(name)]
        assert set(old) == set(new)
        for key, value in old.items():
            if torch.is_tensor(value):
                assert torch.equal(new[key], value[rows][:, columns])
    mask = optimizer.mask(model[3].weight)
    train(model, optimizer, range(6, 9))
    assert (model[3].weight[~mask] == 0).all()
    assert (model[3].weight[mask] != 0).any()
    if options.get("norm_over") == "active":
        p = 1.2
        assert (unit_norm(model[3].weight.detach(), p)[mask.any(1)] - 1).abs().max() < 1e-12


def test_adopted_weights_start_a_new_dual():
    w, optimizer, _ = made(p=1.2)
    with torch.no_grad():
        w[:, 0] *= 0.3
    wanted = retract(w.detach(), 1.2)
    twin, other = copy.deepcopy((w, optimizer))
    optimizer.adopt([w])
    assert torch.allclose(w, wanted, atol=1e-14)
    assert torch.allclose(optimizer.state[w]["dual"], to_dual(wanted, 1.2), atol=1e-14)
    assert "momentum_buffer" in optimizer.state[w]
    with pytest.raises(UsageError, match="adopt: a parameter is not one of"):
        other.adopt([nn.Parameter(torch.ones(2, 2))])
    assert not torch.allclose(twin, wanted)


@pytest.mark.parametrize("show_all", [True, False])
@pytest.mark.parametrize("norm_over", ["all", "active"])
def test_units_hidden_as_a_whole_come_back_under_small_steps(norm_over, show_all):
    """Hard mode takes their v away; with nothing but a small step in it, Σ|v|^q is far below what float32 holds."""
    seen = []
    for foreach in (True, False):
        options = {"p": 1.04, "lr": 1e-3, "regrow": "hard", "norm_over": norm_over, "momentum": 0.0, "foreach": foreach}
        w, optimizer, _ = made(dtype=torch.float32, **options)
        mask = mask_of(w.shape, 1)
        hidden = mask.clone()
        hidden[0] = False
        optimizer.set_masks({w: hidden})
        optimizer.set_masks({w: None if show_all else mask})
        advance(w, optimizer, [7, 8])
        assert optimizer.state[w]["dual"][0].norm() > 0.5
        seen.append(w.detach().clone())
    assert torch.allclose(*seen, rtol=1e-3, atol=1e-5)


def test_a_mask_told_again_changes_nothing_after_a_removal():
    """Inputs that nobody saw leave; the unit goes back to its sphere at the next step, not before."""
    model, optimizer = masked_network()
    weight = model[3].weight
    mask = optimizer.mask(weight).clone()
    mask[:, 0] = False
    optimizer.set_masks({weight: mask})
    before, units = weight.detach()[:, 1:].clone(), torch.ones(mask.shape[1], dtype=torch.bool)
    units[0] = False
    structure = pn.structure.trace(model, normal((2, 8)))
    pn.structure.shrink(model, structure.plan({"0": units}), optimizers=[optimizer])
    optimizer.set_masks({weight: mask[:, 1:]})
    assert torch.equal(weight, before)


def test_refusals():
    w, optimizer, _ = made()
    before = copy.deepcopy(optimizer.state_dict())
    good = mask_of(w.shape, 1)
    for bad, error, words in (
        ({w: good.float()}, ArgumentTypeError, "must be a bool tensor .* got torch.float32"),
        ({w: [True]}, ArgumentTypeError, "got list"),
        ({w: good[:2]}, UsageError, r"the parameter's shape \[6, 9\], got \[2, 9\]"),
        ({w: good, nn.Parameter(torch.ones(2)): good}, UsageError, "not one of this optimizer's"),
    ):
        with pytest.raises(error, match=words):
            optimizer.set_masks(bad)
    assert set(optimizer.state[w]) == set(before["state"][0])
    for option in ("regrow", "norm_over"):
        with pytest.raises(UsageError, match=f"{option} must be one of"):
            LpSGD([w], **{option: "soft"})


def test_gradients_at_the_masked_weights_are_those_of_an_explicit_pass():
    """The parameter is the effective weight: .grad is ∂L/∂(w⊙M) at hidden entries too, from one pass that updates batch statistics once."""
    model, optimizer = masked_network()
    x = normal((32, 8), 50)
    twin = copy.deepcopy(model)
    optimizer.zero_grad()
    model(x).square().mean().backward()
    effective = (to_primal(optimizer.state[model[0].weight]["dual"], 1.2) * optimizer.mask(model[0].weight)).requires_grad_()
    loss = torch.func.functional_call(twin, {"0.weight": effective}, (x,)).square().mean()
    (g,) = torch.autograd.grad(loss, effective)
    assert torch.allclose(model[0].weight.grad, g, atol=1e-12)
    assert (g[~optimizer.mask(model[0].weight)] != 0).any()
    assert torch.allclose(model[1].running_mean, twin[1].running_mean)


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("p", [1.05, 1.2, 3.0])
def test_what_the_visible_norm_does_not_hold_stays_bounded(p, foreach):
    """A gradient that keeps pointing outwards shrinks the visible v and leaves the hidden ones behind, which grew without end."""
    w = nn.Parameter(normal((4, 20), dtype=torch.float32))
    optimizer = LpSGD([w], lr=0.2, momentum=0.0, p=p, norm_over="active", foreach=foreach)
    mask = mask_of(w.shape, 3)
    optimizer.set_masks({w: mask})
    for _ in range(400):
        w.grad = optimizer.state[w]["dual"].detach().clone() if "dual" in optimizer.state[w] else w.detach().clone()
        optimizer.step()
    assert bool(w.isfinite().all())
    assert float(hidden_part(optimizer, w).abs().max()) <= 1
    assert torch.allclose(unit_norm(w.detach(), p), torch.ones(4, 1), atol=1e-4)
    optimizer.set_masks({w: None})
    optimizer.step()
    assert bool(w.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_weights_are_put_on_their_spheres_at_once_and_stay(dtype):
    w = nn.Parameter(normal((4, 8), dtype=torch.float32).to(dtype))
    optimizer = LpSGD([w], lr=0.01, p=1.3)
    eps = torch.finfo(dtype).eps
    assert bool(((unit_norm(w.detach(), 1.3) - 1).abs() <= eps).all())
    before = w.detach().clone()
    LpSGD([w], lr=0.01, p=1.3)
    assert torch.equal(w.detach(), before)
    w.data.mul_(1.02)
    optimizer.project_()
    assert bool(((unit_norm(w.detach(), 1.3) - 1).abs() <= eps).all())
    w.grad = torch.zeros_like(w)
    optimizer.step()
    assert float((w.detach() - before).abs().max()) <= 2 * eps


@pytest.mark.parametrize("p", [1.3, 3.0])
@pytest.mark.parametrize("norm_over", ["all", "active"])
def test_a_masked_network_resumes_bitwise_whenever_the_optimizer_is_built(p: float, norm_over: str) -> None:
    """Built behind the loaded weights, it cannot know the mask yet, and what is visible of a unit is rightly off its sphere."""

    def build(weight: nn.Parameter) -> LpSGD:
        return LpSGD([weight], lr=0.05, p=p, momentum=0.9, norm_over=norm_over)

    def step(weight: nn.Parameter, optimizer: LpSGD, k: int) -> None:
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(k))
        optimizer.step()

    weight = nn.Parameter(torch.randn(5, 8, generator=torch.Generator().manual_seed(9)))
    optimizer = build(weight)
    step(weight, optimizer, 0)
    optimizer.set_masks({weight: torch.rand(5, 8, generator=torch.Generator().manual_seed(8)) < 0.4})
    step(weight, optimizer, 1)
    saved, state = weight.detach().clone(), copy.deepcopy(optimizer.state_dict())
    step(weight, optimizer, 2)
    behind = nn.Parameter(saved.clone())
    late = build(behind)
    late.load_state_dict(state)
    assert torch.equal(behind, saved)
    step(behind, late, 2)
    assert torch.equal(behind, weight)
    other = nn.Parameter(torch.randn(5, 8))
    first = build(other)
    with torch.no_grad():
        other.copy_(saved)
    first.load_state_dict(state)
    step(other, first, 2)
    assert torch.equal(other, weight)
