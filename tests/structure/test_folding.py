"""Folding: what leaving units still emit moves into the biases of their readers, exactly or not at all."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import parsinet as pn
from networks import flat, make
from parsinet.errors import StructureError, UsageError
from parsinet.structure import Fold, Plan, Structure, fold_units
from parsinet.structure.reading import response

EXACT = 1e-10
"""float64: a constant added once or through a product differs in the last digits only."""


class Block(nn.Module):
    """A residual around two layers, read again behind a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.inner, self.back, self.out = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.lift(x))
        return self.out(torch.sigmoid(x + self.back(torch.sigmoid(self.inner(x)))))


class Concatenated(nn.Module):
    """Two branches side by side, read by two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(9)
        self.mix, self.fc = nn.Conv2d(9, 6, 2), nn.Linear(9, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.sigmoid(self.norm(torch.cat([self.left(x), self.right(x)], 1)))
        return self.mix(x), self.fc(x.amax((2, 3)))


def _sequence(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*copy.deepcopy(layers))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[str, ...]]] = {
    "sigmoid": (_sequence(nn.Linear(6, 9), nn.Sigmoid(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 3)), (6,), ("0", "2")),
    "positions": (_sequence(nn.Linear(6, 9), nn.Sigmoid(), nn.Linear(9, 2)), (4, 6), ("0",)),
    "batch-norm": (_sequence(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 3)), (6,), ("0",)),
    "flatten": (
        _sequence(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.Sigmoid(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 2 * 3, 3)),
        (2, 7, 9),
        ("0",),
    ),
    "conv": (_sequence(nn.Conv1d(2, 6, 3), nn.Sigmoid(), nn.Conv1d(6, 4, 3, stride=2, dilation=2)), (2, 13), ("0",)),
    "circular": (_sequence(nn.Conv1d(2, 6, 3), nn.Sigmoid(), nn.Conv1d(6, 4, 3, padding=1, padding_mode="circular")), (2, 9), ("0",)),
    "no-bias": (
        _sequence(nn.Conv2d(2, 6, 3), nn.Sigmoid(), nn.Conv2d(6, 4, 2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)),
        (2, 6, 8),
        ("0",),
    ),
    "instance-norm": (
        _sequence(nn.Conv2d(2, 6, 3), nn.Sigmoid(), nn.Conv2d(6, 4, 2, bias=False), nn.InstanceNorm2d(4), nn.ReLU()),
        (2, 6, 8),
        ("0",),
    ),
    "residual": (Block, (5,), ("inner",)),
    "concatenated": (Concatenated, (3, 5, 6), ("left", "right")),
    "transposed": (_sequence(nn.Conv2d(2, 6, 3), nn.Sigmoid(), nn.ConvTranspose2d(6, 4, 1)), (2, 5, 6), ("0",)),
}


def build(name: str) -> tuple[nn.Module, Tensor, Structure, Plan, dict[str, Tensor]]:
    """A case in float64, its structure, a random plan and the units that leave each producer."""
    make_model, shape, producers = CASES[name]
    generator = torch.Generator().manual_seed(len(name))
    model = make_model().double().eval()
    for key, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            tensor.data = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - (0.0 if "running" in key else 0.4)
    x = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    structure = pn.trace(model, x)
    alive = {producer: torch.arange(structure.group(producer).size) % 3 != 1 for producer in producers}
    return model, x, structure, structure.plan(alive), {producer: ~mask for producer, mask in alive.items()}


def without_inputs(model: nn.Module, gone: dict[str, Tensor]) -> nn.Module:
    """By hand: a copy in which the leaving units' incoming weights are zero, biases as they are."""
    emptied = copy.deepcopy(model)
    for producer, units in gone.items():
        emptied.get_submodule(producer).weight.data[units] = 0
    return emptied


