"""Masks on composed weights: how many stay, when they are decided, which gradients pass, how they come and go, bad input."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from parsinet import spectral
from parsinet.errors import ArgumentTypeError, ParsinetError, UsageError
from parsinet.spectral.masks import cut_off, rank_of, smallest
from parsinet.spectral.sparsifier import Sparsifier, sparsifiers

VARIANTS = [name for name in spectral.VARIANTS if name != "svd-gaussian"]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


X, TARGET = numbers(16, 6, seed=1), numbers(16, 4, seed=2)


def network(variant: str = "two-set", widths: tuple[int, ...] = (6, 9, 4)) -> nn.Sequential:
    """Two Linear layers in float64, weights and eigenvalues of their own."""
    first, second = nn.Linear(*widths[:2], dtype=torch.float64), nn.Linear(*widths[1:], dtype=torch.float64)
    with torch.no_grad():
        first.weight.copy_(numbers(*first.weight.shape, seed=3))
        second.weight.copy_(numbers(*second.weight.shape, seed=4))
    model = spectral.spectralize(nn.Sequential(first, nn.Tanh(), second), variant)
    assert isinstance(model, nn.Sequential)
    return model


def train(model: nn.Module, steps: int, *, lr: float = 0.05, optimizer: torch.optim.Optimizer | None = None) -> torch.optim.Optimizer:
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(X) - TARGET).square().mean().backward()
        optimizer.step()
    return optimizer


def slow_mask(weight: Tensor, sparsity: float) -> Tensor:
    """Sorted, without a helper: the r + 1 smallest magnitudes go, r rounded half to even."""
    ranked = sorted(abs(float(value)) for value in weight.detach().flatten())
    place = (len(ranked) - 1) * sparsity
    below = int(np.floor(place))
    rank = below if place - below < 0.5 or (place - below == 0.5 and below % 2 == 0) else below + 1
    return weight.detach().abs() > ranked[rank]


@pytest.mark.parametrize("percent", [50, 70, 80, 85, 90, 95, 98])
def test_survivors_of_the_published_network(percent: int) -> None:
    """784-500-500-10: n − (r + 1) of each weight stay, at 98 % 7,840 + 5,000 + 100."""
    kept = []
    for n in (784 * 500, 500 * 500, 500 * 10):
        weights = torch.rand(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64).unique()
        assert len(weights) == n
        kept.append(int((weights > cut_off([weights], percent / 100)).sum()))
        assert kept[-1] == n - (round((n - 1) * percent / 100) + 1)
    if percent == 98:
        assert kept == [7_840, 5_000, 100]


def test_ranks_round_half_to_even() -> None:
    assert [rank_of(entries, 0.5) for entries in (2, 4, 6, 8)] == [0, 2, 2, 4]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_selection_is_exact(dtype: torch.dtype) -> None:
    values = numbers(501).abs().to(dtype)
    ordered = values.sort().values
    assert all(torch.equal(smallest(values.clone(), rank), ordered[rank]) for rank in (0, 1, 250, 499, 500))


@pytest.mark.slow
def test_selection_beyond_quantile() -> None:
    """torch.quantile ends at 2^24 entries."""
    values = torch.rand(2**24 + 3, generator=torch.Generator().manual_seed(0))
    c = cut_off([values], 0.75)
    assert int((values < c).sum()) <= rank_of(len(values), 0.75) < int((values <= c).sum())


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 7), (3, 5)),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), groups=2), (2, 4, 5, 4)),
    "transposed1d": (lambda: nn.ConvTranspose1d(4, 6, 3), (2, 4, 5)),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("grad", [True, False])
def test_the_output_is_that_of_the_masked_weight_and_so_is_the_fold(name: str, variant: str, grad: bool) -> None:
    make, shape = LAYERS[name]
    layer: Any = spectral.spectralize(make().double(), variant)
    with torch.no_grad():
        for number, parameter in enumerate(layer.spectrum.parameters()):
            parameter += 0.3 * numbers(*parameter.shape, seed=number + 5)
    expected = layer.weight.detach()
    expected = torch.where(slow_mask(expected, 0.6), expected, 0.0)
    spectral.sparsify(layer, 0.6)
    with torch.set_grad_enabled(grad):
        y = layer(numbers(*shape, seed=8))
    assert torch.equal(layer.weight, expected)
    plain = spectral.fold(layer)
    assert torch.equal(plain.weight, expected)
    assert type(plain) is type(make())
    assert not plain._forward_pre_hooks
    torch.testing.assert_close(plain(numbers(*shape, seed=8)), y, rtol=1e-12, atol=1e-12)


def test_zero_masks_nothing() -> None:
    model = network()
    before = model[0].weight.detach().clone()
    spectral.sparsify(model, 0.0)
    model(X)
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_gradient_passes_a_mask(variant: str) -> None:
    """Against autograd on the explicit `where`."""
    model = network(variant)
    layer: Any = model[0]
    twin: Any = copy.deepcopy(layer)
    spectral.sparsify(layer, 0.7)
    twin_y = nn.functional.linear(X, torch.where(slow_mask(twin.weight.detach(), 0.7), twin.weight, 0.0), twin.bias)
    layer(X).tanh().sum().backward()
    twin_y.tanh().sum().backward()
    for own, plain in zip(layer.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(own.grad, plain.grad, rtol=1e-11, atol=1e-12)


def test_a_masked_row_without_survivors_has_no_gradient() -> None:
    """The law above can fail: a straight-through estimator would pass something here."""
    model = network("full")
    layer: Any = model[0]
    with torch.no_grad():
        layer.spectrum.basis.phi[2] *= 1e-6
    spectral.sparsify(layer, 0.5)
    layer(X).sum().backward()
    assert bool((layer.spectrum.basis.phi.grad[2] == 0).all())
    assert float(layer.spectrum.lambda_out.grad[2]) == 0.0


@pytest.mark.parametrize("training", [True, False])
def test_the_mask_follows_the_weights_in_training_and_evaluation(training: bool) -> None:
    """Each way to change a parameter is seen: an operator in place, `.data`, a loaded state."""
    model = spectral.sparsify(network().train(training), 0.5)
    layer: Any = model[0]
    changes: dict[str, Callable[[], Any]] = {
        "in place": lambda: layer.spectrum.lambda_out.detach().add_(numbers(9, seed=11)),
        "data": lambda: setattr(layer.spectrum.lambda_in, "data", numbers(6, seed=12)),
        "state": lambda: model.load_state_dict({**model.state_dict(), "0.spectrum.lambda_out": numbers(9, seed=13)}),
    }
    for change in changes.values():
        model(X)
        before = layer.spectrum.mask.kept.clone()
        change()
        model(X)
        kept = layer.spectrum.mask.kept
        assert torch.equal(kept, slow_mask(layer.unmasked_weight(), 0.5))
        assert not torch.equal(kept, before)


def test_an_evaluation_after_training_sees_the_last_step() -> None:
    """Optimizers may write through `.data` or fused kernels, which no counter of writes sees."""
    model = spectral.sparsify(network("qr"), 0.8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    train(model, 3, optimizer=optimizer)
    model.eval()(X)
    assert all(torch.equal(layer.spectrum.mask.kept, slow_mask(layer.unmasked_weight(), 0.8)) for layer in (model[0], model[2]))


def test_a_fused_step_between_two_evaluations_is_seen() -> None:
    model = spectral.sparsify(network("full"), 0.8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5, fused=True)
    (model(X) - TARGET).square().mean().backward()
    model.eval()(X)
    optimizer.step()
    before = model[0].spectrum.mask.kept.clone()  # type: ignore[union-attr, operator]
    model(X)
    assert not torch.equal(model[0].spectrum.mask.kept, before)  # type: ignore[union-attr, arg-type]
    assert all(torch.equal(layer.spectrum.mask.kept, slow_mask(layer.unmasked_weight(), 0.8)) for layer in (model[0], model[2]))


def test_an_evaluation_of_unchanged_weights_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = spectral.sparsify(network(), 0.5).eval()
    model(X)
    monkeypatch.setattr(Sparsifier, "refresh", lambda self: pytest.fail("decided again"))
    with torch.inference_mode():
        model(X)
    model(X)


def test_masks_decided_in_inference_mode_can_be_trained() -> None:
    model = spectral.sparsify(network(), 0.5)
    with torch.inference_mode():
        model.eval()(X)
    train(model.train(), 2)


@pytest.mark.parametrize("every", [1, 3])
def test_every_so_many_training_passes(every: int) -> None:
    model = spectral.sparsify(network("full"), 0.5, every=every)
    layer: Any = model[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    decided = []
    for _ in range(7):
        before = layer.spectrum.mask.kept
        train(model, 1, optimizer=optimizer)
        decided.append(layer.spectrum.mask.kept is not before)
        held = layer.spectrum.mask.kept
        model.eval()(X)
        assert (layer.spectrum.mask.kept is held) == (every > 1)
        model.train()
    assert decided == [number % every == 0 for number in range(7)]


def test_the_mask_acts_on_the_composed_weight() -> None:
    """At the same φ other eigenvalues order |W| otherwise."""
    model = network()
    layer: Any = spectral.sparsify(model[0], 0.5)
    phi = layer.spectrum.basis.phi.clone()
    with torch.no_grad():
        layer.spectrum.lambda_in.copy_(numbers(6, seed=20) * 10)
    layer(X)
    assert torch.equal(layer.spectrum.basis.phi, phi)
    assert torch.equal(layer.spectrum.mask.kept, slow_mask(layer.unmasked_weight(), 0.5))
    assert not torch.equal(layer.spectrum.mask.kept, slow_mask(phi, 0.5))


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_threshold_stays_bitwise_what_it_was(scope: str) -> None:
    model = network("qr-full")
    bases = [layer.weight.detach().abs() for layer in (model[0], model[2])]
    together = torch.cat([base.flatten() for base in bases]).sort().values
    expected = [float(base.flatten().sort().values[round((base.numel() - 1) * 0.8)]) for base in bases]
    expected = [float(together[round((len(together) - 1) * 0.8)])] * 2 if scope == "global" else expected
    spectral.sparsify(model, 0.8, mode="threshold", scope=scope)
    train(model, 4, lr=0.3)
    reloaded = spectral.sparsify(network("qr-full"), 0.3, mode="threshold", scope=scope)
    reloaded.load_state_dict(model.state_dict())
    for one in (model, reloaded):
        assert [layer.spectrum.mask.threshold for layer in (one[0], one[2])] == expected
        one.eval()(X)
        for layer, c in zip((one[0], one[2]), expected, strict=True):
            assert torch.equal(layer.spectrum.mask.kept, layer.unmasked_weight().abs() > c)
    assert any(
        layer.spectrum.mask.kept.double().mean() != base.gt(c).double().mean()
        for layer, base, c in zip((model[0], model[2]), bases, expected, strict=True)
    )


def test_a_fixed_mask_stays() -> None:
    model = spectral.sparsify(network("full"), 0.6, mode="fixed")
    before = [layer.spectrum.mask.kept.clone() for layer in (model[0], model[2])]
    train(model, 5, lr=0.5)
    model.eval()(X)
    assert all(torch.equal(layer.spectrum.mask.kept, kept) for layer, kept in zip((model[0], model[2]), before, strict=True))
    spectral.set_sparsity(model, 0.9)
    assert torch.equal(model[0].spectrum.mask.kept, slow_mask(model[0].unmasked_weight(), 0.9))


def test_one_threshold_over_all_layers() -> None:
    model = network()
    with torch.no_grad():
        model[2].spectrum.basis.phi *= 100
    spectral.sparsify(model, 54 / 90 - 0.005, scope="global")
    assert int(model[0].spectrum.mask.kept.sum()) == 0
    assert int(model[2].spectrum.mask.kept.sum()) == 36


def test_layers_of_their_own_sparsity() -> None:
    model = network()
    spectral.sparsify(model, 0.9, layers=["0"])
    spectral.sparsify(model, 0.25, layers=[model[2]])
    model(X)
    kept = {name: (found.kept, found.entries) for name, found in spectral.topology(model).items()}
    assert kept == {"0": (54 - rank_of(54, 0.9) - 1, 54), "2": (36 - rank_of(36, 0.25) - 1, 36)}


def test_a_schedule_drives_the_sparsity() -> None:
    model = spectral.sparsify(network("full"), 0.0, scope="global", every=2)
    shares = []
    for step in range(6):
        spectral.set_sparsity(model, 0.9 * (1 - (1 - step / 5) ** 3))
        train(model, 1)
        shares.append(sum(found.kept for found in spectral.topology(model).values()) / 90)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == shares[1] == 1.0
    spectral.refresh_masks(model)
    assert sum(found.kept for found in spectral.topology(model).values()) == 90 - rank_of(90, 0.9) - 1


def test_topology_moves_in_reciprocal_space_and_stands_still_in_direct_space() -> None:
    """Masked entries of RQ change and some return; masked entries of a plain weight are constants under plain SGD."""
    model = network("qr", (6, 40, 4))
    spectral.sparsify(model, 0.9)
    layer: Any = model[0]
    model(X)
    outside, old = ~layer.spectrum.mask.kept, layer.unmasked_weight()
    train(model, 30, lr=0.5)
    found = spectral.topology(model)["0"]
    assert bool((layer.unmasked_weight()[outside] != old[outside]).any())
    assert found.returned > 0
    assert found.updates > 1
    assert 0 < found.return_rate < 1
    assert found.kept / found.entries < found.explored < 1
    direct = numbers(40, 6, seed=3).requires_grad_()
    weight = torch.where(slow_mask(direct, 0.9), direct, 0.0)
    (nn.functional.linear(X, weight).tanh() @ numbers(40, 4) - TARGET).square().mean().backward()
    assert direct.grad is not None
    assert bool((direct.grad[~slow_mask(direct, 0.9)] == 0).all())


def test_returns_are_counted_as_a_slow_twin_does() -> None:
    model = spectral.sparsify(network("two-set", (6, 30, 4)), 0.8)
    layer: Any = model[0]
    masks = [layer.spectrum.mask.kept]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(10):
        train(model, 1, optimizer=optimizer)
        masks.append(layer.spectrum.mask.kept)
    moved = [(a, b) for a, b in itertools.pairwise(masks) if not torch.equal(a, b)]
    assert moved
    found = spectral.topology(model)["0"]
    assert found.returned == sum(int((b & ~a).sum()) for a, b in moved)
    first = int((~masks[0]).sum())
    assert found.updates == 1 + len(moved)
    assert found.return_rate == found.returned / sum(int((~a).sum()) for a, _ in moved)
    assert first == sum((~masks[0]).flatten().tolist())
    last = moved[-1]
    assert found.last_return_rate == int((last[1] & ~last[0]).sum()) / int((~last[0]).sum())
    assert found.explored == float(torch.stack(masks).any(0).double().mean())


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("mode", ["dynamic", "threshold"])
def test_a_resumed_run_is_bitwise_the_same(mode: str, every: int) -> None:
    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = spectral.sparsify(network("qr"), 0.7, mode=mode, every=every)
        return model, torch.optim.Adam(model.parameters(), lr=0.05)

    model, optimizer = fresh()
    train(model, 6, optimizer=optimizer)
    states = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    train(model, 7, optimizer=optimizer)
    other, resumed = fresh()
    other.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    train(other, 7, optimizer=resumed)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())
    assert spectral.topology(other) == spectral.topology(model)


def test_copies_have_masks_of_their_own() -> None:
    model = spectral.sparsify(network(), 0.5)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        (sparsifier,) = sparsifiers(twin)
        assert [layer for layer, _ in sparsifier.layers] == [twin[0], twin[2]]
        with torch.no_grad():
            twin[0].spectrum.lambda_in.copy_(numbers(6, seed=7))
        before = model[0].spectrum.mask.kept.clone()
        twin(X)
        assert torch.equal(twin[0].spectrum.mask.kept, slow_mask(twin[0].unmasked_weight(), 0.5))
        assert torch.equal(model[0].spectrum.mask.kept, before)


def test_a_part_folded_by_itself() -> None:
    model = spectral.sparsify(network(), 0.5)
    spectral.fold(model[0])
    model(X)
    assert list(spectral.topology(model)) == ["2"]
    spectral.fold(model)
    assert not model._forward_pre_hooks


def test_a_fold_after_the_last_step_is_what_an_evaluation_sees() -> None:
    model = spectral.sparsify(network("full"), 0.8)
    train(model, 5, lr=1.0)
    twin = copy.deepcopy(model).eval()
    with torch.no_grad():
        expected = twin(X)
        assert torch.equal(spectral.fold(model)(X), expected)


def test_modules_called_twice_count_one_pass() -> None:
    shared = nn.Linear(6, 6)
    model = spectral.spectralize(nn.Sequential(shared, nn.Tanh(), shared), "full")
    spectral.sparsify(model, 0.5)
    model(X.float()).sum().backward()
    assert shared.spectrum.mask.forwards == 1


REFUSED: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "one": (lambda model: spectral.sparsify(model, 1.0), "in [0, 1); got 1.0"),
    "per cent": (lambda model: spectral.sparsify(model, 90), "in [0, 1); got 90"),
    "negative": (lambda model: spectral.sparsify(model, -0.1), "in [0, 1)"),
    "not a number": (lambda model: spectral.sparsify(model, float("nan")), "in [0, 1)"),
    "text": (lambda model: spectral.sparsify(model, "0.9"), "in [0, 1)"),
    "scope": (lambda model: spectral.sparsify(model, scope="globl"), "Did you mean 'global'?"),
    "mode": (lambda model: spectral.sparsify(model, mode="static"), "unknown mode 'static'"),
    "every": (lambda model: spectral.sparsify(model, every=0), "at least 1; got 0"),
    "a layer's name": (lambda model: spectral.sparsify(model, layers=["1"]), "'1' is no spectral layer of the model"),
    "a plain layer": (lambda model: spectral.sparsify(model, layers=[model[1]]), "is no spectral layer"),
    "one name": (lambda model: spectral.sparsify(model, layers="0"), "write layers=[…]"),
    "no layer": (lambda model: spectral.sparsify(model, layers=[]), "call spectralize first"),
    "plain model": (lambda model: spectral.sparsify(spectral.fold(copy.deepcopy(model))), "call spectralize first"),
    "no module": (lambda model: spectral.sparsify([model]), "expected an nn.Module, got list"),
    "twice": (lambda model: spectral.sparsify(spectral.sparsify(copy.deepcopy(model))), "0 is masked already; set_sparsity"),
    "set too much": (lambda model: spectral.set_sparsity(model, 1.5), "in [0, 1); got 1.5"),
    "set without masks": (lambda model: spectral.set_sparsity(model, 0.5), "has no masks; call sparsify first"),
    "refresh without masks": (spectral.refresh_masks, "has no masks; call sparsify first"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_in_words_and_change_nothing(case: str) -> None:
    call, words = REFUSED[case]
    model = network()
    with pytest.raises(ParsinetError) as caught:
        call(model)
    assert words in str(caught.value)
    assert isinstance(caught.value, ArgumentTypeError if case == "no module" else UsageError)
    assert spectral.topology(model) == {}
    assert not model._forward_pre_hooks


def test_a_file_of_eigenvalues_would_lack_the_mask(tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="0 is masked, and the mask would not be in the file"):
        spectral.save_eigenvalues(spectral.sparsify(network(), 0.5), tmp_path / "a")
