"""The spectral method: phases, exact shares, what leaves and what moves, resume, refusals."""

from __future__ import annotations

import copy
import re
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from methods import runs
from methods.runs import BEGINNINGS, check_resume, same
from methods.toys import network, points
from parsinet.errors import ParsinetError, ParsinetWarning, StructureError, UsageError
from parsinet.methods import Pruner, Spectral, SpectralSparse
from parsinet.methods.guided import largest_share
from parsinet.methods.nodes import node_scores
from parsinet.methods.phases import Phases
from parsinet.methods.ranking import keep_best
from parsinet.spectral import SpectralLayer, relevance, spectral_layers, spectralize
from parsinet.structure import silence, trace

STEPS = 30


class Run(runs.Run):
    """A short run of the method on the ring problem."""

    def __init__(self, model: nn.Module | None = None, **options: Any) -> None:
        optimizer = partial(torch.optim.Adam, lr=0.01, weight_decay=1e-4)
        often = {"interval": 3} if options.get("schedule", "continuous") == "continuous" else {}
        super().__init__(model or network(batch_norm=True), Spectral(**{**often, **options}), optimizer, points(4)[0], steps=STEPS)


def bases(model: nn.Module) -> list[Tensor]:
    return [layer.spectrum.basis.phi.detach().clone() for layer in spectral_layers(model).values()]  # type: ignore[operator]


@pytest.mark.parametrize("schedule", ["post", "pre", "distilled", "continuous"])
def test_the_share_is_met_and_plain_layers_remain(schedule: str) -> None:
    run = Run(share=0.5, schedule=schedule)
    run.advance()
    assert run.pruner.settled == (schedule != "post")
    before = run.pruner.widths()
    x = points(seed=99)[0]
    lean = run.pruner.finish()
    assert run.pruner.widths() == {"fc1": 6, "fc2": 4}
    assert before == ({"fc1": 12, "fc2": 8} if schedule == "post" else {"fc1": 6, "fc2": 4})
    assert [type(module) for module in (lean.fc1, lean.fc2, lean.out)] == [nn.Linear] * 3  # type: ignore[union-attr]
    assert lean(x).shape == (64, 2)
    assert not any(isinstance(module, SpectralLayer) for module in lean.modules())


