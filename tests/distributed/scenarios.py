"""What two processes go through together; every scenario returns what its rank has seen, as plain values."""

from __future__ import annotations

import copy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from distributed import pair
from methods.toys import bank, network, points
from parsinet import baselines, sphere
from parsinet.distributed import ALONE, Replicas, digest
from parsinet.errors import ParsinetError
from parsinet.methods import Dense, Gates, Pruner, Spectral, SpectralSparse, Sphere
from parsinet.methods.deciding import gains
from parsinet.training import LoopState, Recipe, RunInterrupted, RunResult, read_record, train
from parsinet.training.own_numbers import OwnNumbers

STEPS = 24
DRAWS = 300
"""Passes whose estimates are held against their expectation."""
GATES: dict[str, Any] = {"gated": 0.8, "price": 0.006, "fall_steps": 12, "interval": 3, "theta": 0.8}


def own(rank: int, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """A rank's rows of a batch."""
    return batch[0][rank::2], batch[1][rank::2]


class Run:
    """A loop of one's own on two ranks, and what it was at every removal."""

    def __init__(self, rank: int, method: Any, net: nn.Module | None = None, optimizer: Any = None, group: Any = None) -> None:
        self.rank, self.net = rank, network(batch_norm=True) if net is None else net
        method.prepare(self.net)
        self.model = Replicas(self.net, process_group=group)
        groups = method.param_groups(self.net)
        self.optimizer = torch.optim.Adam(groups, lr=0.01, weight_decay=1e-4) if optimizer is None else optimizer(groups)
        self.pruner = Pruner(self.model, self.optimizer, method, points(4)[0], steps=STEPS, examples=64)
        self.seen: list[Any] = []

    def step(self, k: int) -> None:
        x, y = own(self.rank, points(seed=k))
        (F.cross_entropy(self.model(x), y) + self.pruner.penalty()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        removal = self.pruner.step(lambda: F.cross_entropy(self.model(x), y))
        if removal is not None:
            self.seen.append([k, removal.groups, self.now()])

    def advance(self, begin: int = 0, end: int = STEPS) -> Run:
        for k in range(begin, end):
            self.step(k)
        return self

    def now(self) -> list[int]:
        """Digests of weights, buffers, optimizer and method; the buffers of rank 0 are everybody's."""
        self.model.align()
        parts = (dict(self.net.named_parameters()), dict(self.net.named_buffers()), self.optimizer.state_dict(), self.pruner.state_dict())
        return [digest(part) for part in parts]


def removals(rank: int) -> Any:
    run = Run(rank, Gates(**GATES)).advance()
    lean = run.pruner.finish()
    return {"seen": run.seen, "widths": run.pruner.widths(), "settled": run.pruner.settled, "keys": list(lean.state_dict())}


def followed(rank: int) -> Any:
    """An average that loses the same units, folded by its own numbers; and one that began from other weights on each rank."""
    net, method = network(batch_norm=True), baselines.MagnitudeUnits(share=0.5, begin=0.2, end=0.6)
    model = Replicas(net)
    average = AveragedModel(net)
    optimizer = torch.optim.Adam(method.param_groups(net), lr=0.01)
    folding: Any = {"fold": "mean", "fold_inputs": [points(16)[0]]}
    pruner = Pruner(model, optimizer, method, points(4)[0], steps=STEPS, followers=[average], **folding)
    for k in range(STEPS):
        x, y = own(rank, points(seed=k))
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
        average.update_parameters(net)
    pruner.finish()
    other = network(batch_norm=True)
    torch.manual_seed(rank)
    apart = copy.deepcopy(other)
    torch.nn.init.normal_(next(apart.parameters()))
    last, whole = baselines.MagnitudeUnits(share=0.5), Replicas(other)
    trained = torch.optim.Adam(last.param_groups(other))
    said = caught(lambda: Pruner(whole, trained, last, points(4)[0], steps=STEPS, followers=[apart]))
    return {"average": digest(dict(average.module.named_parameters())), "widths": pruner.widths(), "apart": said}


def draws(rank: int) -> Any:
    """The gates of one forward pass."""
    run = Run(rank, Gates(**{**GATES, "theta": 0.5}))
    run.model(own(rank, points())[0])
    return [bank(run.pruner)._draw.xi["fc1"].tolist(), bank(run.pruner)._random.get_state().tolist()]


def means(rank: int) -> Any:
    """Differences between what two ranks learn and what one process learns from both their rows, gates being the same."""
    alone = [dist.new_group([other]) for other in range(2)][rank]
    together, single = (Run(rank, Gates(**GATES), network().double(), group=group) for group in (None, alone))
    fixed = (torch.arange(20) % 3 > 0).float()
    x, y = points()
    found = []
    for run, (inputs, targets) in ((together, own(rank, (x.double(), y))), (single, (x.double(), y))):
        gates = bank(run.pruner)
        gates.draw = lambda: fixed
        F.cross_entropy(run.model(inputs), targets).backward()
        heard = gates.estimates()
        flips = gains(lambda run=run, i=inputs, t=targets: F.cross_entropy(run.model(i), t), run.net, gates, [0, 3, 14])
        gradient = torch.cat([parameter.grad.reshape(-1) for parameter in run.net.parameters()])
        found.append([torch.cat(list(heard.values())), flips, gradient])
    return [float((a - b).abs().max() / b.abs().max()) for a, b in zip(*found, strict=True)]


def unbiased(rank: int) -> Any:
    """Two gates of a small network, estimates pooled over both ranks: every pair of draws with its probability, and draws as they come.

    By estimator "curvature" and by exact flips: [Σ p(ξ₀) p(ξ₁) estimate, the same of all rows in one process by enumeration of one ξ].
    "drawn": estimates of many passes; "one draw": the same if both ranks draw what rank 0 draws.
    """
    net = network(first=4, second=2).double()
    run = Run(rank, Gates(theta=0.7, groups=["fc2"], price=1e-3, gated=1.0), net, lambda groups: torch.optim.SGD(groups, lr=0.0))
    x, y = points(24)
    x, gates = x.double(), bank(run.pruner)
    theta = gates.theta.double()
    all_xi = [torch.tensor([float(k & 1), float(k >> 1)]) for k in range(4)]
    p = [float((theta * xi.double() + (1 - theta) * (1 - xi.double())).prod()) for xi in all_xi]
    mine = own(rank, (x, y))

    def heard(xi: Tensor | None, rows: tuple[Tensor, Tensor], ranks: Any) -> list[float]:
        """ĝ of one pass with these gates, or with drawn ones."""
        gates.ranks = ranks
        if xi is not None:
            gates.draw = lambda: xi
        F.cross_entropy(net(rows[0]), rows[1]).backward()
        found = gates.estimates()["fc2"].double().tolist()
        gates.__dict__.pop("draw", None)
        return found

    def flipped(xi: Tensor, rows: tuple[Tensor, Tensor], ranks: Any) -> list[float]:
        gates.ranks, gates.draw = ranks, lambda: xi
        found = gains(lambda: F.cross_entropy(net(rows[0]), rows[1]), net, gates, [0, 1]).tolist()
        del gates.draw
        return found

    def expected(learn: Callable[..., list[float]]) -> list[list[float]]:
        """Over pairs of draws of the two ranks, and over one draw of one process; ξ of rank r is the r-th of the pair."""
        pairs = torch.zeros(2, dtype=torch.float64)
        for a, first in enumerate(all_xi):
            for b, second in enumerate(all_xi):
                pairs += p[a] * p[b] * torch.tensor(learn((first, second)[rank], mine, run.model.ranks), dtype=torch.float64)
        single = sum(w * torch.tensor(learn(xi, (x, y), ALONE), dtype=torch.float64) for w, xi in zip(p, all_xi, strict=True))
        return [pairs.tolist(), single.tolist()]

    shared = torch.Generator().manual_seed(1)
    drawn = [heard(None, mine, run.model.ranks) for _ in range(DRAWS)]
    one = [heard(all_xi[int(torch.multinomial(torch.tensor(p), 1, generator=shared))], mine, run.model.ranks) for _ in range(DRAWS)]
    return {"curvature": expected(heard), "flips": expected(flipped), "drawn": drawn, "one draw": one}


def resume(rank: int) -> Any:
    """From rank 0's state in the middle, bitwise as if it had never stopped; so with the wrapper around the small network."""
    straight = Run(rank, Gates(**GATES)).advance(0, 6)
    state = copy.deepcopy([straight.pruner.state_dict(), straight.net.state_dict(), straight.optimizer.state_dict()])
    told = [state]
    dist.broadcast_object_list(told)
    again = Run(rank, Gates(**GATES))
    again.pruner.load_state_dict(told[0][0])
    again.net.load_state_dict(told[0][1])
    again.optimizer.load_state_dict(told[0][2])
    return [straight.advance(6).now(), again.advance(6).now(), len(again.seen)]


def caught(act: Callable[[], object]) -> list[str]:
    """The error's kind and words."""
    try:
        act()
    except ParsinetError as error:
        return [type(error).__name__, str(error)]
    return ["", ""]


def weights_apart(run: Run) -> None:
    with torch.no_grad():
        next(run.net.parameters())[0, 0] += 1e-6


def state_apart(run: Run) -> None:
    bank(run.pruner).usefulness[2] += 1e-6


def decision_apart(run: Run) -> None:
    method = run.pruner.method
    before = method.step

    def step() -> Any:
        alive = before()
        if alive is not None:
            alive["fc1"] = ~alive["fc1"]
        return alive

    method.step = step  # type: ignore[method-assign]


def end_apart(run: Run) -> None:
    method = run.pruner.method
    before = method.step

    def step() -> Any:
        alive = before()
        method.settled = True  # type: ignore[misc]
        return alive

    method.step = step  # type: ignore[method-assign]


def none_apart(run: Run) -> None:
    before = run.pruner.method.step

    def step() -> None:
        before()

    run.pruner.method.step = step  # type: ignore[method-assign]


PLANTED = {"weights": weights_apart, "state": state_apart, "decision": decision_apart, "end": end_apart, "none": none_apart}


def planted(rank: int) -> Any:
    found = {}
    for name, plant in PLANTED.items():
        run = Run(rank, Gates(**GATES)).advance(0, 10)
        if rank == 1:
            plant(run)
        found[name] = caught(lambda run=run: run.advance(10))
    return found


def refused(rank: int) -> Any:
    """At the door, on every rank."""
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    wrapped = DistributedDataParallel(network())
    return {
        "bare": caught(lambda: Pruner(net, optimizer, Dense(), points(4)[0])),
        "wrapped": caught(lambda: Pruner(wrapped, optimizer, Dense(), points(4)[0])),
        "wrapped twice": caught(lambda: Replicas(wrapped)),
        "seeds": caught(lambda: Run(rank, Gates(**GATES, seed=rank))),
        "other weights": caught(lambda: Run(rank, Gates(**GATES), network(rank))),
    }


def phases(rank: int) -> Any:
    """Eigenvalues alone, then all: what DDP waits for changes without a removal."""
    metric = iter([0.9, 0.8 - 0.2 * rank, *[0.5] * 20])
    method = Spectral(0.4, schedule="post", eigenvalues=0.3, metric=lambda: next(metric), max_fall=0.3)
    run = Run(rank, method).advance(0, 20)
    run.pruner.finish()
    return [run.pruner.widths(), digest(dict(run.net.named_parameters()))]


METHODS: dict[str, Callable[[], Any]] = {
    "rigl": lambda: baselines.RigL(sparsity=0.6, interval=5, exclude=["last"]),
    "rigl, momentum": lambda: baselines.RigL(sparsity=0.6, interval=5, growth="momentum"),
    "set": lambda: baselines.SET(sparsity=0.6, interval=5),
    "snip": lambda: baselines.SNIP(sparsity=0.6, batches=2),
    "gmp": lambda: baselines.GMP(sparsity=0.6, interval=5),
    "random-mask": lambda: baselines.RandomMask(sparsity=0.6),
    "l0": lambda: baselines.L0(lam=20.0, rate=0.5, interval=5),
    "l0, a draw per batch": lambda: baselines.L0(lam=20.0, rate=0.5, interval=5, draws="batch"),
    "vib": lambda: baselines.VIB(kl=0.5, rate=0.5, interval=5),
    "sbp": lambda: baselines.SBP(kl=50.0, rate=0.5, interval=5),
    "group-lasso": lambda: baselines.GroupLasso(lam=2.0, interval=5),
    "slimming": lambda: baselines.Slimming(lam=1e-2),
    "magnitude-units": lambda: baselines.MagnitudeUnits(begin=0.2, end=0.6, interval=5),
    "random-units": lambda: baselines.RandomUnits(begin=0.2, end=0.6, interval=5),
    "spectral": lambda: Spectral(0.4, interval=5),
    "spectral-sparse": lambda: SpectralSparse(0.6, every=4),
    "gates, a target": lambda: Gates(target="params=50%", gated=0.8, fall_steps=12, interval=4),
    "gates, by cost": lambda: Gates(cost_price=0.5, gated=0.8, fall_steps=12, interval=4, decide="absorb"),
    "gates, a draw per example": lambda: Gates(**GATES, draws="example"),
    "gates, pairs of losses": lambda: Gates(**GATES, estimator="disarm"),
    "gates, drawn labels": lambda: Gates(**GATES, estimator="drawn-labels"),
    "sphere": lambda: Sphere(0.6, interval=5),
    "sphere, dense": lambda: Sphere(0.6, interval=5, regrow="dense"),
}
USUAL = ("rigl", "l0")


def revived(run: Run) -> int:
    """Hidden weights that are not zero: DDP must not bring back gradients that were masked."""
    masks = getattr(run.pruner.method, "_masks", None)
    return 0 if masks is None else sum(int(masks.weights[name][~mask].count_nonzero()) for name, mask in masks.masks.items())


def every_method(names: tuple[str, ...]) -> Callable[[int], Any]:
    def told(rank: int) -> Any:
        found = {}
        for name in names:
            lp = (lambda groups: sphere.LpSGD(groups, lr=0.01)) if name.startswith("sphere") else None
            run = Run(rank, METHODS[name](), optimizer=lp).advance()
            hidden = revived(run)
            run.pruner.finish()
            found[name] = [run.seen, run.now(), run.pruner.widths(), hidden]
        return found

    return told


def sharded(rank: int) -> Any:
    """FSDP's parameters are refused."""
    from torch.distributed.fsdp import fully_shard

    net = network()
    fully_shard(net)
    return caught(lambda: Pruner(net, torch.optim.SGD(net.parameters(), lr=0.1), Dense(), points(4)[0]))


def recipe(**changes: Any) -> Recipe:
    """A short run with removals."""
    plain = {
        "data": {"source": "digits", "batch_size": 128, "validation": 0.1, "augmentation": {"crop_padding": 1}},
        "model": {"name": "mlp", "widths": [24, 16]},
        "method": {"name": "gates", "price": 2e-3, "fall_steps": 8, "interval": 4, "theta": 0.7},
        "epochs": 2,
        **changes,
    }
    return Recipe.model_validate(plain)


def trained(rank: int) -> Any:
    """Whole runs of two ranks: twice the same, and once stopped on rank 1 alone, then resumed there and by one process."""

    def weights(result: RunResult) -> int:
        return digest(result.model.state_dict())

    first, second = (train(recipe(), Path(name)) for name in ("first", "second"))
    before = OwnNumbers.on_step

    def stop(self: OwnNumbers, state: LoopState) -> None:
        before(self, state)
        state.stop = state.stop or state.step == 15

    OwnNumbers.on_step = stop  # type: ignore[method-assign]
    interrupted = None
    try:
        train(recipe(), Path("stopped"))
    except RunInterrupted as error:
        interrupted = [str(error), getattr(error, "elsewhere", None)]
    OwnNumbers.on_step = before  # type: ignore[method-assign]
    if rank == 0:
        shutil.copytree("stopped", "alone")
    resumed = train(None, Path("stopped"), resume=True)
    begun = train(recipe(), Path("begun"), resume="auto")
    events = [event["event"] for event in read_record(Path("stopped/record.jsonl"))]
    epochs = [event for event in read_record(Path("first/record.jsonl")) if event["event"] == "epoch"]
    return {
        "weights": [weights(result) for result in (first, second, resumed, begun)],
        "errors": [result.test.error for result in (first, second, resumed)],
        "interrupted": interrupted,
        "events": events,
        "train_error": [event["train_error"] for event in epochs],
        "widths": epochs[-1]["widths"],
        "train_macs": read_record(Path("first/record.jsonl"))[-1]["train_macs"],
        "taken": caught(lambda: train(recipe(), Path("first"))),
        "folder": str(Path.cwd()),
        "batch": caught(lambda: train(recipe(data={"batch_size": 127}), Path("odd"))),
    }


FAST = {
    "trained": trained,
    "removals": removals,
    "followed": followed,
    "draws": draws,
    "means": means,
    "unbiased": unbiased,
    "resume": resume,
    "planted": planted,
    "refused": refused,
    "phases": phases,
}
SLOW = {"sharded": sharded, "methods": every_method(tuple(name for name in METHODS if name not in USUAL))}

if __name__ == "__main__":
    pair.main(SLOW if "slow" in sys.argv else {**FAST, "methods": every_method(USUAL)})
