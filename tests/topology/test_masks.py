"""Masks at work on a model: gradients, moments, exact zeros, removal of units, state; and planted faults that the laws see."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parsinet import Pruner, baselines, topology
from parsinet.errors import ArgumentTypeError, ParsinetWarning, StructureError, UsageError
from parsinet.structure import shrink, trace
from parsinet.topology import Masks

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=1e-2, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=0.1),
}

EPS = {"exp_inf": 1e-8}
"""Adamax adds its eps to the moment itself."""


class Small(nn.Module):
    """A convolution, a batch norm, a transposed convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6)
        self.up, self.out = nn.ConvTranspose2d(6, 4, 2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.up(torch.relu(self.norm(self.conv(x))))).mean((2, 3)))


def network() -> Small:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small().double()


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(8, 2, 5, 7, dtype=torch.float64, generator=random), torch.randint(0, 3, (8,), generator=random)


def random_masks(masks: Masks, seed: int = 0, share: float = 0.4) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {name: torch.rand(mask.shape, generator=random) < share for name, mask in masks.masks.items()}


def start(name: str = "sgd") -> tuple[Small, Any, Masks]:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    masks = Masks(topology.maskable(model), optimizers=[optimizer], generator=torch.Generator().manual_seed(3))
    return model, optimizer, masks


def gradient(weight: Tensor, dense: Tensor) -> Tensor:
    return dense


def backward(model: nn.Module, seed: int = 0, share: float = 1.0) -> None:
    x, y = batch(seed)
    (share * F.cross_entropy(model(x), y)).backward()


def hidden_values(values: dict[str, Tensor], masks: Masks) -> Tensor:
    return torch.cat([values[name][~mask] for name, mask in masks.masks.items()])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hidden_weights_gradients_and_moments_stay_exactly_zero(name: str) -> None:
    model, optimizer, masks = start(name)
    for k in range(9):
        backward(model, k)
        gradients = {n: w.grad for n, w in masks.weights.items() if w.grad is not None}
        assert not hidden_values(gradients, masks).any()
        optimizer.step()
        optimizer.zero_grad()
        masks.restore_()
        if k % 3 == 2:
            masks.set(random_masks(masks, k))
        assert not hidden_values({n: w.detach() for n, w in masks.weights.items()}, masks).any()
        for key in next(iter(optimizer.state.values())):
            state = {n: optimizer.state[w][key] for n, w in masks.weights.items()}
            if all(isinstance(v, Tensor) and v.shape == masks.weights[n].shape for n, v in state.items()):
                assert not (hidden_values(state, masks).abs() > EPS.get(key, 0)).any(), key


def test_the_law_objects_to_moments_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parsinet.topology.masks.forget_", lambda *_: None)
    with pytest.raises(AssertionError):
        test_hidden_weights_gradients_and_moments_stay_exactly_zero("adam")


def test_an_optimizer_that_moves_zeros_is_put_right_after_each_step() -> None:
    class Drifting(torch.optim.SGD):
        """Adds to every weight, whatever its gradient."""

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.add_(0.1)

    model = network()
    optimizer = Drifting(model.parameters())
    masks = Masks(topology.maskable(model), optimizers=[optimizer])
    masks.begin(random_masks(masks))
    optimizer.step()
    weights = {n: w.detach() for n, w in masks.weights.items()}
    assert hidden_values(weights, masks).any()
    masks.restore_()
    assert not hidden_values(weights, masks).any()


