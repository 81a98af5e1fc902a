"""Layers that a method which masks weights leaves dense are named when it starts, those it was told to leave are not."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from parsinet import Pruner, baselines, methods, spectral
from parsinet.errors import ParsinetWarning, StructureError, UsageError
from parsinet.methods.base import Method
from parsinet.methods.coverage import tell_dense
from parsinet.sphere import LpSGD
from parsinet.topology import maskable

INPUTS = torch.zeros(2, 6)


def start(method: Method, model: nn.Module, inputs: Tensor = INPUTS) -> Pruner:
    return Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), method, inputs, steps=10)


def mlp(wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            wrap(nn.Linear(6, 8)), nn.ReLU(), wrap(nn.Linear(8, 7)), nn.ReLU(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 5)
        )


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def doubled(layer: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", Doubled())


@pytest.mark.parametrize("kind", ["RigL", "SNIP"])
def test_parametrized_layers_are_named_once(kind: str) -> None:
    words = "0, 2 stay dense, because something computes the weight"
    with pytest.warns(ParsinetWarning, match=re.escape(words)) as told:
        start(getattr(baselines, kind)(sparsity=0.8), mlp(parametrizations.weight_norm))
    assert len(told) == 1
    assert "remove_parametrizations(layer, 'weight')" in str(told[0].message)
    assert told[0].filename == __file__


@pytest.mark.parametrize("kind", ["RigL", "GMP"])
def test_weights_that_no_optimizer_trains_are_refused_with_the_remedy(kind: str) -> None:
    model, method = mlp(), getattr(baselines, kind)(sparsity=0.5, remove_units=False)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    with pytest.raises(UsageError, match=r"no optimizer holds 0\.weight.* name them \(exclude=\['0', '4', '6'\]\) or freeze them"):
        Pruner(model, optimizer, method, INPUTS, steps=10)
    alone = getattr(baselines, kind)(sparsity=0.5, exclude=["0", "4", "6"], remove_units=False)
    Pruner(model, optimizer, alone, INPUTS, steps=10)
    assert list(alone.masks.masks) == ["2.weight"]


def test_layers_that_are_excluded_are_not_named() -> None:
    start(baselines.RigL(sparsity=0.8, exclude=["0", "2"]), mlp(parametrizations.weight_norm))
    with pytest.warns(ParsinetWarning, match=r"\. 2 stays dense, because something"):
        start(baselines.RigL(sparsity=0.8, exclude=["0"]), mlp(parametrizations.weight_norm))


def test_the_last_layer_can_be_excluded_where_it_is_parametrized() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), parametrizations.weight_norm(nn.Linear(8, 3)))
    assert list(start(baselines.GMP(exclude=["last"]), model).method.masks.weights) == ["0.weight"]  # type: ignore[attr-defined]


def test_after_parametrizations_are_removed_all_is_masked() -> None:
    model = mlp(parametrizations.weight_norm)
    for layer in (model[0], model[2]):
        parametrize.remove_parametrizations(layer, "weight")
    assert len(maskable(model)) == 4
    start(baselines.RigL(sparsity=0.8), model)


def test_many_names_are_counted() -> None:
    model = nn.Sequential(*(doubled(nn.Linear(4, 4)) for _ in range(5)), nn.Linear(4, 4))
    with pytest.warns(ParsinetWarning, match="0, 1, 2 and 2 more stay dense"):
        tell_dense("gmp", model, maskable(model), (), share_only=True)


COMPUTED = {
    "parametrization": doubled,
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "hook of weight_norm": nn.utils.weight_norm,
    "hook of spectral_norm": nn.utils.spectral_norm,
    "spectral layer": lambda layer: spectral.spectralize(layer, "full"),
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("wrap", COMPUTED.values(), ids=COMPUTED)
def test_whatever_computes_a_weight_its_layer_is_named(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = nn.Sequential(nn.Linear(4, 4), wrap(nn.Linear(4, 4)))
    with pytest.warns(ParsinetWarning, match=r"\. 1 stays dense, because something"):
        tell_dense("gmp", model, maskable(model), (), share_only=False)
    tell_dense("gmp", model, maskable(model, ["1"]), ["1"], share_only=True)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.LSTM(6, 7, batch_first=True), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x)[0][:, -1])


def frozen() -> nn.Module:
    model = mlp()
    model[0].requires_grad_(False)
    model[2].requires_grad_(False)
    return model


def test_a_network_most_of_which_stays_dense_is_told() -> None:
    sequence = torch.zeros(2, 4, 6)
    with pytest.warns(ParsinetWarning, match=r"masked are 5.5% .* cells.weight_hh_l0, cells.weight_ih_l0 stay dense, because only Linear"):
        start(baselines.GMP(sparsity=0.5), Recurrent(), sequence)
    with pytest.warns(ParsinetWarning, match=r"2.weight, 0.weight stay dense, because only .* layers that train"):
        start(baselines.GMP(sparsity=0.5), frozen())
    start(baselines.GMP(sparsity=0.5, exclude=["0", "2"]), frozen())


def test_a_target_counts_the_whole_network_and_no_sparsity_nothing() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start(baselines.GMP(target="params=90%"), frozen())
        model = frozen()
        method = methods.Sphere(sparsity=0)
        Pruner(model, LpSGD(method.param_groups(model), lr=0.1), method, INPUTS, steps=10)
    assert not caught


def test_an_optimizer_that_no_removal_can_cut_serves_masks_alone() -> None:
    model, method = mlp(), baselines.GMP(sparsity=0.5, remove_units=False)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.01)
    pruner = Pruner(model, optimizer, method, INPUTS, steps=10)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(torch.ones(2, 6)).square().sum()
        loss.backward()
        return loss

    for _ in range(10):
        optimizer.step(closure)
        pruner.step()
    lean = pruner.finish()
    weights = [module.weight for module in lean.modules() if isinstance(module, nn.Linear)]
    assert sum(int((weight != 0).sum()) for weight in weights) <= 0.5 * sum(weight.numel() for weight in weights)
    with pytest.raises(StructureError, match="LBFGS keeps one flat history"):
        Pruner(lean, torch.optim.LBFGS(lean.parameters()), baselines.GMP(sparsity=0.5), INPUTS, steps=10)
