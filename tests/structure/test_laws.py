"""The laws of the engine, each on every network of the table, in float64; and each law seen to fail on a planted fault."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import parsinet as pn
from networks import DEEP, NETWORKS, TELLING, Inputs, call, cases, flat, make, traced
from parsinet.structure.cutting import cut
from parsinet.structure.plan import Plan
from parsinet.structure.traced import Structure

EXACT = 1e-10
"""float64: sums over fewer terms differ in the last digits only."""

CASES = cases(name for name in NETWORKS if name not in DEEP)
DEAR = cases(TELLING)
DEAREST = cases(TELLING[::2])
BY_VALUES = ("packed", "lengths")
"""Networks that torch.export cannot capture as they are: sizes come from the values of lengths."""


def get(name: str) -> tuple[nn.Module, Inputs, Structure]:
    """A fresh float64 copy of the network, its inputs and its structure."""
    model, x, structure = traced(name, double=True)
    return model.eval(), x, structure


def random_plan(structure: Structure, seed: int, *, exact_only: bool = True) -> Plan:
    generator = torch.Generator().manual_seed(seed)
    alive = {}
    for group in structure.removable():
        if group.exact or not exact_only:
            mask = torch.rand(group.size, generator=generator) < 0.6
            mask[torch.randint(group.size, (1,), generator=generator)] = True
            alive[group.name] = mask
    return structure.plan(alive)


def silence_gap(model: nn.Module, x: Inputs, plan: Plan) -> float:
    """Largest difference between the shrunk and the silenced network, relative to the output."""
    with pn.silence(model, plan), torch.no_grad():
        silenced = flat(call(model, x))
    pn.shrink(model, plan)
    with torch.no_grad():
        return float((flat(call(model, x)) - silenced).abs().max() / silenced.abs().max().clamp(min=1.0))


@CASES
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_shrunk_equals_silenced(name: str, seed: int) -> None:
    model, x, structure = get(name)
    plan = random_plan(structure, seed)
    assert not plan.empty
    assert silence_gap(model, x, plan) < EXACT


@CASES
def test_gradients_reach_what_is_left(name: str) -> None:
    """After a removal training goes on: every parameter that trained before still gets a gradient of its own shape."""
    model, x, structure = get(name)
    model.train()
    reached = {key for key, gradient in gradients(model, x).items() if gradient is not None}
    pn.shrink(model, random_plan(structure, 5, exact_only=False))
    after = gradients(model, x)
    assert reached == {key for key, gradient in after.items() if gradient is not None}
    shapes = {key: parameter.shape for key, parameter in model.named_parameters()}
    assert all(gradient is None or gradient.shape == shapes[key] for key, gradient in after.items())


def gradients(model: nn.Module, x: Inputs) -> dict[str, Tensor | None]:
    model.zero_grad()
    flat(call(model, x)).square().sum().backward()
    return {key: parameter.grad for key, parameter in model.named_parameters()}


@CASES
def test_silence_changes_the_output_and_leaves_no_trace(name: str) -> None:
    model, x, structure = get(name)
    before, state = flat(call(model, x)), copy.deepcopy(model.state_dict())
    with pn.silence(model, random_plan(structure, 0)):
        assert not torch.allclose(flat(call(model, x)), before)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


@DEAR
def test_two_removals_equal_one(name: str) -> None:
    """Removing twice, the second time by the structure derived without tracing, is removing once; a fresh trace agrees."""
    model, x, structure = get(name)
    first = random_plan(structure, 3)
    pn.shrink(model, first)
    derived = structure.after(first)
    second = random_plan(derived, 4)
    retraced = pn.trace(model, x)
    assert sizes(derived) == sizes(retraced)
    if not second.empty:
        assert silence_gap(model, x, second) < EXACT


def shape_of(x: Tensor | PackedSequence) -> torch.Size:
    return x.data.shape if isinstance(x, PackedSequence) else x.shape


@CASES
def test_readers_after_a_removal_have_as_many_indices_as_their_input(name: str) -> None:
    """Whole groups of grouped convolutions take indices of the input along that other units are read from."""
    model, x, structure = get(name)
    plan = random_plan(structure, 6)
    pn.shrink(model, plan)
    later, seen = structure.after(plan), {}
    for path, module in model.named_modules():
        module.register_forward_pre_hook(lambda _, args, path=path: seen.update({path: shape_of(args[0])} if args else {}))
    call(model, x)
    read = [(seen[entry.module][entry.axis], entry) for g in later.removable() for entry in later.readers(g.name) if entry.module in seen]
    assert all(len(entry.owners) == size for size, entry in read)
    assert read or not any(structure.readers(group.name) for group in structure.removable())


def sizes(structure: Structure) -> dict[str, int]:
    """Groups that could lose a unit; a fresh trace cannot see that an axis of one was once split in heads of one."""
    return {group.name: group.size for group in structure.groups if group.size > 1}


@CASES
def test_inexact_groups_still_run(name: str) -> None:
    model, x, structure = get(name)
    shape = flat(call(model, x)).shape
    pn.shrink(model, random_plan(structure, 5, exact_only=False))
    assert flat(call(model, x)).shape == shape


@CASES
def test_saved_and_loaded_is_bitwise_the_same(name: str, tmp_path: Path) -> None:
    model, x, structure = get(name)
    plan = random_plan(structure, 6)
    pn.shrink(model, plan)
    pn.shrink(model, random_plan(structure.after(plan), 7))
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, lambda: make(name)[0].double()).eval()
    assert torch.equal(flat(call(loaded, x)), flat(call(model, x)))
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert str(loaded) == str(model)


@DEAREST
def test_a_shrunk_network_still_exports(name: str) -> None:
    if name in BY_VALUES:
        pytest.skip("torch.export alone cannot capture it")
    model, x, structure = get(name)
    pn.shrink(model, random_plan(structure, 10))
    args, kwargs = ((), x) if isinstance(x, dict) else (x if isinstance(x, tuple) else (x,), {})
    expected = flat(call(model, x))  # before: torch.export leaves its stand-ins where a network keeps tensors of its passes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, args, kwargs, strict=False)
    assert torch.allclose(flat(program.module()(*args, **kwargs)), expected, atol=EXACT)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, foreach=False),
    "sgd-foreach": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2, foreach=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, foreach=False),
    "adam-foreach": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True, foreach=True),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
}


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: Inputs, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        flat(call(model, x)).square().mean().backward()
        optimizer.step()


def by_hand(model: nn.Module, optimizer: torch.optim.Optimizer, build: object) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The small network as if it had never been larger: new modules, new parameters, a new optimizer, state copied value by value."""
    small = copy.deepcopy(model)
    for module in small.modules():
        for key, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[key] = nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
    fresh = build([p for p in small.parameters() if p.requires_grad])  # type: ignore[operator]
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return small, fresh