def explicit_dense_gradients(model: Small, masks: Masks, seeds: list[int]) -> dict[str, Tensor]:
    """The slow twin: a separate pass at w⊙M for each batch, without hooks, on a copy."""
    twin = copy.deepcopy(model)
    total: dict[str, Tensor] = {}
    for seed in seeds:
        x, y = batch(seed)
        effective = {n: (w.detach() * masks.masks[n]).requires_grad_() for n, w in masks.weights.items()}
        loss = F.cross_entropy(torch.func.functional_call(twin, effective, (x,)), y) / len(seeds)
        for (n, _), g in zip(effective.items(), torch.autograd.grad(loss, list(effective.values())), strict=True):
            total[n] = total.get(n, torch.zeros_like(g)) + g
    return total


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]], ids=["one pass", "accumulated"])
def test_the_dense_gradient_is_that_of_an_explicit_pass(seeds: list[int]) -> None:
    model, _, masks = start()
    masks.begin(random_masks(masks))
    expected = explicit_dense_gradients(model, masks, seeds)
    masks.catch(gradient)
    for seed in seeds:
        backward(model, seed, 1 / len(seeds))
    assert model.norm.num_batches_tracked == len(seeds), "batch norm has seen each batch once"
    caught = masks.caught()
    for name, value in expected.items():
        assert torch.allclose(caught[name], value, rtol=1e-10, atol=1e-14)
        assert value[~masks.masks[name]].abs().max() > 1e-4, "the hidden entries do have gradients"
        masked = masks.weights[name].grad
        assert masked is not None
        assert torch.allclose(masked, value * masks.masks[name], rtol=1e-10, atol=1e-14)
    assert masks.caught() == {}


def test_the_law_objects_to_a_gradient_caught_after_masking() -> None:
    model, _, masks = start()
    masks.begin(random_masks(masks))
    expected = explicit_dense_gradients(model, masks, [0])
    backward(model)
    late = {n: w.grad for n, w in masks.weights.items() if w.grad is not None}
    assert not torch.allclose(late["conv.weight"], expected["conv.weight"])


def test_sensitivities_use_the_weights_before_the_step() -> None:
    model, optimizer, masks = start()
    before = {n: w.detach().clone() for n, w in masks.weights.items()}
    masks.catch(topology.saliency)
    backward(model)
    expected = {n: before[n] * w.grad for n, w in masks.weights.items() if w.grad is not None}
    optimizer.step()
    caught = masks.caught()
    assert all(torch.equal(caught[n], expected[n]) for n in expected)


def test_what_is_not_finite_is_not_given_out() -> None:
    model, _, masks = start()
    masks.catch(gradient)
    x, y = batch()
    (F.cross_entropy(model(x), y) * float("inf")).backward()
    assert masks.caught() == {}


def test_weights_the_loss_does_not_reach_have_gradient_zero() -> None:
    model = nn.ModuleDict({"used": nn.Linear(3, 2), "unused": nn.Linear(3, 2)})
    masks = Masks(topology.maskable(model))
    masks.catch(gradient)
    assert masks.caught() == {}
    model["used"](torch.ones(1, 3)).sum().backward()
    caught = masks.caught()
    assert caught["used.weight"].all()
    assert not caught["unused.weight"].any()


def test_dense_gradients_move_no_hidden_weight_of_an_optimizer_that_does_not_mask() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    masks = Masks(topology.maskable(model), optimizers=[optimizer], straight_through=True)
    masks.begin(random_masks(masks))
    backward(model)
    optimizer.step()
    masks.restore_()
    assert all(not w.detach()[~masks.masks[n]].any() for n, w in masks.weights.items())


def test_gradients_may_stay_dense_for_an_optimizer_that_masks_them_itself() -> None:
    model = network()
    masks = Masks(topology.maskable(model), straight_through=True)
    masks.begin(random_masks(masks))
    masks.catch(gradient)
    expected = explicit_dense_gradients(model, masks, [0, 1])
    backward(model, 0, 0.5)
    backward(model, 1, 0.5)
    caught = masks.caught()
    assert all(torch.allclose(caught[n], g) and torch.allclose(masks.weights[n].grad, g) for n, g in expected.items())  # type: ignore[arg-type]


class Remembering(torch.optim.SGD):
    """An optimizer that answers for hidden weights: they come back as 7."""

    told: list[dict[Tensor, Tensor]]

    def set_masks(self, masks: dict[Tensor, Tensor]) -> None:
        self.told = [*getattr(self, "told", []), masks]
        for weight, mask in masks.items():
            weight.data.masked_fill_(mask & (weight.data == 0), 7.0)
            self.state[weight]["memory"] = torch.ones_like(weight)


