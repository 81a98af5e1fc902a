"""Frozen bases in 16 bits, shared or seeded: the same function, small files, units leave as ever, wrong loads are refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import parsinet as pn
from parsinet import spectral
from parsinet.errors import ParsinetError, UsageError
from parsinet.spectral import functions


def network(seed: int = 0, dtype: torch.dtype = torch.float64, variant: str = "two-set") -> tuple[nn.Module, Tensor]:
    layers = [nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.Flatten(), nn.Linear(36, 3)]
    model = nn.Sequential(*layers).to(dtype)
    initialiser = "glorot" if variant == "two-set" else "p3"
    spectral.spectralize(model, variant, initialiser=initialiser, generator=torch.Generator().manual_seed(seed))
    return model, torch.randn(3, 2, 4, 5, dtype=dtype, generator=torch.Generator().manual_seed(9))


def seeded(model: nn.Module, seed: int = 3) -> nn.Module:
    return spectral.seed_bases(model, torch.Generator().manual_seed(seed), "p3")


KINDS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "narrow": spectral.narrow_bases,
    "shared": lambda model: share_two(model),
    "seeded": seeded,
}


def share_two(model: nn.Module) -> nn.Module:
    model[4] = spectral.spectralize(nn.Conv2d(6, 6, 3, padding=1, dtype=torch.float64))  # type: ignore[operator]
    return spectral.share_bases(model)


def cut(model: nn.Module, x: Tensor) -> Tensor:
    """Lets a third of the units leave; returns what the silenced network says."""
    structure = pn.trace(model, x)
    plan = structure.plan({group.name: torch.arange(group.size) % 3 != 1 for group in structure.removable()})
    assert not plan.empty
    with pn.silence(model, plan), torch.no_grad():
        silenced: Tensor = model(x)
    pn.shrink(model, plan)
    return silenced


@pytest.mark.parametrize("kind", KINDS)
def test_units_leave_and_come_back_from_disk(kind: str, tmp_path: Path) -> None:
    model, x = network()
    KINDS[kind](model)
    silenced = cut(model, x)
    torch.testing.assert_close(model(x), silenced, rtol=1e-12, atol=1e-12)
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, lambda: KINDS[kind](network(seed=1)[0]))
    assert torch.equal(loaded(x), model(x))
    spectral.fold(model)
    torch.testing.assert_close(model(x), silenced, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"])
def test_copies_are_kept_alike(kind: str, duplicate: Callable[[nn.Module], Any]) -> None:
    model, x = network()
    twin = duplicate(KINDS[kind](model))
    assert torch.equal(twin(x), model(x))
    bases = [layer.spectrum.basis for layer in spectral.spectral_layers(twin).values()]
    assert (bases[1] is bases[2]) == (kind == "shared")
    assert bases[0] is not model[0].spectrum.basis


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", ["two-set", "one-set"])
def test_a_narrow_basis_is_rounded_once_and_composed_wide(variant: str, dtype: torch.dtype) -> None:
    model, x = network(dtype=torch.float32, variant=variant)
    twin = copy.deepcopy(model)
    for layer in spectral.spectral_layers(twin).values():
        phi: Any = layer.spectrum.basis.phi
        phi.copy_(phi.to(dtype))
    spectral.narrow_bases(model, dtype)
    assert model[0].spectrum.basis.phi.dtype == dtype
    assert model[0].weight.dtype == torch.float32
    y, expected = model(x), twin(x)
    assert torch.equal(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    for own, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)


def test_a_narrow_basis_goes_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocked form widens tile by tile, so that no float32 φ comes to be."""
    from_blocks: list[torch.dtype] = []
    blocks = functions._compose_rows

    def seen(lambda_in: Tensor, lambda_out: Tensor, phi: Tensor, out: Tensor) -> Tensor:
        from_blocks.append(phi.dtype)
        return blocks(lambda_in, lambda_out, phi, out)

    monkeypatch.setattr(functions, "_compose_rows", seen)
    layer = spectral.narrow_bases(spectral.spectralize(nn.Linear(800, 700)))
    x = torch.randn(2, 800, generator=torch.Generator().manual_seed(0))
    layer(x).square().sum().backward()
    assert set(from_blocks) == {torch.bfloat16}
    grads = [parameter.grad for parameter in layer.parameters()]
    layer.zero_grad(set_to_none=True)
    nn.functional.linear(x, layer.weight, layer.bias).square().sum().backward()
    for own, parameter in zip(grads, layer.parameters(), strict=True):
        torch.testing.assert_close(own, parameter.grad, rtol=1e-4, atol=1e-3)


