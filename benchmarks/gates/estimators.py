"""The estimators beside exact flips, on networks with and without gates. Run it with `convergence.py --estimators`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from protocol import BATCH, DECAY, RATE
from torch import Tensor, nn
from torch.nn import functional as F

import parsinet as pn
from parsinet.data import Batches, Split
from parsinet.gates import PAIR_ESTIMATORS, antithetic, curvature_corrected, drawn_curvature, exact_flip, straight_through
from parsinet.methods import Gates
from parsinet.methods.comparing import EDGE
from parsinet.training.loop import fit

PAIRS = (1, 30, 300)
"""Pairs of masks over which the estimates of two losses are averaged."""


def estimators(data: Split, *, epochs: int, price: float) -> list[dict[str, Any]]:
    """Spearman and Pearson with exact flips, 2,000 training images, of a dense network and of one under gates.

    Exact are flips at the same one draw ("this draw"), or at a draw per image: the derivative of the expected loss ("all draws").
    """
    x, y, rows = data.inputs[:2000].flatten(1), data.targets[:2000], []
    for network, draw, model, theta, xi in drawn(data, epochs, price):
        layers = zip(compared(model, x, y, xi), expected(model, x, y, theta, xi), strict=True)
        for layer, kinds in enumerate(layers, 1):
            for against, (exact, found) in zip(("this draw", "all draws"), kinds, strict=True):
                place = {"network": network, "draw": draw, "layer": layer, "units": len(exact), "against": against}
                rows += [{**place, "estimator": name, **agreement(estimate, exact)} for name, estimate in found.items()]
    return rows


def agreement(estimate: Tensor, exact: Tensor) -> dict[str, float]:
    """Correlations and means."""
    pearson = float(torch.corrcoef(torch.stack([estimate, exact]))[0, 1])
    return {"spearman": spearman(estimate, exact), "pearson": pearson, "mean": float(estimate.mean()), "exact_mean": float(exact.mean())}


def drawn(data: Split, epochs: int, price: float) -> Iterator[tuple[str, str, nn.Module, list[Tensor], list[Tensor]]]:
    """Networks with θ and one draw ξ ~ Bern(θ).

    LeNet-300-100 after 10 epochs of SGD 0.02 with momentum 0.9; and under gates, after 2 and 5 of so many epochs of the recipe.
    """
    random = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    model = pn.models.build("lenet-300-100", (1, 28, 28), 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-3)
    fit(model, optimizer, Batches(data, BATCH, seed=0), epochs=10)
    for draw, keep in (("all open", 1.0), ("half open", 0.5)):
        theta = [torch.full((units,), keep) for units in (300, 100)]
        yield "dense", draw, model, theta, [(torch.rand(len(row), generator=random) < keep).float() for row in theta]
    torch.manual_seed(0)
    model, method = pn.models.build("lenet-300-100", (1, 28, 28), 10), Gates(price=price, rise=1.0)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=RATE, weight_decay=DECAY)
    batches = Batches(data, BATCH, seed=0)
    pruner = pn.Pruner(model, optimizer, method, data.inputs[:2], steps=epochs * len(batches))
    for done in (2, 5):
        fit(model, optimizer, batches, epochs=done, pruner=pruner)
        theta = [row.clone() for _, row, _ in method._bank.rows()]
        yield "gated", f"after {done} epochs", model, theta, [torch.bernoulli(row, generator=random) for row in theta]


def compared(model: nn.Module, x: Tensor, y: Tensor, xi: list[Tensor]) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Per layer the exact differences C(ξ_i = 1) − C(ξ_i = 0) and what each estimator makes of derivatives."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    first, second, last = (partial(F.linear, weight=each.weight.detach(), bias=each.bias.detach()) for each in linear)
    h = torch.relu(first(x))

    def forward(rows: list[Tensor]) -> Tensor:
        return last(torch.relu(second(h * rows[0])) * rows[1])

    def derivatives(rows: list[Tensor], targets: Tensor) -> tuple[Tensor, ...]:
        leaves = [row.expand(len(x), -1).clone().requires_grad_() for row in rows]
        return torch.autograd.grad(F.cross_entropy(forward(leaves), targets, reduction="sum"), leaves)

    with torch.no_grad():
        sampled = torch.multinomial(forward(xi).softmax(1), 1, generator=torch.Generator().manual_seed(2)).flatten()
    own, model_own = derivatives(xi, y), derivatives(xi, sampled)
    result = []
    for layer, row in enumerate(xi):
        exact, both = torch.zeros(len(row)), torch.zeros(len(row))
        for unit in range(len(row)):
            ends = []
            for value in (1.0, 0.0):
                flipped = [r.clone() for r in xi]
                flipped[layer][unit] = value
                with torch.no_grad():
                    ends.append(F.cross_entropy(forward(flipped), y))
                both[unit] += 0.5 * derivatives(flipped, y)[layer][:, unit].mean()
            exact[unit] = ends[0] - ends[1]
        q = own[layer]
        found = {
            "straight-through": straight_through(q, row),
            "curvature": curvature_corrected(q, row),
            "1.5 times the curvature": q.mean(0) + 1.5 * (0.5 - row) * q.square().mean(0),
            "curvature, labels drawn from the model": drawn_curvature(q, model_own[layer], row.expand_as(q)),
            "mean of the derivatives at both ends": both,
        }
        result.append((exact, found))
    return result


def expected(model: nn.Module, x: Tensor, y: Tensor, theta: list[Tensor], xi: list[Tensor]) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Per layer the exact differences with a draw per image, and estimates of one draw for all, of one each, and of pairs of losses."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    first, second, last = (partial(F.linear, weight=each.weight.detach(), bias=each.bias.detach()) for each in linear)
    h, random, sizes = torch.relu(first(x)), torch.Generator().manual_seed(3), [len(row) for row in theta]

    def loss(row: Tensor) -> Tensor:
        one, two = row.split(sizes, -1)
        return F.cross_entropy(last(torch.relu(second(h * one)) * two), y)

    def heard(row: Tensor) -> dict[str, Tensor]:
        leaf = row.expand(len(x), -1).clone().requires_grad_()
        (q,) = torch.autograd.grad(loss(leaf) * len(x), leaf)
        return {"straight-through": straight_through(q, row), "curvature": curvature_corrected(q, row)}

    whole = torch.cat(theta)
    each = torch.bernoulli(whole.expand(len(x), -1), generator=random)
    exact = torch.stack([exact_flip(loss, each, unit) for unit in range(len(whole))])
    found = {**{f"{name}, one draw": g for name, g in heard(torch.cat(xi)).items()}, **heard(each), **pairs(loss, whole, random)}
    split = {name: estimate.split(sizes) for name, estimate in found.items()}
    return [(part, {name: rows[k] for name, rows in split.items()}) for k, part in enumerate(exact.split(sizes))]


@torch.no_grad()
def pairs(loss: Callable[[Tensor], Tensor], theta: Tensor, random: torch.Generator) -> dict[str, Tensor]:
    """Estimates from pairs of losses, θ held off its ends as in training: means over the first 1, 30 and 300 pairs."""
    held, total, found = theta.clamp(EDGE, 1 - EDGE), {name: torch.zeros_like(theta) for name in PAIR_ESTIMATORS}, {}
    for count in range(1, max(PAIRS) + 1):
        uniform = torch.rand(len(held), generator=random)
        one, two = (loss(xi) for xi in antithetic(uniform, held))
        for name, estimator in PAIR_ESTIMATORS.items():
            total[name] += estimator(one - two, uniform, held)
            if count in PAIRS:
                found[f"{name}, {count:,} {'pair' if count == 1 else 'pairs'}"] = total[name] / count
    return found


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation."""
    ranks = torch.stack([a.argsort().argsort().double(), b.argsort().argsort().double()])
    return float(torch.corrcoef(ranks)[0, 1])