def test_an_optimizer_that_offers_set_masks_decides_on_weights_and_state() -> None:
    model = network()
    first, second = Remembering([model.conv.weight], lr=0.1), OPTIMIZERS["sgd"]([model.out.weight])
    masks = Masks({"conv.weight": model.conv.weight, "out.weight": model.out.weight}, optimizers=[first, second])
    hide = {n: torch.zeros_like(m) for n, m in masks.masks.items()}
    masks.set(hide)
    assert [set(told) for told in first.told] == [{model.conv.weight}] * 2
    assert not model.conv.weight.any()
    masks.set({n: ~m for n, m in hide.items()})
    assert (model.conv.weight == 7).all()
    assert first.state[model.conv.weight]["memory"].all(), "its state is its own"
    assert not model.out.weight.any(), "without an answer weights come back as 0"


def test_masks_follow_a_removal_of_units() -> None:
    model, optimizer, masks = start("adam")
    backward(model)
    optimizer.step()
    masks.set(random_masks(masks))
    structure = trace(model, batch()[0])
    plan = structure.plan({"conv": [True, False, True, True, False, True], "up": [False, True, True, True]})
    before = {n: m.clone() for n, m in masks.masks.items()}
    shrink(model, plan, optimizers=[optimizer])
    masks.cut(plan)
    conv, up = torch.tensor([0, 2, 3, 5]), torch.tensor([1, 2, 3])
    assert torch.equal(masks.masks["conv.weight"], before["conv.weight"][conv])
    assert torch.equal(masks.masks["up.weight"], before["up.weight"][conv][:, up])
    assert torch.equal(masks.masks["out.weight"], before["out.weight"][:, up])
    assert masks.total == sum(mask.numel() for mask in before.values()), "sparsity still refers to the start"
    for k in range(3):
        optimizer.zero_grad()
        backward(model, k)
        optimizer.step()
        masks.restore_()
    assert not hidden_values({n: w.detach() for n, w in masks.weights.items()}, masks).any()
    assert all(bool((w.detach() != 0)[masks.masks[n]].all()) for n, w in masks.weights.items()), "hooks act on the new shapes"


def test_counters_by_hand() -> None:
    weight = nn.Parameter(torch.ones(1, 4))
    masks = Masks({"w": weight})
    for row in ([1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0, 1, 1, 1]):
        step = torch.tensor([row], dtype=torch.bool)
        masks.begin({"w": step}) if row == [1, 1, 0, 0] and masks.active == 4 else masks.set({"w": step})
    told = masks.describe()
    assert (told["dropped"], told["grown"], told["returned"], told["updates"]) == (3, 4, 2, 3)
    assert told["returned_share"] == pytest.approx(2 / 3)
    assert told["explored"] == 1.0
    assert told["tensors"]["w"] == {"active": 3, "size": 4, "density": 0.75}
    assert (told["active"], told["sparsity"]) == (3, 0.25)


def test_the_state_continues_bitwise_with_the_generator() -> None:
    _, _, masks = start()
    masks.set(random_masks(masks, 1))
    masks.lots()
    state = copy.deepcopy(masks.state_dict())
    _, _, again = start()
    again.load_state_dict(state)
    assert all(torch.equal(again.masks[n], m) for n, m in masks.masks.items())
    assert again.describe() == masks.describe()
    assert all(torch.equal(a, b) for a, b in zip(again.lots().values(), masks.lots().values(), strict=True))


def test_a_state_of_other_weights_is_refused() -> None:
    _, _, masks = start()
    state = masks.state_dict()
    state["masks"]["out.weight"] = torch.ones(2, 2, dtype=torch.bool)
    with pytest.raises(StructureError, match="The saved masks are of weights"):
        masks.load_state_dict(state)


def test_detached_weights_are_left_alone() -> None:
    model, _, masks = start()
    masks.set(random_masks(masks))
    masks.detach()
    masks.detach()
    backward(model)
    assert model.conv.weight.grad is not None
    assert model.conv.weight.grad[~masks.masks["conv.weight"]].all()
    with torch.no_grad():
        model.conv.weight.fill_(1)
    masks.detach()
    masks.restore_()
    assert bool((model.conv.weight == 1).all())


