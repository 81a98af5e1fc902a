"""Two processes, one network: the same units leave, replicas stay bitwise equal, and what comes apart is refused on every rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from distributed.pair import results

Told = dict[str, list[Any]]


def test_replicas_are_bitwise_equal_after_every_removal(told: Told) -> None:
    """Digests of weights, running statistics, optimizer and method at each of several removals, and what is left."""
    first, second = told["removals"]
    assert first == second
    assert len(first["seen"]) >= 2
    assert first["settled"]
    assert all(units < 12 for units in first["widths"].values())
    assert not any(key.startswith("module.") for key in first["keys"])


def test_followers_stay_bitwise_equal_too(told: Told) -> None:
    """Folded by running statistics that are rank 0's; those that begin from other weights are refused."""
    first, second = told["followed"]
    assert first["average"] == second["average"]
    assert all(units < 20 for units in first["widths"].values())
    assert all("the followers' weights" in " ".join(rank["apart"]) for rank in (first, second))


def test_each_rank_draws_gates_of_its_own_from_one_shared_state(told: Told) -> None:
    (gates, state), (others, same) = told["draws"]
    assert gates != others
    assert set(gates) | set(others) == {0.0, 1.0}
    assert state == same


def test_means_over_ranks_are_what_one_process_learns_from_all_rows(told: Told) -> None:
    """Estimates, exact flips and gradients with the same gates; relative differences in float64, but flips compare losses in float32."""
    for estimates, flips, gradients in told["means"]:
        assert max(estimates, gradients) < 1e-12
        assert flips < 1e-4


def off(samples: list[list[float]], expected: list[float]) -> float:
    """By how many standard errors the mean of the samples misses its expectation, the worst unit."""
    rows = torch.tensor(samples, dtype=torch.float64)
    return float(((rows.mean(0) - torch.tensor(expected, dtype=torch.float64)).abs() / (rows.std(0) / len(rows) ** 0.5)).max())


@pytest.mark.parametrize("estimator", ["curvature", "flips"])
def test_each_rank_its_own_sample_and_one_mean_expects_what_one_process_expects(told: Told, estimator: str) -> None:
    """E over both ranks' draws, by enumeration, in float64; flips compare losses in float32. Exact flips are unbiased for ∂E[C]/∂θ."""
    for rank in told["unbiased"]:
        pairs, single = (torch.tensor(row, dtype=torch.float64) for row in rank[estimator])
        tolerance = 1e-12 if estimator == "curvature" else 1e-6
        assert float((pairs - single).abs().max()) < tolerance
        assert float((2 * pairs - single).abs().max()) > 100 * tolerance, "a sum in the place of the mean shows"


def test_drawn_estimates_scatter_around_that_expectation_and_less_than_with_one_draw(told: Told) -> None:
    """Within 4.5 standard errors; one that is off by half a deviation is seen. Two draws scatter less than one that both share."""
    first, second = told["unbiased"]
    assert first["drawn"] == second["drawn"], "the mean is bitwise the same everywhere"
    drawn, expected = first["drawn"], first["curvature"][1]
    assert off(drawn, expected) < 4.5
    spread = torch.tensor(drawn).std(0)
    assert off(drawn, [value + 0.5 * float(by) for value, by in zip(expected, spread, strict=True)]) > 4.5
    assert bool((spread < 0.9 * torch.tensor(first["one draw"]).std(0)).all())


def test_resume_from_the_state_of_rank_0_is_bitwise(told: Told) -> None:
    first, second = told["resume"]
    assert first == second
    straight, resumed, removals = first
    assert straight == resumed
    assert removals


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("weights", "the weights"),
        ("state", "the method's state"),
        ("decision", "the masks of what stays"),
        ("end", "the end of all decisions"),
        ("none", "the masks of what stays"),
    ],
)
def test_a_rank_that_differs_is_refused_on_all(told: Told, fault: str, words: str) -> None:
    for rank in told["planted"]:
        kind, message = rank[fault]
        assert kind == "ReplicaError"
        assert words in message
        assert "of rank 1 and rank 0" in message


@pytest.mark.parametrize(
    ("case", "kind", "words"),
    [
        ("bare", "UsageError", "Replicas(net)"),
        ("wrapped", "UsageError", "DistributedDataParallel cannot follow a removal"),
        ("wrapped twice", "UsageError", "DistributedDataParallel cannot follow a removal"),
        ("seeds", "ReplicaError", "differ at the start: the method's state of rank 1"),
        ("other weights", "", ""),
    ],
)
def test_what_cannot_be_trained_together_is_refused_at_the_start(told: Told, case: str, kind: str, words: str) -> None:
    """Weights drawn with another seed are no fault: the first wrapping takes those of rank 0."""
    for rank in told["refused"]:
        assert rank[case][0] == kind
        assert words in rank[case][1]


def test_phases_without_a_removal_and_a_metric_that_differs(told: Told) -> None:
    """Parameters that a method freezes and releases; of the metric the mean counts."""
    first, second = told["phases"]
    assert first == second


@pytest.mark.parametrize("method", ["rigl", "l0"])
def test_masks_and_trained_factors_stay_the_same(told: Told, method: str) -> None:
    first, second = (rank[method] for rank in told["methods"])
    assert first == second
    assert first[3] == 0, "hidden weights stay zero"


@pytest.mark.slow
def test_every_method_and_sharded_parameters(tmp_path: Path) -> None:
    told = results("distributed.scenarios slow", tmp_path, seconds=600)
    first, second = told["methods"]
    assert first == second
    assert not any(hidden for *_, hidden in first.values())
    for kind, message in told["sharded"]:
        assert kind == "UsageError"
        assert "FSDP" in message