def test_a_shared_basis_is_one_tensor_in_files(tmp_path: Path) -> None:
    model, _ = network()
    layer = nn.Linear(300, 300)
    model = spectral.spectralize(nn.Sequential(layer, copy.deepcopy(layer), copy.deepcopy(layer)))
    assert len(list(spectral.share_bases(model).buffers())) == 1
    pn.save(model, tmp_path)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    once = 4 * 300 * 300
    for name in ("model.safetensors", "state.pt"):
        assert once < (tmp_path / name).stat().st_size < 1.2 * once
    assert len({parameter for parameter in spectral.fold(model).parameters() if parameter.dim() == 2}) == 3


def test_a_seeded_network_is_a_file_of_kilobytes(tmp_path: Path) -> None:
    def make(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return seeded(spectral.spectralize(nn.Sequential(nn.Linear(400, 500), nn.Tanh(), nn.Linear(500, 10))), seed)

    with torch.random.fork_rng():
        model, other = make(0), make(1)
    x = torch.randn(2, 400)
    save_file(model.state_dict(), tmp_path / "state.safetensors")
    assert (tmp_path / "state.safetensors").stat().st_size < 4 * (400 + 500 + 500 + 10 + 510) + 2_000
    assert not torch.equal(other(x), model(x))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))
    assert other[0].spectrum.basis.draw == model[0].spectrum.basis.draw


def test_seeds_give_the_same_bits_in_every_run() -> None:
    draw = spectral.seeds.Draw("glorot", (3, 2), (2, 3), 12345)
    assert torch.equal(draw(), draw())
    expected = torch.empty(3, 2).uniform_(-((6 / 5) ** 0.5), (6 / 5) ** 0.5, generator=torch.Generator().manual_seed(12345))
    assert torch.equal(draw(), expected)


@pytest.mark.parametrize("case", ["other units", "none left here", "other bits"])
def test_a_seeded_state_that_does_not_fit_is_refused(case: str) -> None:
    model, x = network()
    state = copy.deepcopy(seeded(model).state_dict())
    if case != "other bits":
        structure = pn.trace(model, x)
        name = structure.removable()[0].name
        other = copy.deepcopy(model)
        pn.shrink(model, structure.plan({name: torch.arange(6) > 0}))
        state = model.state_dict()
        if case == "other units":
            pn.shrink(other, structure.plan({name: torch.arange(6) < 5}))
        model = other
    else:
        state["0.spectrum.basis._extra_state"][1] += 1
    with pytest.raises((UsageError, RuntimeError), match="belongs to another φ"):
        model.load_state_dict(state)


@pytest.mark.parametrize("kind", ["narrow", "seeded"])
def test_eigenvalue_files_know_these_bases(kind: str, tmp_path: Path) -> None:
    model, x = network()
    KINDS[kind](model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        model[0].spectrum.lambda_in += 0.5
    spectral.save_eigenvalues(model, tmp_path / "task.safetensors")
    spectral.load_eigenvalues(twin, tmp_path / "task.safetensors")
    assert torch.equal(twin(x), model(x))
    with pytest.raises(UsageError, match="another frozen basis"):
        spectral.load_eigenvalues(seeded(network()[0], 4) if kind == "seeded" else network(1)[0], tmp_path / "task.safetensors")


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "narrow to 8 bits": (lambda: spectral.narrow_bases(network()[0], torch.float8_e4m3fn), "must be torch.bfloat16"),
    "narrow twice": (lambda: spectral.narrow_bases(spectral.narrow_bases(network()[0])), "keep it one way"),
    "narrow 16 bits": (lambda: spectral.narrow_bases(spectral.spectralize(nn.Linear(2, 2).bfloat16())), "of 16 bits already"),
    "no two alike": (lambda: spectral.share_bases(network()[0]), "no two layers have a frozen φ of one shape"),
    "trained": (lambda: spectral.share_bases(spectral.spectralize(nn.Linear(2, 2), "full")), "use variant='two-set'"),
    "no φ drawn": (lambda: spectral.seed_bases(network()[0], torch.Generator(), "p2-svd"), "draws no φ"),
    "no generator": (lambda: spectral.seed_bases(network()[0], 3), "expected generator="),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    call, words = REFUSED[case]
    with pytest.raises(ParsinetError, match=words):
        call()