@pytest.mark.parametrize("optimizer_name", OPTIMIZERS)
@pytest.mark.parametrize("name", ["mlp", "branches", "gated", "lstm", "resnet-20"])
def test_training_goes_on_as_if_the_units_had_never_been(name: str, optimizer_name: str) -> None:
    """Every live parameter and optimizer state tensor continues bitwise as in the small network trained by hand from the cut state."""
    model, x, structure = get(name)
    model.train()
    build = OPTIMIZERS[optimizer_name]
    optimizer = build([p for p in model.parameters() if p.requires_grad])
    train(model, optimizer, x, 3)
    identities = [id(p) for p in model.parameters()]
    expected_state = [{k: v.clone() for k, v in optimizer.state[p].items()} for p in optimizer.param_groups[0]["params"]]
    plan = random_plan(structure, 8)
    pn.shrink(model, plan, optimizers=[optimizer])
    assert identities == [id(p) for p in model.parameters()]
    names = {id(p): key for key, p in model.named_parameters()}
    for parameter, old in zip(optimizer.param_groups[0]["params"], expected_state, strict=True):
        for key, value in optimizer.state[parameter].items():
            want = old[key]
            for (tensor, dim), kept in plan.tensors.items():
                if tensor == names[id(parameter)] and want.dim():
                    want = want.index_select(dim, torch.tensor(kept))
            assert torch.equal(value, want)
    small, fresh = by_hand(model, optimizer, build)
    before = [p.clone() for p in model.parameters()]
    train(model, optimizer, x, 3)
    train(small, fresh, x, 3)
    for (key, a), b, old in zip(model.named_parameters(), small.parameters(), before, strict=True):
        assert torch.equal(a, b), key
        if a.requires_grad:
            assert not torch.equal(a, old), f"{key} does not move"


