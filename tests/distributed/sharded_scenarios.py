"""What two processes go through with a network that is spread over both; every scenario returns what its rank has seen, as plain values."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed.fsdp  # once, before the processes part
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

import parsinet as pn
from distributed import pair
from distributed.scenarios import GATES, caught, decision_apart, end_apart, none_apart, own, state_apart
from methods.toys import bank, network, points
from parsinet.baselines import MagnitudeUnits, RandomUnits
from parsinet.distributed import Replicas, Sharded, digest, gathered
from parsinet.methods import Dense, Gates, Pruner
from parsinet.structure import shrink

STEPS = 20
FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
SPREAD = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.01, weight_decay=1e-4),
    "adamw, amsgrad": lambda groups: torch.optim.AdamW(groups, lr=0.01, amsgrad=True),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
}


class Letters(nn.Module):
    """A transformer whose embedding is its last layer too, and a weight that is normalised."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, dropout=0.0, norm_first=True)
        self.embedding = nn.Embedding(11, 16)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.wide = nn.utils.parametrizations.weight_norm(nn.Linear(16, 12))
        self.narrow, self.out = nn.Linear(12, 16), nn.Linear(16, 11, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.narrow(torch.relu(self.wide(self.layers(self.embedding(x))))))


def letters(seed: int = 0) -> tuple[Tensor, Tensor]:
    x = torch.randint(0, 11, (16, 6), generator=torch.Generator().manual_seed(seed))
    return x, x.roll(1, 1)


def letter_network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Letters()


def shard_moons(net: Any) -> None:
    fully_shard(net.fc1)
    fully_shard(net)


def shard_letters(net: Any) -> None:
    for layer in net.layers.layers:
        fully_shard(layer)
    fully_shard(net)


def wide_network() -> nn.Module:
    """Moons whose inputs have features that say nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = network()
        net.fc1 = nn.Linear(5, 12)
    return net


def wide_points(n: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    x, y = points(n, seed)
    return torch.cat([x, torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))], 1), y


MOONS = (lambda: network(batch_norm=True), points, shard_moons)
WIDE = (wide_network, wide_points, fully_shard)
LETTERS = (letter_network, letters, shard_letters)


class Run:
    """A loop of one's own with a sharded network, or with its replicas, on the same rows."""

    def __init__(self, rank: int, kind: str, method: Any, task: Any = MOONS, optimizer: str = "adam", steps: int = STEPS) -> None:
        build, self.batch, shard = task
        net = build()
        self.rank, self.kind = rank, kind
        method.prepare(net)
        self.model = {"sharded": lambda: Sharded(net, shard), "replicas": lambda: Replicas(net)}[kind]()
        self.optimizer = OPTIMIZERS[optimizer](method.param_groups(self.net))
        self.pruner = Pruner(self.model, self.optimizer, method, self.batch()[0][:2], steps=steps, examples=64)
        self.seen: list[Any] = []

    @property
    def net(self) -> nn.Module:
        return self.model.module

    def loss(self, k: int) -> Tensor:
        x, y = own(self.rank, self.batch(seed=k))
        return F.cross_entropy(self.model(x).flatten(0, -2), y.flatten()) + self.pruner.penalty()

    def advance(self, begin: int = 0, end: int = STEPS) -> Run:
        for k in range(begin, end):
            self.loss(k).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            removal = self.pruner.step(lambda k=k: self.loss(k))
            if removal is not None:
                self.seen.append([k, removal.groups, self.now()])
        return self

    def now(self) -> list[int]:
        """Digests of whole weights and optimizer state, of buffers (rank 0's are everybody's) and of the method."""
        self.model.align()
        with self.model.loosened():
            weights = {name: gathered(parameter.detach()) for name, parameter in self.net.named_parameters()}
            found = self.optimizer.state_dict()
            state = {k: {key: gathered(value) for key, value in entry.items()} for k, entry in found["state"].items()}
            parts = (weights, state, found["param_groups"], dict(self.net.named_buffers()), self.pruner.state_dict())
            return [digest(part) for part in parts]


def gates(**changes: Any) -> Gates:
    return Gates(**{**GATES, **changes})


CASES: dict[str, tuple[Any, Any, str]] = {
    "adam": (MOONS, gates, "adam"),
    "amsgrad": (MOONS, lambda: gates(price=None, cost_price=0.5), "adamw, amsgrad"),
    "momentum": (MOONS, gates, "sgd"),
    "inputs": (WIDE, lambda: gates(inputs=True), "adam"),
    "a transformer, with blocks": (LETTERS, lambda: gates(price=0.3, block_price=0.5, blocks=True, fall_steps=8), "adam"),
}