def test_bad_arguments_are_refused_and_change_nothing() -> None:
    _, _, masks = start()
    before = masks.describe()
    good = torch.zeros(6, 2, 3, 3, dtype=torch.bool)
    for given, words in (
        ({"conv.weight": good, "fc.weight": good}, "no weight 'fc.weight'"),
        ({"conv.weight": good, "out.weight": good}, "the mask of out.weight must be bool of shape (3, 4), got torch.bool (6, 2, 3, 3)"),
        ({"conv.weight": good.float()}, "must be bool of shape (6, 2, 3, 3), got torch.float32"),
    ):
        with pytest.raises(UsageError, match=re.escape(words)):
            masks.set(given)
    assert masks.describe() == before
    with pytest.raises(UsageError, match="needs a generator"):
        Masks({"w": nn.Parameter(torch.ones(2, 2))}).lots()
    with pytest.raises(UsageError, match="no weight to mask"):
        Masks({})
    with pytest.raises(UsageError, match="w is frozen"):
        Masks({"w": nn.Parameter(torch.ones(2, 2), requires_grad=False)})


def test_which_weights_are_masked() -> None:
    model = nn.ModuleDict({"tokens": nn.Embedding(5, 4), "a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "head": nn.Linear(4, 5)})
    assert isinstance(model["head"], nn.Linear)
    assert isinstance(model["tokens"], nn.Embedding)
    model["head"].weight = model["tokens"].weight
    model["c"] = model["a"]
    assert list(topology.maskable(model)) == ["a.weight", "b.weight"], "tied to an embedding: dense; the same twice: once"
    assert list(topology.maskable(model, ["b"])) == ["a.weight"]
    assert topology.last_layer(model) == "head"
    assert topology.unit_dims(network(), ["conv.weight", "up.weight"]) == {"conv.weight": 0, "up.weight": 1}
    with pytest.raises(UsageError, match="'d' fits no Linear"):
        topology.maskable(model, ["d"])
    with pytest.raises(UsageError, match="no weight to mask"):
        topology.maskable(model, ["a", "b"])
    with pytest.raises(ArgumentTypeError, match=re.escape("Write ['a']")):
        topology.maskable(model, "a")
    with pytest.raises(UsageError, match="no Linear or convolution"):
        topology.last_layer(nn.ReLU())


@pytest.mark.parametrize("kind", ["GMP", "RigL", "SET", "SNIP"])
def test_a_copy_of_a_run_goes_on_like_the_run(kind: str) -> None:
    """Torch copies no hooks of tensors: gradients of hidden weights would reach the copy's optimizer."""
    torch.manual_seed(0)
    x, y = torch.randn(64, 16), torch.randint(4, (64,))
    model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 4))
    method = getattr(baselines, kind)(sparsity=0.8)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=3e-3)
    run = (model, optimizer, Pruner(model, optimizer, method, x[:2], steps=60))

    def steps(run: Any, count: int) -> Tensor:
        net, stepper, pruner = run
        for _ in range(count):
            F.cross_entropy(net(x), y).backward()
            stepper.step()
            stepper.zero_grad()
            pruner.step()
        return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])

    steps(run, 30)
    twin = copy.deepcopy(run)
    assert torch.equal(steps(twin, 20), steps(run, 20))


def perceptron() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))


def examples() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(32, 6, generator=random), torch.randn(32, 3, generator=random)


def by_autograd(model: nn.Module, x: Tensor, y: Tensor) -> None:
    parameters = list(model.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(F.mse_loss(model(x), y), parameters), strict=True):
        parameter.grad = gradient


def with_noise(model: nn.Module, x: Tensor, y: Tensor) -> None:
    F.mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
    random = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad += 0.1 * torch.randn(parameter.shape, generator=random)


@pytest.mark.parametrize("gradients", [by_autograd, with_noise])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_hidden_weights_are_zero_however_gradients_come(gradients: Any, optimizer: Any) -> None:
    model, (x, y) = perceptron(), examples()
    method = baselines.GMP(sparsity=0.8, interval=3, remove_units=False)
    trained = optimizer(model.parameters(), lr=0.05)
    pruner = Pruner(model, trained, method, x[:2], steps=20)
    for _ in range(20):
        gradients(model, x, y)
        trained.step()
        pruner.step()
    nonzero = sum(int((weight != 0).sum()) for weight in method.masks.weights.values())
    assert nonzero == method.masks.active == round(0.2 * method.masks.total)
    output = model(x)
    pruner.finish()
    assert torch.equal(model(x), output)


