"""The protocol of suites objects to whoever trains more, on other batches, or with the test split in view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from parsinet import data
from parsinet.bench import Suite, jobs, running, workers
from parsinet.bench.protocol import strangers
from parsinet.bench.trainings import ordinary, trained
from parsinet.bench.watch import Watch, fingerprints
from parsinet.data import Batches
from parsinet.errors import RunError
from parsinet.training.assembly import Assembly
from parsinet.training.loop import fit
from parsinet.training.state import Callback, LoopState


@pytest.fixture
def job(suite: Suite) -> jobs.Job:
    return jobs.trials(suite, ["dense"])[0]


class Extra(Callback):
    """Takes a second step on every batch."""

    def on_step(self, state: LoopState) -> None:
        for parameter in state.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        state.optimizer.step()


def more_epochs(parts: Assembly, watch: Watch) -> nn.Module:
    fit(parts.model, parts.optimizer, parts.batches, epochs=3, pruner=parts.pruner, callbacks=[watch])
    return parts.pruner.finish()


def more_steps(parts: Assembly, watch: Watch) -> nn.Module:
    fit(parts.model, parts.optimizer, parts.batches, epochs=2, pruner=parts.pruner, callbacks=[watch, Extra()])
    return parts.pruner.finish()


def with_an_optimizer_of_its_own(parts: Assembly, watch: Watch) -> nn.Module:
    class Own(Callback):
        def on_epoch(self, state: LoopState, result: Any) -> None:
            other = torch.optim.SGD(state.model.parameters(), lr=0.01)
            state.model(parts.dataset.train.inputs[:5]).sum().backward()
            other.step()
            other.zero_grad()

    fit(parts.model, parts.optimizer, parts.batches, epochs=2, pruner=parts.pruner, callbacks=[watch, Own()])
    return parts.pruner.finish()


def peeks(parts: Assembly, watch: Watch) -> nn.Module:
    class Peek(Callback):
        def on_epoch(self, state: LoopState, result: Any) -> None:
            state.model.eval()
            state.model(data.load("digits", validation=0.2, seed=parts.recipe.data.split_seed).test.inputs[:7])
            state.model.train()

    fit(parts.model, parts.optimizer, parts.batches, epochs=2, pruner=parts.pruner, callbacks=[watch, Peek()])
    return parts.pruner.finish()


def other_batches(parts: Assembly, watch: Watch) -> nn.Module:
    batches = Batches(parts.dataset.train, 256, seed=parts.recipe.seed + 1)
    fit(parts.model, parts.optimizer, batches, epochs=2, pruner=parts.pruner, callbacks=[watch])
    return parts.pruner.finish()


def test_an_honest_training_passes(job: jobs.Job) -> None:
    told = trained(job)["protocol"]
    assert (told["steps"], told["examples"], told["met"]) == (told["allowed_steps"], told["allowed_examples"], 0)


@pytest.mark.parametrize(
    ("cheat", "words"),
    [
        (more_epochs, "took 15 optimizer steps, 10 are allowed; it trained on"),
        (more_steps, "took 20 optimizer steps, 10 are allowed"),
        (with_an_optimizer_of_its_own, "took 12 optimizer steps, 10 are allowed"),
        (peeks, "met 14 examples of the test split before its end"),
    ],
)
def test_the_protocol_objects(cheat: Callable[[Assembly, Watch], nn.Module], words: str, job: jobs.Job) -> None:
    with pytest.raises(RunError, match="broke the protocol") as caught:
        trained(job, cheat)
    assert words in str(caught.value)


def test_the_test_split_is_out_of_reach_while_a_row_trains(job: jobs.Job) -> None:
    def looks(parts: Assembly, watch: Watch) -> nn.Module:
        assert parts.dataset.test.inputs is parts.dataset.train.inputs
        return ordinary(parts, watch)

    trained(job, looks)


def test_other_batches_are_noticed_beside_the_other_rows(job: jobs.Job) -> None:
    honest, cheat = trained(job), trained(job, other_batches)
    assert strangers([honest, honest]) == []
    assert [event for event, words in strangers([honest, honest, cheat]) if "saw other batches" in words] == [cheat]


def test_a_row_with_other_batches_does_not_enter_the_records(suite: Suite, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def results(waiting: list[jobs.Job], count: int) -> Any:
        for place, job in enumerate(waiting):
            event = trained(job, other_batches if place == 1 else None) if place < 2 else trained(job)
            yield event

    monkeypatch.setattr(workers, "results", results)
    with pytest.raises(RunError, match="One training failed, the first: Row 'dense' broke the protocol"):
        running.run(suite, tmp_path, only=["dense"])
    events = running.stored(tmp_path)
    assert [event["event"] for event in events] == ["trial", "failed"]
    assert "saw other batches" in events[1]["reason"]
    assert "broke the protocol" in (tmp_path / "report.md").read_text() or not jobs.finals(suite, ["dense"], [0], events)


def test_fingerprints_tell_examples_apart_and_know_them_again() -> None:
    inputs = torch.randn(50, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    found = fingerprints(inputs)
    assert len(found.unique()) == 50
    assert torch.equal(fingerprints(inputs[10:20].clone()), found[10:20])
    assert torch.equal(fingerprints(torch.arange(12).view(3, 4)), fingerprints(torch.arange(12).view(3, 4).double()))
    nudged = inputs.clone()
    nudged[3, 0, 0, 0] += 1e-6
    assert (fingerprints(nudged) != found).tolist() == [place == 3 for place in range(50)]
