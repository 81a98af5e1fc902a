"""One training of a suite in this process: by the recipe, watched, measured, told as one event."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from parsinet import measure
from parsinet.bench.jobs import Job
from parsinet.bench.peers import PEERS
from parsinet.bench.protocol import ledger, objections
from parsinet.bench.suite import recipe_of
from parsinet.bench.watch import Watch, blind
from parsinet.data import Split
from parsinet.data.places import VARIABLE
from parsinet.errors import RunError
from parsinet.training import evaluate
from parsinet.training.assembly import Assembly, assemble
from parsinet.training.environment import commit, machine, torch_settings, versions
from parsinet.training.loop import fit
from parsinet.training.networks import build_model
from parsinet.training.random_state import seeded
from parsinet.training.schedule import learning_rate

Procedure = Callable[[Assembly, Watch], nn.Module]
"""From a training ready to start to the finished network, the watch among the callbacks."""
BATCHES = (1, 64)


def ordinary(parts: Assembly, watch: Watch) -> nn.Module:
    """Train by the recipe; the method does the rest."""
    recipe, steps, each = parts.recipe, parts.steps, parts.steps_per_epoch
    rate = partial(learning_rate, recipe.schedule, recipe.optimizer.lr, steps=steps, steps_per_epoch=each)
    fit(
        parts.model,
        parts.optimizer,
        parts.batches,
        epochs=recipe.epochs,
        pruner=parts.pruner,
        learning_rate=lambda step: rate(step=step),
        gradient_clip=recipe.gradient_clip,
        callbacks=[watch],
    )
    return parts.pruner.finish()


def trained(job: Job, procedure: Procedure | None = None) -> dict[str, Any]:
    """Run a job and tell its event: settings, protocol, costs, sizes, and the error on what its kind is judged by.

    procedure: how it trains; without one the settings say so. The test split is out of its reach until it is over.

    Errors: those of `assemble`; RunError if the training broke the protocol; MissingExtraError for a peer that is not installed.
    """
    recipe = recipe_of(located(job.settings), f"Row {job.row!r}")
    with torch_settings(threads=recipe.threads, deterministic=False), seeded(recipe.seed, torch.device("cpu")):
        parts = assemble(recipe, torch.device("cpu"))
        dataset, watch = parts.dataset, Watch(parts.dataset)
        try:
            lean = (procedure or _procedure(job))(replace(parts, dataset=blind(dataset)), watch)
        finally:
            watch.leave()
        told = ledger(watch, parts.steps, recipe.epochs * len(dataset.train))
        if found := objections(told):
            raise RunError(f"Row {job.row!r} broke the protocol: it {'; it '.join(found)}.")
        start = build_model(recipe_of(located({**job.settings, "model": job.start}), job.row), dataset, parts.device)
    judged = dataset.validation if job.kind == "trial" else dataset.test
    assert judged is not None
    return {
        "event": job.kind,
        "row": job.row,
        "strength": job.strength,
        "candidate": dict(job.candidate),
        "seed": job.seed,
        "settings": dict(job.settings),
        **_judged(lean, judged),
        **_sizes(lean, parts),
        "seconds": watch.seconds,
        "cpu_seconds": watch.cpu_seconds,
        "train_macs": watch.macs,
        **({} if job.kind == "trial" else {"speed": _speed(start, lean, parts)}),
        "protocol": told,
        "commit": commit(),
        "versions": versions(),
        "machine": machine(parts.device),
    }


def located(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose data file, where it is named relative to the folder of data sets, is found there."""
    data = dict(settings.get("data", {}))
    base, source = os.environ.get(VARIABLE), Path(str(data.get("source", "")))
    if base and source.suffix and not source.is_file() and (Path(base) / source).is_file():
        data["source"] = str(Path(base) / source)
    return {**settings, "data": data}


def _procedure(job: Job) -> Procedure:
    peer = dict(job.settings.get("peer", {}))
    return PEERS[peer.pop("name")].procedure(peer) if peer else ordinary


def _judged(lean: nn.Module, split: Split) -> dict[str, float]:
    found = evaluate(lean, split)
    return {"error": found.error, "loss": found.loss}


def _sizes(lean: nn.Module, parts: Assembly) -> dict[str, int]:
    profile = measure.profile(lean, parts.example_inputs, latency=False)
    return {"parameters": profile.parameters, "nonzeros": profile.nonzeros, "macs": profile.macs}


def _speed(start: nn.Module, lean: nn.Module, parts: Assembly) -> list[dict[str, float]]:
    """Medians of one forward pass in seconds, the common network's and the result's, timed in turn."""
    found = []
    for batch in BATCHES:
        inputs = measure.resize_batch(parts.example_inputs, batch)
        times = measure.compare_latency({"start": start, "lean": lean}, inputs, repeats=50, seconds=0.5)
        found.append({"batch": batch, "start": times["start"].median, "lean": times["lean"].median, "p95": times["lean"].p95})
    return found
