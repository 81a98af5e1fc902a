"""A spectral network shrunk, folded and saved is loaded as the plain network it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import parsinet as pn
from networks import call, flat, make
from parsinet import spectral
from parsinet.structure import Structure

VARIANTS = ["one-set", "two-set", "svd", "qr", "qr-full", "full", "full-one-set", "unit"]
CASES = [
    *(("mlp", variant) for variant in VARIANTS),
    ("lenet-5-caffe", "qr"),
    ("branches", "full-one-set"),
    ("depthwise", "two-set"),
    ("autoencoder", "full"),
]
TELLING = [("mlp", "two-set"), ("mlp", "qr-full"), ("mlp", "unit"), ("lenet-5-caffe", "qr"), ("branches", "full-one-set")]


def masks(structure: Structure, names: list[str], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name in names:
        mask = torch.rand(structure.group(name).size, generator=generator) < 0.7
        mask[0] = True
        found[name] = mask
    return found


@pytest.mark.parametrize(("name", "variant"), [case if case in TELLING else pytest.param(*case, marks=pytest.mark.slow) for case in CASES])
def test_saved_folded_and_loaded_by_the_plain_architecture(name: str, variant: str, tmp_path: Path) -> None:
    """Units leave three times: before the layers are spectral, while they are (ranks as well), and after the fold."""
    model, x = make(name)
    model = model.eval()
    structure = pn.trace(model, x)
    nodes = spectral.node_groups(structure)
    pn.shrink(model, structure.plan(masks(structure, nodes, 0)))
    spectral.spectralize(model, variant)
    structure = pn.trace(model, x)
    assert spectral.node_groups(structure) == [group for group in nodes if structure.group(group).removable]
    ranks = [group.name for group in structure.removable() if group.name not in nodes]
    assert bool(ranks) == (variant in ("svd", "qr", "qr-full"))
    pn.shrink(model, structure.plan(masks(structure, [group.name for group in structure.removable()], 1)))
    spectral.fold(model)
    structure = pn.trace(model, x)
    pn.shrink(model, structure.plan(masks(structure, spectral.node_groups(structure), 2)))
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, lambda: make(name)[0]).eval()
    assert torch.equal(flat(call(loaded, x)), flat(call(model, x)))
    written = json.loads((tmp_path / "structure.json").read_text())
    assert ".spectrum." not in json.dumps(written)
    assert set(written["units"]) <= set(nodes)


def test_units_in_the_record_are_those_of_the_plain_network(tmp_path: Path) -> None:
    """The same removal on the plain network leaves the same record."""
    model, x = make("mlp")
    plain, _ = make("mlp")
    spectral.spectralize(model, "two-set")
    plan = masks(pn.trace(plain, x), spectral.node_groups(pn.trace(plain, x)), 3)
    for one in (model, plain):
        pn.shrink(one, pn.trace(one, x).plan(plan))
    spectral.fold(model)
    records = []
    for number, one in enumerate((model, plain)):
        pn.save(one, tmp_path / str(number))
        record = json.loads((tmp_path / str(number) / "structure.json").read_text())
        records.append({key: record[key] for key in ("tensors", "sizes", "attributes", "units", "removals")})
    assert records[0] == records[1]


def test_a_network_without_removals_has_no_record() -> None:
    model, _ = make("mlp")
    names = set(vars(model))
    spectral.fold(spectral.spectralize(model))
    assert set(vars(model)) == names


@pytest.mark.parametrize("variant", ["svd", "qr-full"])
def test_nodes_of_a_grouped_convolution_are_nodes_in_decompositions_too(variant: str, tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4), nn.ReLU(), nn.Conv2d(8, 3, 1))

    x = torch.ones(2, 2, 5, 5)
    plain = {group.name: group.size for group in pn.trace(build(), x).removable()}
    model = spectral.spectralize(build(), variant).eval()
    structure = pn.trace(model, x)
    nodes = spectral.node_groups(structure)
    assert sorted(structure.group(name).size for name in nodes) == sorted(plain.values())
    pn.shrink(model, structure.plan(masks(structure, nodes, 1)))
    pn.save(spectral.fold(model), tmp_path)
    written = json.loads((tmp_path / "structure.json").read_text())
    assert ".spectrum." not in json.dumps(written)
    assert set(written["units"]) <= set(plain)
    assert "2" in written["units"]
    assert torch.equal(pn.load(tmp_path, build).eval()(x), model(x))
