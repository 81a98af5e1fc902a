"""One network spread over two processes: what leaves and what stays is bitwise what it is with replicas and with one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distributed.pair import TESTS, environment, results

Told = dict[str, list[Any]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What both ranks have seen, by scenario and rank."""
    return results("distributed.sharded_scenarios fast", tmp_path_factory.mktemp("sharded"), seconds=400)


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The rest of the scenarios."""
    return results("distributed.sharded_scenarios slow", tmp_path_factory.mktemp("sharded"), seconds=600)


def is_twin(sharded: list[Any], replicas: list[Any]) -> bool:
    """Units, whole weights, optimizer state and options, running statistics and gates after every removal; the widths at the end."""
    return len(sharded[0]) >= 2 and sharded == replicas


def check_twins(ranks: list[Any]) -> None:
    for rank in ranks:
        for sharded, replicas, same in rank.values():
            assert is_twin(sharded, replicas)
            assert same, "the whole network on rank 0 is the replicas' network"


def test_sharded_runs_are_bitwise_those_of_replicas(told: Told) -> None:
    """With two ranks a sum of two gradients has no order, so that reduce-scatter and all-reduce agree to the last bit."""
    check_twins(told["twins"])
    sharded, replicas, _ = told["twins"][0]["adam"]
    replicas[0][0][2][1] += 1
    assert not is_twin(sharded, replicas), "one digest of an optimizer's state shows"


def test_so_they_are_with_other_optimizers_a_transformer_ties_norms_and_blocks(more: Told) -> None:
    check_twins(more["twins"])
    assert {"amsgrad", "momentum", "inputs", "a transformer, with blocks"} == set(more["twins"][0])


def test_a_removal_is_what_one_process_cuts_out_of_the_whole(more: Told) -> None:
    """Weights, gradients and Adam's state, bitwise; ties and a normalised weight among them."""
    for groups, same, other_units in more["one process"]:
        assert groups
        assert all(same.values()), same
        assert not all(other_units.values()), "as many other units are seen not to be these"


def test_training_is_that_of_one_process_on_all_rows(more: Told) -> None:
    """In float64; the mean over ranks of means over rows rounds otherwise than one mean, and 16 steps carry that on."""
    for difference, widths, own in more["alone"]:
        assert difference < 1e-11
        assert widths == own
        assert min(widths.values()) < 8


def test_training_goes_on_with_live_state(told: Told) -> None:
    for removals, moved, steps, kept_object, void, held in told["lives"]:
        assert removals >= 2
        assert all(moved.values()), moved
        assert steps == [8.0], "Adam has counted on across removals"
        assert not kept_object
        assert "meta" in void, "the network of before has no values"
        assert held, "the optimizer holds the new parameters and no others"


def test_a_full_checkpoint_goes_on_bitwise_and_is_one_of_a_plain_network(told: Told) -> None:
    for straight, resumed, removals, *broken in told["checkpoint"]:
        assert straight == resumed
        assert removals
        assert broken == ["", ""], "what was saved whole, and what one process makes of the checkpoint, compute the same"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("state", "the method's state"),
        ("decision", "the masks of what stays"),
        ("end", "the end of all decisions"),
        ("none", "the masks of what stays"),
        ("rate", "the optimizer's state"),
    ],
)
def test_a_rank_that_differs_is_refused_on_all(told: Told, fault: str, words: str) -> None:
    for rank in told["planted"]:
        kind, message = rank[fault]
        assert kind == "ReplicaError"
        assert words in message
        assert "of rank 1 and rank 0" in message


def test_running_statistics_are_those_of_rank_0_after_a_removal(more: Told) -> None:
    first, second = more["buffers"]
    assert first == second
    assert first[2]


@pytest.mark.parametrize(
    ("case", "kind", "words"),
    [
        ("no values", "UsageError", "Sharded: fc1.weight has no values yet"),
        ("sharded before", "UsageError", "is sharded over processes already"),
        ("sharded, to a pruner", "UsageError", "parsinet.distributed.Sharded(net, shard)"),
        ("a part", "UsageError", "shard leaves fc2.weight whole on every process"),
        ("whole weights", "UsageError", "magnitude-units works on whole weights"),
        ("a fold", "UsageError", "a fold runs the whole network"),
        ("a latency", "UsageError", "Give the target in macs"),
        ("an unknown group", "StructureError", "There is no group 'fc9'"),
        ("the loop", "UsageError", "fit: a sharded network"),
    ],
)
def test_what_cannot_be_is_refused_on_every_rank(more: Told, case: str, kind: str, words: str) -> None:
    for rank in more["refused"]:
        assert rank[case][0] == kind
        assert words in rank[case][1]


def test_the_example_is_saved_and_goes_on_with_one_process(tmp_path: Path) -> None:
    example = TESTS.parent / "examples" / "sharded.py"
    for processes, epochs in ((2, 2), (1, 3)):
        elastic = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--rdzv-backend", "c10d"]
        command = [sys.executable, *elastic, "--rdzv-endpoint", "127.0.0.1:0", str(example), "--epochs", str(epochs)]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), timeout=300, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"{processes} processes" in done.stdout
    assert "epoch 3" in done.stdout
    assert "epoch 2" not in done.stdout, "what was saved is gone on from"
    assert (tmp_path / "lean" / "structure.json").is_file()