def twins(names: tuple[str, ...]) -> Callable[[int], Any]:
    """Sharded and as replicas: the same at every removal?"""

    def told(rank: int) -> Any:
        found = {}
        for name in names:
            task, method, optimizer = CASES[name]
            runs = [Run(rank, kind, method(), task, optimizer).advance() for kind in ("sharded", "replicas")]
            for run in runs:
                run.pruner.finish()
            lean = runs[0].model.whole()
            same = lean is None or digest(lean.state_dict()) == digest(runs[1].net.state_dict())
            found[name] = [*([run.seen, run.pruner.widths()] for run in runs), same]
        return found

    return told


def whole(run: Run) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A plain network, before anything has left, and its optimizer, on every rank, as the sharded ones are now."""
    weights, state = copy.deepcopy(get_state_dict(run.net, run.optimizer, options=StateDictOptions(full_state_dict=True)))
    net = letter_network()
    optimizer = torch.optim.Adam(run.pruner.method.param_groups(net), lr=0.01, weight_decay=1e-4)
    set_state_dict(net, optimizer, model_state_dict=weights, optim_state_dict=state)
    return net, optimizer


def one_process(rank: int) -> Any:
    """At one removal: is what remains, and its gradient and optimizer state, what one process cuts out of the whole?"""
    run = Run(rank, "sharded", RandomUnits(begin=0.5, end=0.5), LETTERS).advance(0, 9)
    net, optimizer = whole(run)
    run.loss(9).backward()
    run.model.reshard()
    for (_, twin), (_, parameter) in zip(net.named_parameters(), run.net.named_parameters(), strict=True):
        twin.grad = None if parameter.grad is None else gathered(parameter.grad).clone()
    run.optimizer.step()
    optimizer.step()
    structure, plans = run.pruner.structure, []
    method_step = run.pruner.method.step
    run.pruner.method.step = lambda: plans.append(method_step()) or plans[0]
    removal = run.pruner.step()
    wrong, wrong_optimizer = copy.deepcopy((net, optimizer))
    for twin, parameter in zip(wrong.parameters(), net.parameters(), strict=True):
        twin.grad = None if parameter.grad is None else parameter.grad.clone()
    shrink(net, structure.plan(plans[0]), optimizers=[optimizer])
    shrink(wrong, structure.plan({name: mask.flip(0) for name, mask in plans[0].items()}), optimizers=[wrong_optimizer])
    return [removal.groups, agreeing(run, net, optimizer), agreeing(run, wrong, wrong_optimizer)]


def agreeing(run: Run, net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, bool]:
    """Per parameter: is it with its gradient and optimizer state what the sharded run holds?"""
    ours, same = dict(run.net.named_parameters()), {}
    assert list(ours) == [name for name, _ in net.named_parameters()]
    for name, parameter in net.named_parameters():
        state, full = optimizer.state[parameter], run.optimizer.state[ours[name]]
        pairs = [(parameter, ours[name]), (parameter.grad, ours[name].grad), *((state[key], full[key]) for key in state)]
        same[name] = all(torch.equal(a.detach(), gathered(b.detach())) for a, b in pairs)
    return same


def alone(rank: int) -> Any:
    """The largest difference from one process that trains on all rows in float64, relative to the largest entry, and both widths."""
    build, steps = (lambda: network().double()), 16
    task = (build, lambda n=64, seed=0: (points(n, seed)[0].double(), points(n, seed)[1]), shard_moons)
    run = Run(rank, "sharded", RandomUnits(begin=0.2, end=0.6, interval=3), task, "sgd", steps).advance(0, steps)
    run.pruner.finish()
    lean = run.model.whole()
    group = [dist.new_group([other]) for other in range(2)][rank]
    net, method = build(), RandomUnits(begin=0.2, end=0.6, interval=3)
    model, optimizer = Replicas(net, process_group=group), OPTIMIZERS["sgd"](method.param_groups(net))
    pruner = Pruner(model, optimizer, method, task[1]()[0][:2], steps=steps)
    for k in range(steps):
        x, y = task[1](seed=k)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    pruner.finish()
    pairs = [] if lean is None else [(a.detach(), b.detach()) for a, b in zip(lean.parameters(), net.parameters(), strict=True)]
    return [max((float((a - b).abs().max() / b.abs().max()) for a, b in pairs), default=0.0), pruner.widths(), run.pruner.widths()]


def lives(rank: int) -> Any:
    """After a removal every parameter moves, old optimizer state counts on, and the old network is void."""
    run = Run(rank, "sharded", gates())
    held, optimizer = run.net, run.optimizer
    run.advance(0, 7)
    before = {name: gathered(parameter.detach()).clone() for name, parameter in run.net.named_parameters()}
    run.advance(7, 8)
    moved = {name: bool((gathered(parameter.detach()) != before[name]).any()) for name, parameter in run.net.named_parameters()}
    steps = sorted({float(optimizer.state[parameter]["step"]) for parameter in run.net.parameters()})
    try:
        held(points(4)[0])
        void = ""
    except RuntimeError as error:
        void = str(error)
    held_by = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    own_parameters = {id(parameter) for parameter in run.net.parameters()}
    return [len(run.seen), moved, steps, held is run.net, void, held_by == own_parameters == {id(p) for p in optimizer.state}]


def checkpoint(rank: int) -> Any:
    """A full checkpoint in the middle, by torch's own functions: gone on with on two ranks, and by one process alone."""
    straight = Run(rank, "sharded", gates()).advance(0, 8)
    told = copy.deepcopy([[*get_state_dict(straight.net, straight.optimizer, options=FULL), straight.pruner.state_dict()]])
    lean = straight.model.whole()
    dist.broadcast_object_list(told)
    weights, state, pruner = told[0]
    again = Run(rank, "sharded", gates())
    again.pruner.load_state_dict(pruner)
    mine = (dict(weights), state) if rank == 0 else ({}, {})  # torch changes what it is given
    set_model_state_dict(again.net, mine[0], options=SPREAD)
    set_optimizer_state_dict(again.net, again.optimizer, mine[1], options=SPREAD)
    found = [straight.advance(8).now(), again.advance(8).now(), len(again.seen)]
    return [*found, *(["", ""] if lean is None else saved_and_plain(lean, weights, pruner))]