def test_removal_between_backward_and_step_keeps_gradients() -> None:
    """A graph of an earlier pass that is still alive must not hold on to old shapes (autograd's gradient accumulators)."""
    model, x, structure = get("mlp")
    loss = model(x).sum()
    loss.backward()
    gradient = model.fc1.weight.grad.clone()
    plan = random_plan(structure, 9)
    pn.shrink(model, plan)
    kept = torch.tensor(plan.tensors["fc1.weight", 0])
    assert torch.equal(model.fc1.weight.grad, gradient[kept])
    again = model(x).sum()
    again.backward()
    assert model.fc1.weight.grad.shape == model.fc1.weight.shape
    assert loss.requires_grad


def keep_the_first(tensor: Tensor, by_dim: dict[int, tuple[int, ...]]) -> Tensor:
    """The fault of a published shrinker: the first n indices, whatever was asked."""
    for dim, kept in by_dim.items():
        tensor = tensor.narrow(dim, 0, len(kept))
    return tensor.contiguous()


@pytest.mark.parametrize("name", ["mlp", "branches", "tiny-vit", "lstm"])
def test_the_law_objects_to_keeping_the_first_units(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, structure = get(name)
    monkeypatch.setattr("parsinet.structure.removal.cut", keep_the_first)
    assert silence_gap(model, x, random_plan(structure, 0)) > 1e-6


def test_the_law_objects_to_uncut_optimizer_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parsinet.structure.removal._states", lambda tensor, optimizers: [])
    with pytest.raises((AssertionError, RuntimeError)):
        test_training_goes_on_as_if_the_units_had_never_been("mlp", "adam")


def test_the_law_objects_to_swapped_rows_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parsinet.structure.sealing.tensors_to_bytes", _flip_rows)
    with pytest.raises(AssertionError):
        test_saved_and_loaded_is_bitwise_the_same("mlp", tmp_path)


def _flip_rows(tensors: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save

    return save({key: value.flip(0).contiguous() for key, value in tensors.items()})


def test_cut_keeps_memory_format() -> None:
    volume = torch.randn(4, 6, 3, 5, 2).to(memory_format=torch.channels_last_3d)
    assert cut(volume, {0: (0, 2)}).is_contiguous(memory_format=torch.channels_last_3d)
    tensor = torch.randn(4, 6, 3, 5).to(memory_format=torch.channels_last)
    smaller = cut(tensor, {0: (1, 3), 1: (0, 2, 5)})
    assert smaller.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(smaller, tensor[[1, 3]][:, [0, 2, 5]])


def test_the_law_objects_to_a_forgotten_buffer() -> None:
    model, x, structure = get("mlp-batch-norm")
    plan = random_plan(structure, 0)
    forgetful = replace(plan, tensors={place: kept for place, kept in plan.tensors.items() if "running" not in place[0]})
    with pytest.raises(RuntimeError, match="running_mean"):
        silence_gap(model, x, forgetful)


def test_tied_and_frozen_weights_stay_so_and_the_check_would_see_it() -> None:
    def kept(model: nn.Module) -> bool:
        return model.tied.weight is model.lift.weight and not model.lift.weight.requires_grad

    model, _, structure = get("twice")
    pn.shrink(model, random_plan(structure, 0))
    assert kept(model)
    untied = copy.deepcopy(model)
    untied.tied.weight = nn.Parameter(untied.lift.weight.detach().clone(), requires_grad=False)
    assert not kept(untied)
    melted = copy.deepcopy(model)
    melted.lift.weight.requires_grad_(True)
    assert not kept(melted)