def test_growth_by_gradients_that_are_not_heard_warns() -> None:
    model, (x, y) = perceptron(), examples()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    pruner = Pruner(model, optimizer, baselines.RigL(sparsity=0.8, interval=3), x[:2], steps=20)
    for _ in range(20):
        by_autograd(model, x, y)
        optimizer.step()
        pruner.step()
    with pytest.warns(ParsinetWarning, match="in none of 20 steps a finite gradient"):
        pruner.finish()


def stepped_in_a_hook(method: Any, first: bool) -> tuple[nn.Module, Pruner]:
    """Each optimizer steps as its gradient arrives and drops it; first: registered before the pruner is built."""
    model, (x, _) = perceptron(), examples()
    optimizers = {parameter: torch.optim.SGD([parameter], lr=0.05) for parameter in model.parameters()}

    def arrive(parameter: Tensor) -> None:
        optimizers[parameter].step()  # type: ignore[index]
        optimizers[parameter].zero_grad()  # type: ignore[index]

    def register() -> None:
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(arrive)  # type: ignore[no-untyped-call]

    if first:
        register()
    pruner = Pruner(model, list(optimizers.values()), method, x[:2], steps=20)
    if not first:
        register()
    return model, pruner


@pytest.mark.parametrize("first", [True, False])
def test_optimizers_may_step_in_hooks(first: bool) -> None:
    (x, y), method = examples(), baselines.GMP(sparsity=0.8, interval=3, remove_units=False)
    model, pruner = stepped_in_a_hook(method, first)
    for _ in range(20):
        F.mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
        pruner.step()
    assert sum(int((weight != 0).sum()) for weight in method.masks.weights.values()) == method.masks.active


def test_growth_behind_a_hook_that_drops_gradients_is_refused() -> None:
    (x, y), method = examples(), baselines.RigL(sparsity=0.8, interval=1, growth="momentum")
    model, _ = stepped_in_a_hook(method, first=True)
    with pytest.raises(UsageError, match="Register your hooks after the Pruner"):
        F.mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]


class Around(torch.optim.Optimizer):
    """Steps an optimizer that it keeps, as SAM does."""

    def __init__(self, parameters: Any, **options: Any) -> None:
        super().__init__(parameters, options)
        self.base = torch.optim.SGD(self.param_groups, **options)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.base.step()


def test_what_leaves_is_forgotten_in_an_optimizer_within_another() -> None:
    model, (x, y) = perceptron(), examples()
    optimizer, method = Around(model.parameters(), lr=0.05, momentum=0.9), baselines.RigL(sparsity=0.8, interval=5, remove_units=False)
    pruner = Pruner(model, optimizer, method, x[:2], steps=40)
    weight = model[2].weight
    for _ in range(10):
        F.mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    moments = optimizer.base.state[weight]["momentum_buffer"]
    assert method.masks.counters.dropped
    assert moments.any()
    assert not moments[~method.masks.masks["2.weight"]].any()


@pytest.mark.parametrize(
    ("optimizer", "key", "beginning"),
    [
        (lambda p: torch.optim.Rprop(p, lr=0.01), "step_size", 0.01),
        (lambda p: torch.optim.Adagrad(p, lr=0.01, initial_accumulator_value=0.5), "sum", 0.5),
    ],
)
def test_state_that_does_not_begin_at_zero_begins_where_it_does(optimizer: Any, key: str, beginning: float) -> None:
    model = network()
    trained = optimizer(model.parameters())
    masks = Masks(topology.maskable(model), optimizers=[trained])
    masks.begin(random_masks(masks))
    for step in range(3):
        backward(model, step)
        trained.step()
        masks.restore_()
    before, weight = {name: mask.clone() for name, mask in masks.masks.items()}, model.out.weight
    kept = trained.state[weight][key].clone()
    masks.set({"out.weight": ~before["out.weight"] | (torch.arange(before["out.weight"].shape[1]) == 0)})
    stayed = before["out.weight"] & masks.masks["out.weight"]
    state = trained.state[weight][key]
    assert stayed.any()
    assert torch.equal(state[stayed], kept[stayed])
    assert (state[~stayed] == beginning).all()
