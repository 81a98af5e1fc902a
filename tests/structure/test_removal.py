"""Removal in place: what hangs on a parameter (gradients, optimizers, schedulers, hooks, copies) goes on with it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import parsinet as pn
from networks import make, traced
from parsinet.errors import ArgumentTypeError, StructureError
from parsinet.structure.plan import Plan
from parsinet.switches import no_fused_attention


def start(name: str = "mlp") -> tuple[nn.Module, torch.Tensor, Plan]:
    """A network, its inputs and the plan to remove every third unit."""
    model, x, structure = traced(name)
    return model, x, structure.plan({group.name: torch.arange(group.size) % 3 != 1 for group in structure.removable()})


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> None:
    optimizer.zero_grad()
    model(x).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_what_is_traced_and_removed_without_gradients_trains_on(mode: type) -> None:
    model, x = make("mlp")[:2]
    optimizer = torch.optim.Adam(model.parameters())
    step(model, optimizer, x)
    with mode():
        structure = pn.trace(model, x)
        plan = structure.plan({group.name: torch.arange(group.size) % 3 != 1 for group in structure.removable()})
        pn.shrink(model, plan, optimizers=[optimizer])
    assert plan.alive
    step(model, optimizer, x)


def shapes_fit(optimizer: torch.optim.Optimizer) -> bool:
    return all(
        value.dim() == 0 or value.shape == parameter.shape
        for parameter, state in optimizer.state.items()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    )


def test_channels_last_stays() -> None:
    model, x, plan = start("unet")
    model = model.to(memory_format=torch.channels_last)
    pn.shrink(model, plan)
    weights = [parameter for parameter in model.parameters() if parameter.dim() == 4 and parameter.shape[2] > 1 and parameter.shape[1] > 1]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    model(x.to(memory_format=torch.channels_last))


def test_gradients_are_cut_with_their_parameters() -> None:
    model, x, plan = start()
    model(x).sum().backward()
    before = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    pn.shrink(model, plan)
    for name, parameter in model.named_parameters():
        want = before[name]
        for (tensor, dim), kept in plan.tensors.items():
            want = want.index_select(dim, torch.tensor(kept)) if tensor == name else want
        assert torch.equal(parameter.grad, want)


def test_an_old_plan_is_refused_and_nothing_changes() -> None:
    model, x, plan = start()
    optimizer = torch.optim.Adam(model.parameters())
    step(model, optimizer, x)
    pn.shrink(model, plan, optimizers=[optimizer])
    state, moments = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    with pytest.raises(StructureError, match="Make the plan from a structure traced from this model"):
        pn.shrink(model, plan, optimizers=[optimizer])
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    for index, entry in optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, moments["state"][index][key]) for key, value in entry.items())


def test_what_does_not_fit_is_not_silenced_either() -> None:
    model, _, plan = start()
    pn.shrink(model, plan)
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(StructureError, match="Make the plan from a structure traced from this model"), pn.silence(model, plan):
        pass
    with pytest.raises(ArgumentTypeError, match="silence: plan must be a Plan, got a dict"), pn.silence(model, {}):  # type: ignore[arg-type]
        pass
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_removal_that_fails_half_way_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, plan = start()
    optimizer = torch.optim.Adam(model.parameters())
    step(model, optimizer, x)
    shapes = [parameter.shape for parameter in model.parameters()]
    real, calls = torch.Tensor.index_select, []

    def exhausted(tensor: torch.Tensor, *args: object) -> torch.Tensor:
        calls.append(args)
        if len(calls) == 7:
            raise RuntimeError("out of memory")
        return real(tensor, *args)

    monkeypatch.setattr(torch.Tensor, "index_select", exhausted)
    with pytest.raises(RuntimeError, match="out of memory"):
        pn.shrink(model, plan, optimizers=[optimizer])
    assert [parameter.shape for parameter in model.parameters()] == shapes
    assert shapes_fit(optimizer)


@pytest.mark.parametrize("as_iterator", [False, True])
def test_several_optimizers_one_given_twice(as_iterator: bool) -> None:
    model, x, plan = start()
    first = torch.optim.Adam(model.fc1.parameters())
    second = torch.optim.SGD([p for name, p in model.named_parameters() if not name.startswith("fc1")], lr=0.1, momentum=0.9)
    model(x).sum().backward()
    first.step()
    second.step()
    optimizers = [first, second, first]
    pn.shrink(model, plan, optimizers=iter(optimizers) if as_iterator else optimizers)
    assert shapes_fit(first)
    assert shapes_fit(second)
    step(model, first, x)
    second.step()


def test_the_optimizer_of_another_model_is_refused() -> None:
    model, _, plan = start()
    shapes = [parameter.shape for parameter in model.parameters()]
    with pytest.raises(StructureError, match="Adam optimizer holds no parameter of this"):
        pn.shrink(model, plan, optimizers=[torch.optim.Adam(copy.deepcopy(model).parameters())])
    assert [parameter.shape for parameter in model.parameters()] == shapes


@pytest.mark.parametrize("wrong", [None, [None], 3, ["adam"]])
def test_what_is_no_optimizer(wrong: object) -> None:
    model, _, plan = start()
    with pytest.raises(ArgumentTypeError, match=r"optimizers must be an optimizer or a list of them, got .* Leave it out for none\."):
        pn.shrink(model, plan, optimizers=wrong)


def test_lbfgs_is_refused() -> None:
    model, _, plan = start()
    with pytest.raises(StructureError, match="LBFGS keeps one flat history"):
        pn.shrink(model, plan, optimizers=[torch.optim.LBFGS(model.parameters())])


OPTIMIZERS = ["SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "ASGD", "Rprop", "Adafactor"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_torch_goes_on(name: str) -> None:
    """The next step equals that of an optimizer built on the small network and given the cut state."""
    model, x, plan = start()
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.01)
    for _ in range(2):
        step(model, optimizer, x)
    pn.shrink(model, plan, optimizers=[optimizer])
    twin = copy.deepcopy(model)
    fresh = getattr(torch.optim, name)(twin.parameters(), lr=0.01)
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(model, optimizer, x)
    step(twin, fresh, x)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_schedulers_and_parameter_groups_keep_working() -> None:
    model, x, plan = start()
    groups = [{"params": model.fc1.parameters(), "lr": 0.5}, {"params": [*model.fc2.parameters(), *model.fc3.parameters()]}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)
    step(model, optimizer, x)
    pn.shrink(model, plan, optimizers=[optimizer])
    scheduler.step()
    before = model.fc1.weight.detach().clone()
    step(model, optimizer, x)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.01])
    assert not torch.equal(model.fc1.weight, before)


def test_frozen_parameters_stay_frozen_and_buffers_follow() -> None:
    model, x, plan = start("mlp-batch-norm")
    model.register_buffer("note", torch.arange(3), persistent=False)
    for parameter in model.fc1.parameters():
        parameter.requires_grad_(False)
    pn.shrink(model, plan)
    assert not any(parameter.requires_grad for parameter in model.fc1.parameters())
    assert "note" not in model.state_dict()
    assert torch.equal(model.note, torch.arange(3))
    model.train()
    model(x).sum().backward()


def test_non_persistent_buffers_are_cut() -> None:
    model, x, plan = start("grouped-query")
    pn.shrink(model, plan)
    assert model.cos.shape == (6, model.head_dim)
    model(x)


def test_an_average_of_the_weights_is_shrunk_by_the_same_plan() -> None:
    model, x, plan = start()
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(model)
    pn.shrink(model, plan)
    pn.shrink(average.module, plan)
    average.update_parameters(model)
    assert torch.allclose(average(x), model(x), atol=1e-5)


def test_a_copy_carries_its_own_record() -> None:
    model, _, plan = start()
    twin = copy.deepcopy(model)
    pn.shrink(model, plan)
    assert not pn.structure.record_of(twin).removals
    other = copy.deepcopy(model)
    structure = pn.trace(model, make("mlp")[1])
    pn.shrink(other, structure.plan({"fc1": [False, *[True] * (structure.group("fc1").size - 1)]}))
    assert len(pn.structure.record_of(other).removals) == 2
    assert len(pn.structure.record_of(model).removals) == 1


def test_hooks_stay() -> None:
    model, x, plan = start()
    seen: list[str] = []
    model.fc1.register_forward_hook(lambda *_: seen.append("forward"))
    model.fc1.weight.register_hook(lambda grad: seen.append(f"{tuple(grad.shape)}"))
    pn.shrink(model, plan)
    model(x).sum().backward()
    assert seen == ["forward", str(tuple(model.fc1.weight.shape))]


def test_a_compiled_network_runs_on() -> None:
    model, x, plan = start()
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    pn.shrink(model, plan)
    assert torch.equal(compiled(x), model(x))
    torch.compiler.reset()


def test_attributes_follow() -> None:
    model, _, plan = start("torch-encoder")
    pn.shrink(model, plan)
    attention = model.pre.self_attn
    assert (attention.num_heads, attention.head_dim, attention.embed_dim) == (2, 3, 8)
    assert isinstance(attention, nn.MultiheadAttention)
    assert attention.in_proj_weight.shape == (3 * 2 * 3, 8)
    assert model.pre.norm1.normalized_shape == (8,)
    assert model.lift.out_features == model.fc.in_features == 8


def test_attributes_of_parametrized_layers_follow_without_side_effects() -> None:
    model, _, plan = start("spectral-norm")
    model.train()
    before = model.fc2.parametrizations.weight[0]._u.clone()
    pn.shrink(model, plan)
    assert (model.fc2.in_features, model.fc2.out_features) == (4, 5)
    kept = torch.tensor(plan.tensors["fc2.parametrizations.weight.original", 0])
    assert torch.equal(model.fc2.parametrizations.weight[0]._u, before[kept])


def test_weight_norm_keeps_what_is_left_of_the_weight() -> None:
    model, _, plan = start("weight-norm")
    before = model.conv2.weight.detach().clone()
    pn.shrink(model, plan)
    for dim in (0, 1):
        kept = [index for index in range(before.shape[dim]) if index % 3 != 1]
        before = before.index_select(dim, torch.tensor(kept))
    assert torch.allclose(model.conv2.weight, before, atol=1e-6)


class _Attending(nn.Module):
    """Torch's attention without a residual around it: what it reads and what it gives may come to differ in width."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attn, self.head = nn.Linear(5, 8), nn.MultiheadAttention(8, 4, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed(x)
        return self.head(self.attn(h, h, h)[0])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "left",
    [{"embed": 5}, {"attn.out_proj.weight": 4}, {"attn.heads": 2, "attn.out_proj.weight": 4}, {"embed": 5, "attn.heads": 3}],
    ids=["read", "given", "given, as wide as the heads", "read and heads"],
)
def test_attention_runs_on_with_widths_of_its_own(left: dict[str, int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = _Attending().double(), torch.randn(3, 7, 5, dtype=torch.float64)
    structure = pn.trace(model, x)
    plan = structure.plan({name: torch.arange(structure.group(name).size) < count for name, count in left.items()})
    with pn.silence(model, plan):
        wanted = model(x)
    pn.shrink(model, plan)
    assert torch.allclose(model(x), wanted, atol=1e-12)
    pn.save(model, tmp_path)
    assert torch.equal(pn.load(tmp_path, _Attending)(x), model(x))


def test_padding_of_a_transformer_makes_no_head_inexact() -> None:
    """Torch's fused pass gives zeros at padded positions, its plain one values; both networks are looked at on the plain one."""

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift, self.head = nn.Linear(5, 8), nn.Linear(8, 2)
            self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), 1)

        def forward(self, x: torch.Tensor, padded: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(self.lift(x), src_key_padding_mask=padded).mean(1))  # type: ignore[no-any-return]

    x = torch.randn(2, 6, 5), torch.tensor([[False] * 4 + [True] * 2, [False] * 5 + [True]])
    model = Padded().eval()
    structure = pn.trace(model, x)
    assert structure.group("body.layers.0.self_attn.heads").exact
    plan = structure.plan({"body.layers.0.self_attn.heads": torch.tensor([True, False])})
    with pn.silence(model, plan), no_fused_attention():
        wanted = model(*x)
    pn.shrink(model, plan)
    assert torch.allclose(model(*x), wanted, atol=1e-5)
