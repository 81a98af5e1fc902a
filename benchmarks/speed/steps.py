"""What a training step costs with each method: beside the bare loop, before units leave and after.

    python benchmarks/speed/steps.py [--rounds 15] [--threads 1 2] [--only resnet] [--again]
    python benchmarks/speed/steps.py --table

Four loops take turns for every method: the bare loop and the method on the whole network, the bare loop and the method on the lean one,
from which the pruner has removed units (lean.py). The bare loop: forward, loss, backward, optimizer, zero_grad; the same network, batch
and optimizer. With a method: its layers, hooks and penalty, and `pruner.step` with a closure. Random batches, a run of 10,000 steps of
which the first are taken: masks move where they are due, no unit leaves by itself. Ratios are those of one turn after the other;
a removal itself is not in them (engine.py). Each network and number of threads is a process of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

import torch
from lean import NETWORKS, Network, kept, shrunk
from protocol import THREADS, Benchmark, Row, Work, main, markdown, ratios, shown, spread, take_turns
from torch import Tensor, nn
from torch.nn import functional

import parsinet as pn
from parsinet import baselines, methods
from parsinet.methods import Method
from parsinet.sphere import LpSGD

STEPS, SHORT, EXAMPLES, POOL = 10_000, 20, 60_000, 16
NEVER = 10**9
RATE = 1e-4
Batch = tuple[Tensor, Tensor]
Optimizer = torch.optim.Optimizer


def adam(groups: Any) -> Optimizer:
    return torch.optim.Adam(groups, lr=RATE, fused=True)


def sgd(groups: Any) -> Optimizer:
    return torch.optim.SGD(groups, lr=RATE, momentum=0.9, nesterov=True, fused=True)


def lpsgd(groups: Any) -> Optimizer:
    return LpSGD(groups, lr=RATE, nesterov=True)


def untied(model: nn.Module) -> list[str]:
    """Layers whose weight is theirs alone, which spectral forms exist for."""
    shared = [id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)]
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    return [name for name, layer in layers.items() if id(layer.weight) not in shared]


@dataclass(frozen=True)
class Loop:
    """A method with the optimizer it trains under, and that of the bare loop beside it.

    masks: units leave once masks over weights are final, so that lean networks are timed behind the last exchange.
    """

    method: Callable[[nn.Module], Method]
    optimizer: Callable[[Any], Optimizer] = adam
    bare: Callable[[Any], Optimizer] = adam
    masks: bool = False


LOOPS = {
    "gates": Loop(lambda model: methods.Gates(fall_steps=NEVER)),
    "gates, deciding": Loop(lambda model: methods.Gates(fall_steps=NEVER, interval=NEVER, gated=1.0, deciding=1.0)),
    "spectral": Loop(lambda model: methods.Spectral(0.5, layers=untied(model))),
    "spectral-sparse": Loop(lambda model: methods.SpectralSparse(0.9, schedule="constant", layers=untied(model))),
    "sphere": Loop(lambda model: methods.Sphere(0.9, begin=0.0, remove_units=False), lpsgd, sgd, masks=True),
    "gmp": Loop(lambda model: baselines.GMP(sparsity=0.9, begin=0.0, remove_units=False), masks=True),
    "set": Loop(lambda model: baselines.SET(sparsity=0.9, remove_units=False), masks=True),
    "rigl": Loop(lambda model: baselines.RigL(sparsity=0.9, remove_units=False), masks=True),
    "l0": Loop(lambda model: baselines.L0()),
    "vib": Loop(lambda model: baselines.VIB()),
    "sbp": Loop(lambda model: baselines.SBP()),
    "group-lasso": Loop(lambda model: baselines.GroupLasso(lam=1e-9)),
    "magnitude-units": Loop(lambda model: baselines.MagnitudeUnits()),
}


def measure(case: Row, rounds: int) -> list[Row]:
    """Every method on one network."""
    network = NETWORKS[case["network"]]
    whole = network.build(case["network"])
    lean = shrunk(copy.deepcopy(whole), network.examples(2))
    pool = [(network.examples(network.batch), network.targets(network.batch)) for _ in range(POOL)]
    return [{"method": name, **_loop(loop, whole, lean, network, pool, rounds)} for name, loop in LOOPS.items()]


def _loop(loop: Loop, whole: nn.Module, lean: nn.Module, network: Network, pool: list[Batch], rounds: int) -> Row:
    """Ratios of one method's steps to those of the bare loop."""
    parts = [
        ("bare", bare(copy.deepcopy(whole), loop, network, pool)),
        ("method", pruned(copy.deepcopy(whole), loop, network, pool)),
        ("bare lean", bare(copy.deepcopy(lean), loop, network, pool)),
        ("method lean", pruned(copy.deepcopy(whole), loop, network, pool, cut=True)),
    ]
    times = take_turns(parts, rounds)
    return {
        "before": ratios(times["method"], times["bare"]),
        "after": ratios(times["method lean"], times["bare lean"]),
        "after / whole": ratios(times["method lean"], times["bare"]),
        "lean / whole": ratios(times["bare lean"], times["bare"]),
        "milliseconds": {name: spread(1e3 * value / network.steps for value in values) for name, values in times.items()},
    }


