"""The removal engine on spectral networks: shrunk equals silenced, folding and removing commute, training goes on."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

import parsinet as pn
from networks import Inputs, call, flat, make
from parsinet import spectral
from parsinet.spectral.bases import TriangularBlock
from parsinet.structure import Plan, Structure

EXACT = 1e-10
"""float64: sums over fewer terms differ in the last digits only."""
NETS = ["mlp", "lenet-5-caffe", "resnet-20", "tiny-vit", "densenet", "twice", "autoencoder", "volumes", "branches", "depthwise"]
VARIANTS = ["one-set", "one-set-in", "two-set", "svd", "qr", "full", "full-one-set", "unit"]
MASKED = ["two-set masked", "svd masked", "qr masked", "full masked", "unit masked"]
CASES = (
    [(name, variant) for name in ("mlp", "lenet-5-caffe") for variant in VARIANTS]
    + [(name, "two-set") for name in NETS[2:]]
    + [("resnext", "one-set-in")]
    + [("tiny-vit", "qr"), ("tiny-vit", "unit")]
    + [("mlp", variant) for variant in MASKED]
    + [("lenet-5-caffe", "qr masked"), ("branches", "unit masked"), ("depthwise", "full masked"), ("autoencoder", "full-one-set")]
)
TELLING = {
    *(("mlp", variant) for variant in ("two-set", "svd", "qr", "full-one-set", "unit", "qr masked")),
    ("lenet-5-caffe", "one-set"),
    ("lenet-5-caffe", "full"),
    ("densenet", "two-set"),
    ("twice", "two-set"),
    ("resnext", "one-set-in"),
    ("tiny-vit", "qr"),
    ("branches", "unit masked"),
    ("depthwise", "full masked"),
}
"""Every variant and every pattern of networks once; the rest of their product is slow."""
EACH = pytest.mark.parametrize(
    ("name", "variant"), [case if case in TELLING else pytest.param(*case, marks=pytest.mark.slow) for case in CASES]
)
TRACED: dict[tuple[str, str], tuple[nn.Module, Inputs, Structure]] = {}


def spectral_case(name: str, variant: str) -> tuple[nn.Module, Inputs, Structure]:
    """A fresh float64 spectral network with eigenvalues of its own, its inputs and its structure (traced once)."""
    if (name, variant) not in TRACED:
        model, x = make(name)
        model = model.double().eval()
        x = tree_map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, x)
        tied = {"twice": ["shared", "back", "out"]}.get(name)
        kind, _, masked = variant.partition(" ")
        spectral.spectralize(model, kind, layers=tied)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for layer in spectral.spectral_layers(model).values():
                for parameter in layer.spectrum.parameters():
                    parameter *= 1 + 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                    parameter += 0.01 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if masked:
            spectral.sparsify(model, 0.6, every=10, scope="layer" if "qr" in variant else "global")
        TRACED[name, variant] = (model, x, pn.trace(model, x))
    model, x, structure = TRACED[name, variant]
    return copy.deepcopy(model), x, structure


def plan_of(structure: Structure, seed: int, *, units_only: bool = False) -> Plan:
    """Some units of every exact group leave; `units_only` leaves the ranks of decompositions whole."""
    generator = torch.Generator().manual_seed(seed)
    alive = {}
    for group in structure.removable():
        if group.exact and not (units_only and ".spectrum." in group.name):
            mask = torch.rand(group.size, generator=generator) < 0.6
            mask[torch.randint(group.size, (1,), generator=generator)] = True
            alive[group.name] = mask
    return structure.plan(alive)


@EACH
def test_shrunk_equals_silenced(name: str, variant: str) -> None:
    model, x, structure = spectral_case(name, variant)
    plan = plan_of(structure, 0)
    assert not plan.empty
    with pn.silence(model, plan), torch.no_grad():
        silenced = flat(call(model, x))
    pn.shrink(model, plan)
    with torch.no_grad():
        gap = (flat(call(model, x)) - silenced).abs().max() / silenced.abs().max().clamp(min=1.0)
    assert float(gap) < EXACT


@EACH
def test_folding_and_removing_commute(name: str, variant: str) -> None:
    model, x, structure = spectral_case(name, variant)
    plan = plan_of(structure, 1, units_only=True)
    other = spectral.fold(copy.deepcopy(model))
    pn.shrink(other, pn.trace(other, x).plan(plan.alive))
    pn.shrink(model, plan)
    spectral.fold(model)
    assert list(model.state_dict()) == list(other.state_dict())
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[key], rtol=EXACT, atol=EXACT)


@EACH
def test_the_same_units_are_found_as_in_the_plain_network(name: str, variant: str) -> None:
    model, x, structure = spectral_case(name, variant)
    plain = pn.trace(spectral.fold(model), x)
    found = {group.name: (group.size, group.exact) for group in structure.removable() if ".spectrum." not in group.name}
    assert found == {group.name: (group.size, group.exact) for group in plain.removable()}


@pytest.mark.parametrize(
    "variant", [kind if ("mlp", kind) in TELLING else pytest.param(kind, marks=pytest.mark.slow) for kind in VARIANTS + MASKED]
)
def test_training_goes_on_after_a_removal(variant: str) -> None:
    model, x, structure = spectral_case("mlp", variant)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-3)
    for number in range(4):
        optimizer.zero_grad()
        flat(call(model, x)).square().sum().backward()
        optimizer.step()
        if number == 1:
            pn.shrink(model, plan_of(structure, 2), optimizers=[optimizer])
    assert all(parameter.grad is not None and parameter.grad.shape == parameter.shape for parameter in model.parameters())
    moments = sum(value.numel() for state in optimizer.state.values() for value in state.values() if value.dim())
    assert moments == 2 * sum(parameter.numel() for parameter in model.parameters())


def test_rows_that_leave_take_their_part_of_the_triangle_along() -> None:
    """The mask is a tensor with rows of its own: a triangle drawn anew over the rows that stay would be another one."""
    model, _, structure = spectral_case("mlp", "qr")
    plan = plan_of(structure, 0)
    free = {name: buffer.clone() for name, buffer in model.named_buffers() if name.endswith("free")}
    pn.shrink(model, plan)
    for name, before in free.items():
        for dim in (0, 1):
            before = before.index_select(dim, torch.tensor(plan.tensors.get((name, dim), range(before.shape[dim]))))
        assert torch.equal(model.get_buffer(name), before)
    assert any(isinstance(module, TriangularBlock) and not torch.equal(module.free, module.free.tril()) for module in model.modules())


def test_a_shrunk_spectral_network_on_disk(tmp_path: Path) -> None:
    model, x, structure = spectral_case("mlp", "two-set")
    pn.shrink(model, plan_of(structure, 0))
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, lambda: spectral.spectralize(make("mlp")[0].double(), "two-set")).eval()
    assert torch.equal(flat(call(loaded, x)), flat(call(model, x)))
    spectral.fold(model)
    with pytest.raises(pn.errors.StructureError):
        pn.load(tmp_path, lambda: make("mlp")[0].double())


def test_silencing_the_eigenvalue_alone_would_not_do() -> None:
    """Planted fault: with λ_in at zero and φ as it was, the reader still reads −λ_out·φ."""
    model, x, structure = spectral_case("mlp", "two-set")
    plan = plan_of(structure, 0)
    reference = copy.deepcopy(model)
    pn.shrink(reference, plan)
    with torch.no_grad():
        for (name, dim), kept in plan.tensors.items():
            if name.endswith("lambda_in"):
                mask = torch.ones(plan.sizes[name, dim], dtype=torch.bool)
                mask[list(kept)] = False
                model.get_parameter(name)[mask] = 0.0
        assert not torch.allclose(flat(call(model, x)), flat(call(reference, x)), rtol=1e-6)


def test_masks_leave_with_their_units() -> None:
    model, _, structure = spectral_case("mlp", "unit masked")
    plan = plan_of(structure, 0)
    before = {name: buffer.clone() for name, buffer in model.named_buffers() if "mask" in name}
    assert len(before) == 2 * len(spectral.spectral_layers(model))
    pn.shrink(model, plan)
    for name, old in before.items():
        assert torch.equal(model.get_buffer(name), plan.cut(name, old))
        assert model.get_buffer(name).shape == model.get_submodule(name.partition(".spectrum")[0]).weight.shape


@pytest.mark.parametrize("scope", ["layer", pytest.param("global", marks=pytest.mark.slow)])
def test_masks_decided_before_every_pass_hold_still_while_removals_are_tried(scope: str) -> None:
    """On the model itself they are decided anew over the entries that remain."""
    model, x = make("mlp")
    model = spectral.sparsify(spectral.spectralize(model.eval(), "full"), 0.8, scope=scope)
    structure = pn.trace(model, x)
    plain = pn.trace(make("mlp")[0], x)
    assert [(g.name, g.size, g.exact) for g in structure.removable()] == [(g.name, g.size, g.exact) for g in plain.removable()]
    pn.shrink(model, plan_of(structure, 0))
    call(model, x)
    found = spectral.topology(model).values()
    entries = sum(layer.entries for layer in found)
    assert entries == sum(layer.weight.numel() for layer in spectral.spectral_layers(model).values())
    assert sum(layer.kept for layer in found) == pytest.approx(0.2 * entries, abs=len(found))


def test_a_masked_shrunk_network_on_disk(tmp_path: Path) -> None:
    model, x, structure = spectral_case("mlp", "qr masked")
    pn.shrink(model, plan_of(structure, 0))
    pn.save(model, tmp_path)
    fresh = pn.load(tmp_path, lambda: spectral.sparsify(spectral.spectralize(make("mlp")[0].double(), "qr"), 0.1, every=10)).eval()
    assert torch.equal(flat(call(fresh, x)), flat(call(model, x)))
    assert spectral.topology(fresh) == spectral.topology(model)