def gap(one: nn.Module, other: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((flat(one(x)) - flat(other(x))).abs().max())


@pytest.mark.parametrize("name", CASES)
def test_folded_and_shrunk_is_the_network_without_the_units_weights(name: str) -> None:
    model, x, _, plan, gone = build(name)
    expected = without_inputs(model, gone)
    plain = copy.deepcopy(model)
    pn.shrink(plain, plan)
    pn.shrink(model, plan, fold="constant", example_inputs=x)
    other = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    assert gap(model, expected, x) < EXACT
    assert gap(model, expected, other) < EXACT
    assert name == "instance-norm" or gap(plain, expected, x) > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_folding_twice_in_a_row(name: str) -> None:
    """The structure that `after` derives folds as a traced one does."""
    model, x, structure, plan, _ = build(name)
    pn.shrink(model, plan, fold="constant", example_inputs=x)
    producer = CASES[name][2][0]
    units = torch.arange(sum(plan.alive[producer])) == 1
    expected = without_inputs(model, {producer: units})
    pn.shrink(model, structure.after(plan).plan({producer: ~units}), fold="constant", example_inputs=x)
    assert gap(model, expected, x) < EXACT


@pytest.mark.parametrize("name", ["mlp", "lenet-5-caffe", "mlp-batch-norm"])
def test_networks_of_the_zoo_fold(name: str) -> None:
    model, x = make(name)
    model, x = model.double().eval(), x.double()
    structure = pn.trace(model, x)
    gone = {group.name: torch.arange(group.size) % 4 == 1 for group in structure.removable()}
    expected = without_inputs(model, gone)
    pn.shrink(model, structure.plan({group: ~units for group, units in gone.items()}), fold="constant", example_inputs=x)
    assert gap(model, expected, x) < EXACT


def test_heads_of_an_attention_leave_their_value_bias_behind() -> None:
    model, x = make("tiny-vit")
    model, x = model.double().eval(), x.double()
    attention = model.blocks[0].attn
    width = len(attention.q.weight) // 3
    expected = copy.deepcopy(model)
    for layer in (expected.blocks[0].attn.q, expected.blocks[0].attn.k, expected.blocks[0].attn.v):
        layer.weight.data[width : 2 * width] = 0
    plan = pn.trace(model, x).plan({"blocks.0.attn.heads": [True, False, True]})
    pn.shrink(model, plan, fold="constant", example_inputs=x)
    assert gap(model, expected, x) < EXACT


def test_the_mean_equals_hand_computation() -> None:
    model, x, _, plan, gone = build("conv")
    batches = [x, 2 * x[:1] + 1]
    hidden = torch.cat([model[1](model[0](batch)) for batch in batches]).mean((0, 2))
    want = model[2].bias + (model[2].weight.sum(2)[:, gone["0"]] @ hidden[gone["0"]])
    pn.shrink(model, plan, fold="mean", example_inputs=iter(batches))
    assert torch.allclose(model[2].bias, want, rtol=0, atol=EXACT)


def test_the_mean_of_each_pixel_behind_a_flattening() -> None:
    model, x, _, plan, gone = build("flatten")
    units = gone["0"].repeat_interleave(6)
    means = model[:5](x).mean(0)
    want = model[5].bias + model[5].weight[:, units] @ means[units]
    pn.shrink(model, plan, fold="mean", example_inputs=x)
    assert torch.allclose(model[5].bias, want, rtol=0, atol=EXACT)


def test_the_mean_goes_into_the_running_mean_of_the_norm_behind() -> None:
    model, x, _, plan, gone = build("no-bias")
    with torch.no_grad():
        hidden = model[1](model[0](x)).mean((0, 2, 3))[gone["0"]]
        want = model[3].running_mean - model[2].weight.sum((2, 3))[:, gone["0"]] @ hidden
    fold = fold_units(model, plan, "mean", x)
    assert list(fold.changes) == ["3.running_mean"]
    pn.shrink(model, plan, fold=fold)
    assert torch.allclose(model[3].running_mean, want, rtol=0, atol=EXACT)


def test_grouped_and_transposed_responses() -> None:
    """Σ_i W[:, i] c_i is what the middle of a constant image gives."""
    from parsinet.structure.plan import Reading

    c = torch.randn(6, dtype=torch.float64)
    for layer in (nn.Conv2d(6, 4, 3, groups=2, bias=False), nn.ConvTranspose2d(6, 4, 1, groups=2, bias=False)):
        layer = layer.double()
        want = layer(c[None, :, None, None].expand(1, 6, 5, 5))[0, :, 2, 2]
        assert torch.allclose(response(layer, Reading("", -3, tuple(range(6))), c), want)


def bias_free(*, norm: bool) -> nn.Module:
    layers = [nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5) if norm else nn.Identity(), nn.Linear(5, 2)]
    return nn.Sequential(*layers).eval()


class NotDirectly(nn.Module):
    """The output of the bias-free layer goes to a norm and past it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.norm = nn.Linear(4, 6), nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc2(torch.sigmoid(self.fc1(x)))
        return self.norm(y) + y


class Tied(nn.Module):
    """Two layers share a bias, only one of them reads the units."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.side = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(4, 5)
        self.side.bias = self.fc2.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.sigmoid(self.fc1(x))) * self.side(x)


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str, str]] = {
    "zero padding": (_sequence(nn.Conv1d(2, 6, 3), nn.Sigmoid(), nn.Conv1d(6, 4, 3, padding=1)), (2, 9), "0", "2: it pads .* with zeros"),
    "no bias": (lambda: bias_free(norm=False), (4,), "0", "2: it has no bias to fold into; build it with bias=True"),
    "not directly": (NotDirectly, (4,), "fc1", "fc2: it has no bias to fold into"),
    "tied bias": (Tied, (4,), "fc1", "side uses it too"),
    "transposed": (_sequence(nn.Conv1d(2, 6, 3), nn.Sigmoid(), nn.ConvTranspose1d(6, 4, 2, stride=2)), (2, 9), "0", "different taps"),
    "recurrent": (_sequence(nn.Linear(3, 6), nn.Sigmoid(), nn.RNN(6, 4, batch_first=True)), (5, 3), "0", "no module's input can be seen"),
    "layer norm": (_sequence(nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 2)), (3,), "0", "2: what it reads .* not constant"),
}


