"""The average that goes on when units leave: the model itself at decay 0 on every kind of network, and a slow twin on original indices."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import networks
import parsinet as pn
from architectures import residual
from methods.toys import network, start, train_step
from networks import Inputs, call, flat
from parsinet.errors import UsageError
from parsinet.structure import Structure, record_of
from parsinet.training.running_average import RunningAverage

QUICK = ("mlp-batch-norm", "lstm", "twice", "weight-norm", "residual-mlp")
CASES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in ("branches", "torch-encoder", "bottlenecks"))]
OWN: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "residual-mlp": (residual.ResidualMLP, (3, 6)),
    "bottlenecks": (residual.Bottlenecks, (2, 3, 7, 9)),
}


def build(name: str) -> tuple[nn.Module, Inputs]:
    if name not in OWN:
        return networks.make(name)
    kind, shape = OWN[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(), torch.randn(*shape)


def shake(model: nn.Module, seed: int) -> None:
    """What a training step does to parameters and statistics."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data.mul_(1 + 0.1 * torch.rand(tensor.shape, generator=generator))


def removal(structure: Structure, seed: int) -> dict[str, Tensor]:
    """Some units of every group, and with the first seed every second block."""
    generator = torch.Generator().manual_seed(seed)
    masks = {group.name: torch.rand(group.size, generator=generator) < 0.7 for group in structure.removable()}
    for mask in masks.values():
        mask[0] = True
    blocks = [block.name for block in structure.blocks if block.removable][seed % 2 :: 2]
    return {**masks, **{name: torch.tensor([False]) for name in blocks}}


@pytest.mark.parametrize("name", CASES)
def test_without_memory_it_is_the_model_through_removals_of_every_kind(name: str) -> None:
    """decay 0: after every step the averaged network computes what the model computes, bit for bit."""
    model, inputs = build(name)
    average, structure = RunningAverage(model, 0.0), pn.trace(model, inputs, blocks=True)
    for seed in (0, 1):
        plan = structure.plan(removal(structure, seed))
        pn.shrink(model, plan)
        structure = structure.after(plan)
        assert not average.fits(model)
        assert average.follow(model)
        shake(model, seed)
        average.step(model)
        with torch.no_grad():
            assert torch.equal(flat(call(average.network(), inputs)), flat(call(copy.deepcopy(model).eval(), inputs)))
    assert sum(p.numel() for p in average.network().parameters()) == sum(p.numel() for p in model.parameters())


def test_features_of_the_inputs_leave_the_average_too() -> None:
    model, inputs = networks.make("mlp")
    average, structure = RunningAverage(model, 0.0), pn.trace(model, inputs, inputs=True)
    for seed in (0, 1):
        plan = structure.plan(removal(structure, seed))
        pn.shrink(model, plan)
        structure = structure.after(plan)
        average.follow(model)
        average.step(model)
        with torch.no_grad():
            assert torch.equal(average.network()(inputs), model(inputs))


def indices(model: nn.Module, name: str, shape: tuple[int, ...]) -> Any:
    kept = record_of(model).tensors.get(name, {})
    return np.ix_(*(kept.get(dim, list(range(size))) for dim, size in enumerate(shape)))


@pytest.mark.parametrize("decay", [0.9, pytest.param(0.5, marks=pytest.mark.slow)])
def test_equals_the_recursion_on_the_original_indices(decay: float) -> None:
    model = network(batch_norm=True)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items() if value.is_floating_point()}
    average = RunningAverage(model, decay)
    slow = {name: value.double().numpy().copy() for name, value in model.state_dict().items() if name in shapes}
    optimizer, pruner = start(model, steps=30, price=0.02, fall_steps=10, interval=4, gated=0.8, theta=0.8)
    removals = 0
    for k in range(30):
        removals += train_step(model, optimizer, pruner, k) is not None
        if not average.fits(model):
            average.follow(model)
        average.step(model)
        d = min(decay, (1 + k) / (10 + k))
        for name, value in model.state_dict().items():
            if name in shapes:
                at = indices(model, name, shapes[name])
                slow[name][at] = d * slow[name][at] + (1 - d) * value.double().numpy()
    assert removals >= 2
    for name, value in average.network().state_dict().items():
        if name in shapes:
            expected = slow[name][indices(model, name, shapes[name])]
            np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5, atol=1e-7)  # the fast one runs in float32


def test_the_network_is_plain_and_later_steps_leave_it_alone() -> None:
    model = network(batch_norm=True)
    average = RunningAverage(model, 0.9)
    optimizer, pruner = start(model, steps=30)
    train_step(model, optimizer, pruner, 0)
    average.step(model)
    taken = average.network()
    before = copy.deepcopy(taken.state_dict())
    for k in range(1, 4):
        assert train_step(model, optimizer, pruner, k) is None
        average.step(model)
    assert all(torch.equal(value, before[name]) for name, value in taken.state_dict().items())
    assert not any(module.training or module._forward_pre_hooks or module._forward_hooks for module in taken.modules())
    assert not any(parameter.requires_grad for parameter in taken.parameters())


def test_parametrized_layers_are_read_by_what_they_compute_and_cannot_be_followed() -> None:
    model = pn.models.build("mlp", (6,), 3, widths=[8, 5])
    average = RunningAverage(model, 0.0)
    method = pn.methods.Spectral(share=0.5, begin=0.2, end=0.2)
    method.prepare(model)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=1e-2)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    pruner = pn.Pruner(model, optimizer, method, x, steps=10)
    shake(model, 0)
    average.step(model)
    plain = average.network()
    torch.testing.assert_close(plain(x), model(x).detach())
    assert type(plain.fc1) is nn.Linear
    while pruner.step() is None:
        pass
    assert not average.fits(model)
    assert not average.follow(model)
    assert torch.equal(average.network()(x), plain(x))


def test_refusals() -> None:
    model = network()
    with pytest.raises(UsageError, match=r"decay must be in \[0, 1\), got 1"):
        RunningAverage(model, 1.0)
    with pytest.raises(UsageError, match="another network"):
        RunningAverage(model, 0.5).load_state_dict(RunningAverage(nn.Linear(2, 2), 0.5).state_dict())
    optimizer, pruner = start(model, steps=30, price=1.0, fall_steps=2, interval=1)
    with pytest.raises(UsageError, match="before a method has touched it"):
        RunningAverage(model, 0.5)
    for k in range(30):
        train_step(model, optimizer, pruner, k)
    with pytest.raises(UsageError, match="before a method has touched it"):
        RunningAverage(pruner.finish(), 0.5)
    masked = pn.spectral.sparsify(pn.spectral.spectralize(network()), 0.5)
    with pytest.raises(UsageError, match="before a method has touched it"):
        RunningAverage(masked, 0.5)