def saved_and_plain(lean: nn.Module, weights: dict[str, Tensor], state: dict[str, Any]) -> list[Any]:
    """What `pn.save` keeps of the whole network, and what a process without others makes of the checkpoint: what is not as it was."""
    x = points(8)[0]
    pn.save(lean, "lean")
    loaded = pn.load("lean", lambda: network(batch_norm=True))
    group = dist.group.WORLD
    net, method = network(batch_norm=True), gates()
    dist.distributed_c10d.GroupMember.WORLD = None  # as in a process of its own
    try:
        pruner = Pruner(net, torch.optim.Adam(net.parameters()), method, points(4)[0], steps=STEPS, examples=64)
        pruner.load_state_dict(state)
    finally:
        dist.distributed_c10d.GroupMember.WORLD = group
    net.load_state_dict(weights)
    method.detach()
    told = {"saved": loaded, "plain": net}
    return [name for name, model in told.items() if not torch.equal(model.eval()(x), lean.eval()(x))] or ["", ""]


def rate_apart(run: Any) -> None:
    run.optimizer.param_groups[0]["lr"] *= 1.001


PLANTED = {"state": state_apart, "decision": decision_apart, "end": end_apart, "none": none_apart, "rate": rate_apart}


def planted(rank: int) -> Any:
    found = {}
    for name, plant in PLANTED.items():
        run = Run(rank, "sharded", gates()).advance(0, 10)
        if rank == 1:
            plant(run)
        found[name] = caught(lambda run=run: run.advance(10))
    return found


def buffers(rank: int) -> Any:
    """Running statistics and gates, after a removal: those of rank 0 everywhere; θ of both."""
    run = Run(rank, "sharded", gates()).advance(0, 6)
    return [digest(dict(run.net.named_buffers())), bank(run.pruner).theta.tolist(), len(run.seen)]


def refused(rank: int) -> Any:
    """At the door, on every rank."""
    hollow, spread, part = network().to("meta"), network(), network()
    fully_shard(spread)
    optimizer = torch.optim.SGD(spread.parameters(), lr=0.1)

    def pruned(method: Any, **options: Any) -> Callable[[], Pruner]:
        def built() -> Pruner:
            model = Sharded(network())
            return Pruner(model, torch.optim.SGD(model.module.parameters(), lr=0.1), method, points(4)[0], steps=9, **options)

        return built

    return {
        "no values": caught(lambda: Sharded(hollow)),
        "sharded before": caught(lambda: Sharded(spread)),
        "sharded, to a pruner": caught(lambda: Pruner(spread, optimizer, Dense(), points(4)[0])),
        "a part": caught(lambda: Sharded(part, lambda net: fully_shard(net.fc1))),
        "whole weights": caught(pruned(MagnitudeUnits())),
        "a fold": caught(pruned(RandomUnits(), fold="constant")),
        "a latency": caught(pruned(Gates(target="latency=50%"))),
        "an unknown group": caught(pruned(Gates(groups=["fc9"]))),
        "the loop": caught(lambda: pn.training.fit(Sharded(network()), optimizer, [], epochs=1)),
    }


FAST = {"twins": twins(("adam",)), "lives": lives, "planted": planted, "checkpoint": checkpoint}
SLOW = {
    "twins": twins(tuple(CASES)[1:]),
    "one process": one_process,
    "alone": alone,
    "buffers": buffers,
    "refused": refused,
}

if __name__ == "__main__":
    pair.main(SLOW if "slow" in sys.argv else FAST)
