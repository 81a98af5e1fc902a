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
from parsinet.structure.linearity import added
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


class Scaled(nn.Module):
    """A linear map of its own making: transposed weight, a factor, a bias of another name."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.shift = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return (3 * x) @ self.weight + self.shift


class Filter(nn.Module):
    """A convolution called by hand, its output channels last."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(outputs, inputs, 3)), nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv1d(x, self.weight, self.bias).transpose(1, 2)


class Squashed(Scaled):
    """Its bias is added before a function that is not linear."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(x))


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
    "own linear map": (_sequence(nn.Linear(6, 9), nn.Sigmoid(), Scaled(9, 4), nn.Sigmoid(), nn.Linear(4, 2)), (3, 6), ("0",)),
    "own convolution": (_sequence(nn.Conv1d(2, 6, 2), nn.Sigmoid(), Filter(6, 4), nn.Sigmoid(), nn.Linear(4, 2)), (2, 9), ("0",)),
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


@pytest.mark.parametrize("kind", ["constant", "mean"])
@pytest.mark.parametrize("options", [{"batch_first": True}, {}, {"bias": True, "kdim": 8, "batch_first": True}])
def test_heads_of_torch_attention_fold_into_its_output_projection(options: dict, kind: str) -> None:
    """Its input is no module's: the law by hand, head 1 of 3 leaves."""

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift = nn.Linear(5, 6)
            self.side = nn.Linear(5, options.get("kdim", 6))
            self.attention, self.out = nn.MultiheadAttention(6, 3, **options), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            y, key = torch.sigmoid(self.lift(x)), self.side(x)
            return self.out(torch.sigmoid(self.attention(y, key, y)[0]))

    model, x = Attending().double().eval(), torch.randn(4, 3, 5, dtype=torch.float64)
    nn.init.normal_(model.attention.in_proj_bias)
    plan = pn.trace(model, x).plan({"attention.heads": [True, False, True]})
    expected, projection = copy.deepcopy(model), model.attention.out_proj
    if kind == "constant":
        parts = [expected.attention.in_proj_weight] if expected.attention.in_proj_weight is not None else []
        for weight in parts:
            for start in (2, 8, 14):
                weight.data[start : start + 2] = 0
        if not parts:
            for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
                getattr(expected.attention, name).data[2:4] = 0
        want = expected(x)
    else:
        plain = copy.deepcopy(model.attention)
        plain.out_proj.weight.data, plain.out_proj.bias.data = torch.eye(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
        y, key = torch.sigmoid(model.lift(x)), model.side(x)
        heads = plain(y, key, y)[0].detach().clone()
        heads[..., 2:4] = heads[..., 2:4].mean((0, 1))
        want = model.out(torch.sigmoid(projection(heads)))
    pn.shrink(model, plan, fold=kind, example_inputs=x)
    assert (model(x) - want).abs().max() < EXACT


@pytest.mark.parametrize("kind", [pytest.param("constant", marks=pytest.mark.slow), "mean"])
def test_hugging_face_linear_maps_fold(kind: str) -> None:
    """Conv1D of transformers: weight transposed, no torch layer."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=11, n_positions=7, n_inner=9)
    model = transformers.GPT2LMHeadModel(config).double().eval()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64) / 2
    inputs = {"input_ids": torch.randint(11, (3, 5), generator=torch.Generator().manual_seed(1))}
    plan = pn.trace(model, inputs).plan({"transformer.h.0.mlp.c_fc": torch.arange(9) % 3 != 1})
    expected, units = copy.deepcopy(model), torch.arange(9) % 3 == 1
    mlp = expected.transformer.h[0].mlp
    if kind == "constant":
        mlp.c_fc.weight.data[:, units] = 0
    else:

        def replace(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
            return (torch.where(units, args[0].mean((0, 1)), args[0]),)

        mlp.c_proj.register_forward_pre_hook(replace)
    pn.shrink(model, plan, fold=kind, example_inputs=inputs)
    assert (model(**inputs).logits - expected(**inputs).logits).abs().max() < EXACT


def test_a_guess_that_is_none_is_found_out() -> None:
    """The module's input is as wide as the units, but they live within it."""

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.weight, self.bias = nn.Linear(6, 6), nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(torch.sigmoid(self.first(x)), self.weight, self.bias)

    model, x = nn.Sequential(Inner(), nn.Sigmoid(), nn.Linear(4, 2)).double(), torch.randn(3, 6, dtype=torch.float64)
    plan = pn.trace(model, x).plan({"0.first": torch.arange(6) != 1})
    for kind in ("constant", "mean"):
        with pytest.raises(StructureError, match="no module's input can be seen"):
            pn.shrink(model, plan, fold=kind, example_inputs=x)
        assert not fold_units(model, plan, kind, x, approximate=True).changes


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
    "not linear": (
        _sequence(nn.Linear(3, 6), nn.Sigmoid(), Squashed(6, 4)),
        (3,),
        "0",
        "2: what it makes .* not added to a bias",
    ),
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


@pytest.mark.parametrize(
    ("layer", "depth"),
    [
        (nn.Conv1d(6, 4, 3, padding=1), 1),
        (nn.Conv1d(6, 4, 5, padding=4, dilation=2, stride=2), 2),
        (nn.Conv2d(6, 4, (3, 4), padding="same"), 2),
        (nn.Conv2d(6, 4, 3, padding=(0, 1), groups=2), 1),
    ],
)
def test_the_refusal_of_padding_says_how_far_off_and_how_deep(layer: nn.Module, depth: int) -> None:
    """By hand: the network folded all the same, on an image of a constant, against the one without the units' weights."""
    dims = layer.weight.dim() - 2
    lift = nn.Conv1d(2, 6, 1) if dims == 1 else nn.Conv2d(2, 6, 1)
    model = nn.Sequential(lift, nn.Sigmoid(), layer).double().eval()
    x = torch.randn(1, 2, *(19, 23)[:dims], dtype=torch.float64)
    alive = torch.tensor([True, False, True] * 2)
    plan = pn.trace(model, x).plan({pn.trace(model, x).removable()[0].name: alive if layer.groups == 1 else alive[:3]})
    with pytest.raises(StructureError, match=rf"outer {depth} of its output, off by up to ") as caught:
        fold_units(model, plan, "constant", x)
    said = float(str(caught.value).partition("up to ")[2].split()[0])
    expected = without_inputs(model, {"0": ~alive})(x)
    pn.shrink(model, plan, fold="constant", example_inputs=x, approximate=True)
    error = (model(x) - expected).abs().detach()
    assert float(error.max()) == pytest.approx(said, rel=0.06)
    inside = error[(..., *(slice(depth, -depth) for _ in range(dims)))]
    assert inside.max() < EXACT
    assert error.max() > 1e-3


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


def test_the_proof_objects_to_a_wrong_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: half of what a module of unknown kind makes of the units."""
    model, x, _, plan, _ = build("own linear map")
    for kind in ("constant", "mean"):
        fold_units(model, plan, kind, x)
    monkeypatch.setattr("parsinet.structure.folding.added", lambda *args: ("shift", added(*args)[1] / 2))
    for kind in ("constant", "mean"):
        with pytest.raises(StructureError, match="cannot make up exactly"):
            fold_units(model, plan, kind, x)


def test_the_law_of_guesses_objects_to_unchecked_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parsinet.structure.folding.reads_as_guessed", lambda *_: True)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test_a_guess_that_is_none_is_found_out()


def test_the_law_objects_to_a_wrong_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parsinet.structure.folding.response", lambda *args: -response(*args))
    monkeypatch.setattr("parsinet.structure.folding._prove", lambda *_: None)
    with pytest.raises(AssertionError):
        test_folded_and_shrunk_is_the_network_without_the_units_weights("sigmoid")