@pytest.mark.parametrize("kind", ["constant", "mean"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_folded_is_refused_and_nothing_changes(name: str, kind: str) -> None:
    make_model, shape, group, message = REFUSED[name]
    model, x = make_model().eval(), torch.randn(2, *shape)
    plan = pn.trace(model, x).plan({group: torch.arange(6) != 2})
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(StructureError, match=message if (name, kind) != ("layer norm", "mean") else "more changes than what they emit"):
        pn.shrink(model, plan, fold=kind, example_inputs=x)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert not pn.structure.record_of(model).removals


def test_padding_can_be_accepted() -> None:
    """Away from the border the fold is then exact."""
    model = nn.Sequential(nn.Conv1d(2, 6, 3), nn.Sigmoid(), nn.Conv1d(6, 4, 3, padding=1)).double()
    x = torch.randn(2, 2, 9, dtype=torch.float64)
    units = torch.arange(6) == 2
    expected = without_inputs(model, {"0": units})(x)
    pn.shrink(model, pn.trace(model, x).plan({"0": ~units}), fold="constant", example_inputs=x, approximate=True)
    assert torch.allclose(model(x)[..., 1:-1], expected[..., 1:-1], rtol=0, atol=EXACT)
    assert not torch.allclose(model(x), expected, atol=1e-3)


def test_a_bias_that_is_missing_cannot_be_accepted() -> None:
    model, x = bias_free(norm=False), torch.randn(2, 4)
    with pytest.raises(StructureError, match="bias=True"):
        pn.shrink(model, pn.trace(model, x).plan({"0": torch.arange(6) != 2}), fold="constant", example_inputs=x, approximate=True)


def test_units_that_emit_nothing_need_no_bias() -> None:
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.SiLU(), nn.Linear(6, 5, bias=False))
    x = torch.randn(2, 4)
    fold = fold_units(model, pn.trace(model, x).plan({"0": torch.arange(6) != 2}), "constant", x)
    assert not fold.changes
    assert str(fold) == "Fold: nothing to make up for"


def test_a_fold_is_a_value_and_planning_changes_nothing() -> None:
    model, x, _, plan, _ = build("sigmoid")
    model.train()
    state = copy.deepcopy(model.state_dict())
    fold = fold_units(model, plan, "constant", x)
    assert model.training
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert str(fold).startswith("Fold:\n  2.bias: changes by at most")
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_gradients_and_optimizer_of_a_folded_bias_stay() -> None:
    model, x, _, plan, _ = build("sigmoid")
    optimizer = torch.optim.Adam(model.parameters())
    model(x).square().sum().backward()
    optimizer.step()
    bias, gradient = model[4].bias, model[4].bias.grad.clone()
    moment = optimizer.state[bias]["exp_avg"].clone()
    before = bias.detach().clone()
    pn.shrink(model, plan, optimizers=[optimizer], fold="constant", example_inputs=x)
    assert model[4].bias is bias
    assert not torch.equal(bias, before)
    assert torch.equal(bias.grad, gradient)
    assert torch.equal(optimizer.state[bias]["exp_avg"], moment)
    model(x).sum().backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fold": "zero", "example_inputs": torch.zeros(1, 6)}, "'constant' or 'mean', got 'zero'"),
        ({"fold": "constant"}, "needs example_inputs"),
        ({"approximate": True}, "belong to fold="),
        ({"example_inputs": torch.zeros(1, 6)}, "belong to fold="),
        ({"fold": "mean", "example_inputs": []}, "at least one batch"),
        ({"fold": "mean", "example_inputs": [(torch.zeros(1, 6), torch.zeros(1))]}, "rejects a batch .* without targets"),
    ],
)
def test_arguments_that_cannot_be_used(arguments: dict, message: str) -> None:
    model, _, _, plan, _ = build("sigmoid")
    with pytest.raises(UsageError, match=message):
        pn.shrink(model, plan, **arguments)


def test_a_fold_of_other_sizes_is_refused() -> None:
    model, _, _, plan, _ = build("sigmoid")
    with pytest.raises(StructureError, match=r"fold changes 2\.bias by a tensor of shape"):
        pn.shrink(model, plan, fold=Fold({"2.bias": torch.zeros(3)}))
    with pytest.raises(StructureError, match="Make the plan from a structure traced from this model"):
        fold_units(nn.Linear(2, 3), plan, "constant", torch.zeros(1, 2))


def test_the_proof_objects_to_a_wrong_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: the sign of the change."""
    model, x, _, plan, _ = build("sigmoid")
    monkeypatch.setattr("parsinet.structure.folding.response", lambda *args: -response(*args))
    with pytest.raises(StructureError, match="does not compute what it computes"):
        fold_units(model, plan, "constant", x)


def test_the_law_objects_to_a_wrong_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parsinet.structure.folding.response", lambda *args: -response(*args))
    monkeypatch.setattr("parsinet.structure.folding._prove", lambda *_: None)
    with pytest.raises(AssertionError):
        test_folded_and_shrunk_is_the_network_without_the_units_weights("sigmoid")
