"""Skip blocks: maps are blocks of ΦΛΦ⁻¹, the start is linear, off nodes fold away, hidden nodes switch on only where needed."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from parsinet import spectral
from parsinet.errors import UsageError

WIDTHS = [(3, 4), (4, 5, 3), (3, 3, 3), (5, 2, 4, 3), (2, 3, 4, 2, 3)]
CLOSE = {"rtol": 0.0, "atol": 1e-11}
"""float64, products of up to four blocks."""


def block(widths: tuple[int, ...], *, fresh: bool = False, activation: nn.Module | None = None) -> spectral.SkipBlock:
    generator = torch.Generator().manual_seed(0)
    made = spectral.SkipBlock(widths, generator, activation or nn.Tanh(), dtype=torch.float64)
    if not fresh:
        with torch.no_grad():
            for parameter in (*made.lambdas, *made.bias):
                parameter += torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return made


def inputs(width: int) -> Tensor:
    return torch.randn(7, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def slow_operator(own: spectral.SkipBlock) -> Tensor:
    """A = ΦΛΦ⁻¹ on all nodes, the inverse by a solver."""
    starts = [0, *itertools.accumulate(own.widths)]
    Phi = torch.eye(starts[-1], dtype=torch.float64)
    for k, phi in enumerate(own.phi):
        Phi[starts[k + 1] : starts[k + 2], starts[k] : starts[k + 1]] = phi.detach()
    return Phi @ torch.diag(torch.cat(list(own.lambdas)).detach()) @ torch.linalg.inv(Phi)


@pytest.mark.parametrize("widths", WIDTHS)
def test_maps_are_blocks_of_the_operator(widths: tuple[int, ...]) -> None:
    own = block(widths)
    A, starts = slow_operator(own), [0, *itertools.accumulate(widths)]
    found = own.blocks()
    assert set(found) == {(k, j) for k in range(len(widths)) for j in range(k)}
    for (k, j), value in found.items():
        torch.testing.assert_close(value.detach(), A[starts[k] : starts[k + 1], starts[j] : starts[j + 1]], **CLOSE)


@pytest.mark.parametrize("widths", WIDTHS)
def test_the_output_is_that_of_the_operator(widths: tuple[int, ...]) -> None:
    """n_k = σ(Σ_{j<k} A_kj n_j + b_k) from the whole matrix."""
    own, A, starts = block(widths), None, [0, *itertools.accumulate(widths)]
    A = slow_operator(own)
    nodes = [inputs(widths[0])]
    for k in range(1, len(widths)):
        rows = A[starts[k] : starts[k + 1]]
        total = own.bias[k - 1].detach() + torch.cat(nodes, 1) @ rows[:, : starts[k]].t()
        nodes.append(total if k == len(widths) - 1 else torch.tanh(total))
    torch.testing.assert_close(own(inputs(widths[0])).detach(), nodes[-1], **CLOSE)


def test_three_layers_as_printed() -> None:
    own = block((4, 5, 3))
    (l1, l2, l3), (phi1, phi2), found = own.lambdas, own.phi, own.blocks()
    torch.testing.assert_close(found[1, 0], phi1 * l1 - l2[:, None] * phi1, **CLOSE)
    torch.testing.assert_close(found[2, 1], phi2 * l2 - l3[:, None] * phi2, **CLOSE)
    torch.testing.assert_close(found[2, 0], (l3[:, None] * phi2 - phi2 * l2) @ phi1, **CLOSE)
    torch.testing.assert_close(found[2, 0], -found[2, 1] @ phi1, **CLOSE)


@pytest.mark.parametrize("widths", WIDTHS[1:])
def test_the_start_is_linear(widths: tuple[int, ...]) -> None:
    own = block(widths, fresh=True)
    assert all(bool((own.weight(k) == 0).all()) for k in range(len(widths) - 2))
    product = torch.linalg.multi_dot([phi.detach() for phi in reversed(list(own.phi))])
    sign = 1.0 if len(widths) % 2 else -1.0
    x = inputs(widths[0])
    torch.testing.assert_close(own(x).detach(), sign * x @ product.t(), **CLOSE)
    assert all(bool((norm == 0).all()) for norm in own.activity())


@pytest.mark.parametrize("widths", [(4, 5, 3), (5, 2, 4, 3)])
def test_gradients(widths: tuple[int, ...]) -> None:
    own = block(widths)
    names = [name for name, _ in own.named_parameters()]

    def run(x: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(own, parameters, (x,)), torch.stack([v.norm() for n, v in parameters.items() if "lambdas" in n])

    values = [parameter.detach().clone().requires_grad_() for parameter in own.parameters()]
    assert torch.autograd.gradcheck(run, (inputs(widths[0]).requires_grad_(), *values))
    torch.testing.assert_close(own.penalty(), torch.stack([v.norm() for v in list(own.lambdas)[:-1]]).sum())


def test_the_penalty_has_a_gradient_at_the_start() -> None:
    own = block((3, 4, 2), fresh=True)
    own.penalty().backward()
    assert all(bool((values.grad == 0).all()) for values in list(own.lambdas)[:-1])
    assert own.lambdas[-1].grad is None


def test_the_number_of_parameters() -> None:
    """(L − 1)d² + Ld, and (L − 1)d biases, instead of d²·L(L − 1)/2 for all-to-all maps."""
    own = block((6, 6, 6, 6))
    assert sum(parameter.numel() for parameter in own.parameters()) == 3 * 36 + 4 * 6 + 3 * 6
    assert sum(value.numel() for value in own.blocks().values()) == 36 * 6


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh(), nn.Sigmoid()], ids=lambda act: type(act).__name__)
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("dead", ["none", "some", "a layer", "all"])
def test_the_fold_is_the_function_without_its_dead_nodes(widths: tuple[int, ...], dead: str, activation: nn.Module) -> None:
    own = block(widths, activation=activation)
    with torch.no_grad():
        for k in range(1, len(widths) - 1):
            off = {"none": slice(0), "some": slice(0, 2), "a layer": slice(None if k == 1 else 0), "all": slice(None)}[dead]
            own.phi[k - 1][off] = 0.0
    plain = own.fold()
    assert sum(len(norm) - int((norm > 0).sum()) for norm in own.activity()) == 0 or dead != "none"
    torch.testing.assert_close(plain(inputs(widths[0])), own(inputs(widths[0])), **CLOSE)
    kinds = {type(module) for module in plain.modules()} - {spectral.PlainSkips, nn.ModuleDict, type(activation)}
    assert kinds == {nn.Linear}
    if dead == "all":
        assert list(plain.maps) == [f"{len(widths) - 1}_0"]
    if dead == "none":
        assert len(plain.maps) == len(widths) * (len(widths) - 1) // 2


def test_equal_eigenvalues_switch_nodes_off() -> None:
    """λ1 = c and λ2,i = c: the node listens to nothing, though |λ2,i| is large; what φ gave through it stays in the skip."""
    own = block((4, 5, 3))
    with torch.no_grad():
        own.lambdas[0].fill_(0.7)
        own.lambdas[1][[1, 3]] = 0.7
    assert torch.nonzero(own.activity()[0] == 0).flatten().tolist() == [1, 3]
    plain = own.fold()
    assert plain.maps["2_1"].weight.shape == (3, 3)
    torch.testing.assert_close(plain(inputs(4)), own(inputs(4)), **CLOSE)
    without = own.fold(threshold=1e9)
    assert list(without.maps) == ["2_0"]
    assert not torch.allclose(without(inputs(4)), own(inputs(4))), "the comparison must be able to fail"


def test_a_number_added_to_all_eigenvalues_changes_nothing() -> None:
    own = block((4, 5, 3, 2))
    y, norms = own(inputs(4)), own.activity()
    with torch.no_grad():
        for values in own.lambdas:
            values += 0.7
    torch.testing.assert_close(own(inputs(4)), y, **CLOSE)
    for norm, before in zip(own.activity(), norms, strict=True):
        torch.testing.assert_close(norm, before, **CLOSE)


def test_refusals() -> None:
    generator = torch.Generator()
    for widths in ((3,), (3, 0, 2), (3, 2.5)):
        with pytest.raises(UsageError, match="two or more numbers of nodes"):
            spectral.SkipBlock(widths, generator)  # type: ignore[arg-type]
    for threshold in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="threshold must be ≥ 0"):
            block((2, 2, 2)).fold(threshold)


def trained(quadratic: float) -> tuple[float, float]:
    """Fraction of the target's variance left and largest activity, after learning (1 − q)·mean(x) + q·mean(x²) on U(−1, 1)²."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(2000, 2, generator=generator) - 1
    target = ((1 - quadratic) * x.mean(1) + quadratic * x.square().mean(1))[:, None]
    own = spectral.SkipBlock((2, 30, 1), generator)
    optimizer = torch.optim.Adam(own.parameters(), lr=1e-2)
    for _ in range(400):
        some = torch.randint(2000, (100,), generator=generator)
        optimizer.zero_grad()
        ((own(x[some]) - target[some]).square().mean() + 1e-3 * own.penalty()).backward()
        optimizer.step()
    with torch.no_grad():
        return float((own(x) - target).square().mean() / target.var()), float(own.activity()[0].max())


@pytest.mark.slow
def test_hidden_nodes_stay_off_for_a_linear_task_and_switch_on_for_a_quadratic_one() -> None:
    (linear_rest, linear), (quadratic_rest, quadratic) = trained(0.0), trained(1.0)
    assert linear_rest < 0.01
    assert linear < 0.01
    assert quadratic_rest < 0.1
    assert quadratic > 0.2