def bare(model: nn.Module, loop: Loop, network: Network, pool: list[Batch]) -> Work:
    """The loop everyone writes."""
    optimizer, batches = loop.bare(model.parameters()), cycle(pool)

    def turn() -> None:
        for x, y in _some(batches, network):
            loss(model, x, y).backward()
            optimizer.step()
            optimizer.zero_grad()

    return turn


def pruned(model: nn.Module, loop: Loop, network: Network, pool: list[Batch], *, cut: bool = False) -> Work:
    """The same with the method at work; cut: after the pruner has removed units."""
    method, batches = loop.method(model), cycle(pool)
    method.prepare(model)
    optimizer = loop.optimizer(method.param_groups(model))
    steps = SHORT if cut and loop.masks else STEPS
    pruner = pn.Pruner(model, optimizer, method, network.examples(2), steps=steps, examples=EXAMPLES)

    def turn() -> None:
        for x, y in _some(batches, network):
            (loss(model, x, y) + pruner.penalty()).backward()
            optimizer.step()
            optimizer.zero_grad()
            removal = pruner.step(partial(loss, model, x, y))
            assert removal is None, f"{method.name} removed {removal} while its steps were timed"

    if cut:
        turn()
        while loop.masks and not method.settled:
            turn()
        _cut(pruner)
    return turn


def _cut(pruner: pn.Pruner) -> None:
    """Let the method name, once, the units of the lean network as those that stay."""
    alive = kept(pruner.structure)
    pruner.method.step = lambda: alive  # type: ignore[method-assign]
    removal = pruner.step(lambda: torch.zeros(()))
    del pruner.method.step
    assert removal is not None, "nothing was removed"


def _some(batches: Iterator[Batch], network: Network) -> list[Batch]:
    return [next(batches) for _ in range(network.steps)]


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(model(x).flatten(0, y.dim() - 1), y.flatten())


def tables(rows: Sequence[Row]) -> dict[str, str]:
    """One per network."""
    return {f"steps {name}": _table([row for row in rows if row["network"] == name]) for name in NETWORKS}


def _table(rows: Sequence[Row]) -> str:
    head = [f"{title}, {count} thread{'s' * (count > 1)}" for count in THREADS for title in ("before", "after", "after ÷ whole")]
    found = {(row["method"], row["threads"]): row for row in rows}
    body = [
        [name, *(shown(found.get((name, count), {}).get(key)) for count in THREADS for key in ("before", "after", "after / whole"))]
        for name in LOOPS
        if any(row["method"] == name for row in rows)
    ]
    return markdown(["method", *head], body)


BENCHMARK = Benchmark(
    name="steps",
    about=str(__doc__),
    rounds=15,
    cases=[{"network": name, "threads": threads} for name in NETWORKS for threads in THREADS],
    measure=measure,
    tables=tables,
)

if __name__ == "__main__":
    main(BENCHMARK)