def test_continuous_removal_follows_the_cubic_schedule() -> None:
    run = Run(share=0.75, schedule="continuous", begin=0.0, end=1.0, interval=1)
    for k in range(STEPS):
        run.advance(k, k + 1)
        due = 0.75 * (1 - (1 - (k + 1) / STEPS) ** 3)
        gone = {name: size - run.pruner.widths()[name] for name, size in (("fc1", 12), ("fc2", 8))}
        assert gone == {"fc1": -int(-11 * due // 1), "fc2": -int(-7 * due // 1)}, k


def test_eigenvectors_stand_still_until_their_phase_and_stay_initial_in_what_is_left() -> None:
    run = Run(share=0.5, schedule="pre")
    start, eigenvalues = bases(run.model), run.model.fc2.spectrum.lambda_out.detach().clone()  # type: ignore[union-attr]
    run.advance(0, 14)
    assert same(bases(run.model), start)
    assert not torch.equal(run.model.fc2.spectrum.lambda_out, eigenvalues)  # type: ignore[union-attr]
    masked = copy.deepcopy(run.model)
    structure = trace(masked, points(4)[0])
    run.advance(14, 15)
    kept = [torch.tensor(run.pruner.units(group)) for group in run.pruner.widths()]
    assert torch.equal(run.model.fc2.spectrum.basis.phi, start[1][kept[1]][:, kept[0]])  # type: ignore[union-attr]
    run.advance(15, 16)
    assert not torch.equal(run.model.fc2.spectrum.basis.phi, start[1][kept[1]][:, kept[0]])  # type: ignore[union-attr]
    assert structure.groups[0].size == 12


def test_removal_equals_silence_of_the_units_of_least_relevance() -> None:
    run = Run(share=0.5, schedule="post")
    run.advance()
    model = copy.deepcopy(run.model).double().eval()
    structure = trace(model, points(4)[0].double())
    scores = node_scores(model, structure, "relevance")
    expected = {name: relevance(layer) for name, layer in spectral_layers(model).items() if name != "out"}
    assert all(torch.allclose(scores[name], row) for name, row in expected.items())
    x = points(seed=5)[0].double()
    with silence(model, structure.plan(keep_best(scores, {"fc1": 12, "fc2": 8}, 0.5))):
        silent = model(x)
    run.model.double()
    assert torch.allclose(run.pruner.finish().eval()(x), silent, atol=1e-10, rtol=0)


@BEGINNINGS
@pytest.mark.parametrize("schedule", ["pre", "continuous"])
def test_resume_is_bitwise(schedule: str, begin: str) -> None:
    check_resume(lambda: Run(share=0.6, schedule=schedule), begin)


@pytest.mark.parametrize("score", ["relevance", "outgoing", "both"])
def test_scores_do_not_depend_on_the_gauge(score: str) -> None:
    model = spectralize(network(), "two-set").double()
    structure = trace(model, points(4)[0].double())
    before = node_scores(model, structure, score)
    with torch.no_grad():
        for layer in spectral_layers(model).values():
            layer.spectrum.lambda_in.mul_(3).add_(2)
            layer.spectrum.lambda_out.mul_(3).add_(2)
            layer.spectrum.basis.phi.div_(3)  # type: ignore[operator, union-attr]
    after = node_scores(model, structure, score)
    assert all(torch.allclose(after[name], row, rtol=1e-12) for name, row in before.items())


def test_both_ignores_how_a_rectified_unit_shares_its_scale_with_its_readers() -> None:
    model = spectralize(network(), "full").double()
    structure = trace(model, points(4)[0].double())
    before = node_scores(model, structure, "both")["fc1"]
    with torch.no_grad():
        model.fc1.spectrum.basis.phi[3].mul_(7)  # type: ignore[union-attr]
        model.fc2.spectrum.basis.phi[:, 3].div_(7)  # type: ignore[union-attr]
    assert torch.allclose(node_scores(model, structure, "both")["fc1"], before, rtol=1e-12)


def test_a_global_threshold_takes_from_the_low_layer_only_and_never_the_output() -> None:
    scores = {"a": torch.arange(1.0, 9.0), "b": torch.arange(101.0, 105.0)}
    masks = keep_best(scores, {"a": 8, "b": 4}, 0.5, scope="global")
    assert masks["a"].sum() == 2
    assert masks["b"].all()
    assert keep_best(scores, {"a": 8, "b": 4}, 0.9, scope="global", min_units=3)["a"].tolist() == [False] * 5 + [True] * 3
    run = Run(share=0.5, schedule="post", scope="global")
    assert "out" not in run.pruner.widths()


def test_thresholds_are_strict_and_equal_scores_stay_together() -> None:
    scores, original = {"a": torch.tensor([1.0, 2.0, 2.0, 3.0])}, {"a": 4}
    assert keep_best(scores, original, 0.0)["a"].all()
    assert keep_best(scores, original, 0.5)["a"].tolist() == [False, True, True, True]
    assert keep_best(scores, original, 1.0)["a"].tolist() == [False, False, False, True]
    assert keep_best({"a": torch.tensor([2.0, 3.0])}, original, 0.5)["a"].tolist() == [True, True], "two are gone already"


@pytest.mark.parametrize(("step", "expected"), [(0.01, 0.3), (0.05, 0.3), (0.07, 0.28)])
def test_the_guided_search_returns_the_last_share_that_held(step: float, expected: float) -> None:
    model = spectralize(network(), "full")
    structure = trace(model, points(4)[0])
    before, asked = copy.deepcopy(model.state_dict()), []

    def masks(share: float) -> dict[str, Tensor]:
        asked.append(share)
        return {"fc1": torch.arange(12) >= 0}

    found = largest_share("Spectral", model, structure, masks, lambda: 1.0 if not asked or asked[-1] <= 0.301 else 0.9, 0.05, step=step)
    assert found.share == pytest.approx(expected)
    assert same(dict(model.state_dict()), dict(before))
    asked.clear()
    assert largest_share("Spectral", model, structure, masks, lambda: 1.0, 0.05, step=step).share == 1.0
    values = iter([1.0, 1.0, float("nan")])
    assert largest_share("Spectral", model, structure, masks, lambda: next(values), 0.05, step=step).share == pytest.approx(step)


def test_the_metric_limits_the_last_removal() -> None:
    seen: list[float] = []

    def metric() -> float:
        with torch.no_grad():
            x, y = points(256, seed=7)
            seen.append(float((run.model.eval()(x).argmax(1) == y).float().mean()))
            run.model.train()
        return seen[-1]

    run = Run(share=1.0, schedule="post", metric=metric, max_fall=0.25)
    run.advance()
    run.pruner.finish()
    assert len(seen) > 2
    assert (seen[0] - metric()) / seen[0] <= 0.25 + 1e-6
    told = run.method.describe()
    assert 0 < told["share"] < 1
    assert told["metric"] == {"whole": seen[0], "left": seen[-3]}


def test_the_lasso_and_the_decays_reach_what_they_name() -> None:
    run = Run(share=0.5, eigenvalue_lasso=0.1, eigenvalue_decay=0.2, basis_decay=0.3, eigenvalue_lr=0.5)
    eigenvalues = [layer.spectrum.lambda_out for layer in spectral_layers(run.model).values()]
    assert run.pruner.penalty().item() == pytest.approx(0.1 * sum(values.abs().sum().item() for values in eigenvalues))
    groups = run.optimizer.param_groups
    assert {id(p) for p in groups[0]["params"]} == {id(values) for values in eigenvalues}
    assert [(group["weight_decay"], group["lr"]) for group in groups] == [(0.2, 0.5), (0.3, 0.01), (0.0, 0.01)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "before"}, "no schedule 'before'"),
        ({"score": "magnitude"}, "no score 'magnitude'"),
        ({"variant": "three-set"}, "no variant 'three-set'"),
        ({"scope": "all"}, "no scope 'all'"),
        ({"share": 1.5}, "share is a part of the units"),
        ({"share": {"fc1": 0.5}}, "share is one number for all groups"),
        ({"share": -0.1}, "must be ≥ 0 and ≤ 1, got -0.1"),
        ({"begin": 0.5, "end": 0.2}, "end must not be below begin"),
        ({"eigenvalues": 2.0}, "eigenvalues is a share of the run"),
        ({"min_units": 0}, "min_units must be a whole number"),
        ({"max_fall": 0.1, "schedule": "post"}, "max_fall needs a metric"),
        ({"metric": lambda: 1.0}, "only together with max_fall"),
        ({"max_fall": 0.1, "metric": lambda: 1.0}, "max_fall judges one removal"),
        ({"groups": []}, "groups names no group"),
        ({"variant": "one-set-in", "score": "eigenvalue"}, "'one-set-in' trains what sends"),
        ({"eigenvalue_lasso": float("nan")}, "eigenvalue_lasso must be ≥ 0"),
        ({"variant": "two-set", "schedule": "pre"}, "nothing left to train after the first phase"),
        (
            {"variant": "two-set", "score": "eigenvalue"},
            "'two-set' trains both. Take score='relevance', or a variant of one set",
        ),
        ({"target": "latency=2ms"}, "latency=2ms has to be timed; give macs"),
        ({"variant": "two-set", "basis_decay": 0.1}, "basis_decay has nothing to act on"),
        ({"schedule": "post", "interval": 3}, "all nodes leave at once here"),
        ({"eigenvalues": 0.3}, "nodes would leave at begin=0.1, while eigenvalues train alone, until 0.3"),
        ({"groups": ["out"]}, "'out' cannot shrink"),
    ],
)
def test_bad_options_are_refused_in_words(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParsinetError, match=message):
        Run(**options)


@pytest.mark.parametrize("given", ["eigenvalues", "begin", "end"])
def test_what_is_one_moment_of_a_schedule_moves_together(given: str) -> None:
    assert Spectral(schedule="pre", **{given: 0.8}).phases == Phases(0.8, 0.8, 0.8)  # type: ignore[arg-type]
    assert Spectral(schedule="distilled", eigenvalues=0.1, begin=0.4).phases == Phases(0.1, 0.4, 0.4)
    assert Spectral(schedule="post", begin=0.7).phases == Phases(0.0, 0.7, 0.7)


def test_groups_within_factors_are_none_of_the_finished_network() -> None:
    model = network()
    method = SpectralSparse(scope="layer")
    method.prepare(model)
    pruner = Pruner(model, torch.optim.SGD(method.param_groups(model), lr=0.01), method, points(4)[0], steps=10)
    inner = [name for name in pruner.widths() if "spectrum" in name]
    assert inner
    pruner.finish()
    assert pruner.widths()
    assert not set(inner) & set(pruner.widths())


def test_phases_without_a_length_of_the_run_are_refused() -> None:
    model, method = network(), Spectral(schedule="pre")
    method.prepare(model)
    optimizer = torch.optim.Adam(method.param_groups(model))
    with pytest.raises(UsageError, match="steps=N"):
        Pruner(model, optimizer, method, points(4)[0])


@pytest.mark.parametrize("method", [Spectral, SpectralSparse])
def test_frozen_layers_stay_plain_unless_they_are_named(method: type[Spectral] | type[SpectralSparse]) -> None:
    model = network()
    model.fc1.weight.requires_grad_(False)
    before = model.fc1.weight
    method().prepare(model)
    assert set(spectral_layers(model)) == {"fc2", "out"}
    assert model.fc1.weight is before
    named = network()
    named.fc1.weight.requires_grad_(False)
    method(layers=["fc1"]).prepare(named)
    assert set(spectral_layers(named)) == {"fc1"}
    with pytest.raises(UsageError, match="Every layer that could become spectral is frozen"):
        method().prepare(network().requires_grad_(False))


@pytest.mark.parametrize("method", [Spectral, SpectralSparse])
def test_parametrized_layers_stay_as_they_are_and_are_named(method: type[Spectral] | type[SpectralSparse]) -> None:
    model = network()
    weight_norm(model.fc1)
    with pytest.warns(ParsinetWarning, match="fc1 does not become spectral, because something computes the weight"):
        method().prepare(model)
    assert set(spectral_layers(model)) == {"fc2", "out"}
    named = network()
    weight_norm(named.fc1)
    method(layers=["fc2"]).prepare(named)


@pytest.mark.parametrize(("score", "layer", "words"), [("relevance", "out", "makes"), ("outgoing", "fc1", "reads")])
def test_groups_without_a_spectral_layer_are_named_with_the_methods_that_take_them(score: str, layer: str, words: str) -> None:
    model, method = network(), Spectral(0.5, layers=[layer], score=score)
    method.prepare(model)
    optimizer = torch.optim.Adam(method.param_groups(model))
    why = f"no spectral layer {words} its units; other methods remove them, such as Gates and MagnitudeUnits"
    told = f"no group of this network can lose units. Left out: fc1, fc2 ({why}), out (it is part of the model's output). Give share=0"
    with pytest.raises(UsageError, match=re.escape(told)):
        Pruner(model, optimizer, method, points(4)[0], steps=STEPS)


def test_a_model_that_was_not_prepared_is_refused() -> None:
    model = network()
    with pytest.raises(UsageError, match="call method"):
        Pruner(model, torch.optim.Adam(model.parameters()), Spectral(schedule="post"), points(4)[0])


def test_unknown_groups_are_refused_with_the_nearest() -> None:
    with pytest.raises(StructureError, match="Did you mean 'fc2'"):
        Run(groups=["fc22"])
