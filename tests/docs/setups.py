"""What a reader of a page has in front of him when he comes to a block: a network, data, a loop. One function per situation."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

import parsinet as pn

ROOT = Path(__file__).parent.parent.parent
Names = dict[str, Any]


def digits(names: Names) -> None:
    """A small network, a tenth of the digits, a loss, and how long the run is."""
    whole = pn.data.load("digits")
    train = pn.data.Split(whole.train.inputs[:128], whole.train.targets[:128])
    batches = pn.data.Batches(train, batch_size=64)
    x, y = train.inputs[:64], train.targets[:64]
    names.update(torch=torch, nn=nn, functional=functional, pn=pn, data=whole, train=train, batches=batches, x=x, y=y)
    names.update(example_inputs=x[:2], steps=10, epochs=2, loss_fn=functional.cross_entropy)
    network(names)


def network(names: Names) -> None:
    """A network nobody has touched yet, with its optimizer."""
    model = pn.models.build("mlp", (1, 8, 8), 10, widths=(24, 16))
    names.update(model=model, optimizer=torch.optim.Adam(model.parameters(), lr=1e-3), mask=torch.arange(24) % 3 > 0)


def ranked(names: Names) -> None:
    """A method that ranks units by their weights, ready for a pruner."""
    network(names)
    names["method"] = pn.baselines.MagnitudeUnits(share=0.5)


def planned(names: Names) -> None:
    """A network and a plan for it."""
    network(names)
    names["plan"] = pn.trace(names["model"], names["example_inputs"]).plan({"fc1": names["mask"]})


def pixels(names: Names) -> None:
    """A structure in which pixels may leave, and a mask of them."""
    network(names)
    names["structure"] = pn.trace(names["model"], names["example_inputs"], inputs=True)
    names["mask"] = torch.arange(64) % 2 > 0


def residual(names: Names) -> None:
    """A small residual network with a linear layer called fc1."""

    class Basic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.relu(x + self.conv2(functional.relu(self.conv1(x))))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.layer1 = nn.Conv2d(1, 4, 3, padding=1), nn.Sequential(Basic(), Basic())
            self.fc1, self.fc2 = nn.Linear(4, 24), nn.Linear(24, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc2(functional.relu(self.fc1(self.layer1(functional.relu(self.stem(x))).mean((2, 3)))))

    names["model"] = Net()
    names["optimizer"] = torch.optim.Adam(names["model"].parameters(), lr=1e-3)


def deep(names: Names) -> None:
    """A plain network of several layers of one width."""
    layers = [part for _ in range(3) for part in (nn.Linear(16, 16), nn.ReLU())]
    names["model"] = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), *layers, nn.Linear(16, 10))


def own_operator(names: Names) -> None:
    """The operator and the modules of examples/own_rule.py."""
    names.update(runpy.run_path(str(ROOT / "examples" / "own_rule.py")))
    names["model"] = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), names["Gated"](16, 12), names["Capsules"](12, 6, 4), nn.Linear(6, 3))
    names["x"] = torch.randn(5, 8)


def averaged(names: Names) -> None:
    """A network, a plan for it, and the average of its weights."""
    planned(names)
    names["average"] = torch.optim.swa_utils.AveragedModel(names["model"])


def inputs_alone(names: Names) -> None:
    """Batches without targets."""
    names["batches"] = list(names["train"].inputs.split(64))


def plain(names: Names) -> None:
    """A loop whose method trains and removes nothing yet, so that the network is still as it was built."""
    network(names)
    names["pruner"] = pn.Pruner(names["model"], names["optimizer"], pn.methods.Dense(), names["example_inputs"])


def growing(names: Names) -> None:
    """A sparsity that grows along the run."""
    names["schedule"] = lambda step: 0.9 + 0.08 * step / names["steps"]


def pruning(names: Names) -> None:
    """A loop with gates that is under way."""
    network(names)
    model = names["model"]
    names["method"] = pn.methods.Gates(price=1e-3)
    names["optimizer"] = torch.optim.Adam(names["method"].param_groups(model), lr=1e-3)
    names["pruner"] = pn.Pruner(model, names["optimizer"], names["method"], names["example_inputs"], steps=names["steps"])


def gating(names: Names) -> None:
    """A loop with gates that let units leave within a few steps."""
    network(names)
    model = names["model"]
    names["method"] = pn.methods.Gates(price=0.02, gated=0.8, fall_steps=8, interval=2)
    names["optimizer"] = torch.optim.Adam(names["method"].param_groups(model), lr=1e-2)
    names["pruner"] = pn.Pruner(model, names["optimizer"], names["method"], names["example_inputs"], steps=names["steps"])


def ended(names: Names) -> None:
    """The same after its last step, its structure fixed; as if no steps were wanted of it, so that every average may begin."""
    pruning(names)
    for _ in range(names["steps"]):
        names["loss_fn"](names["model"](names["x"]), names["y"]).backward()
        names["optimizer"].step()
        names["optimizer"].zero_grad()
        names["pruner"].step()
    names["steps"] = 0


def first_run(names: Names) -> None:
    """The folder of a short run."""
    values = {"epochs": 1, "data": {"validation": 0.1}, "checkpoint": {"best": True}, "model": {"name": "mlp", "widths": [16, 8]}}
    recipe = pn.training.recipe_from(values)
    pn.training.train(recipe, Path("runs/first"))


def several_runs(names: Names) -> None:
    """Folders of a dense run and of one with gates beside the first."""
    first_run(names)
    for name in ("dense", "gates"):
        values = {"epochs": 1, "method": {"name": name}, "model": {"name": "mlp", "widths": [16, 8]}}
        pn.training.train(pn.training.recipe_from(values), Path("runs") / name)


def tuned(names: Names) -> None:
    """The recipe and the space of a sweep, as mappings."""
    names["base"] = {"epochs": 1, "data": {"validation": 0.1}, "model": {"name": "mlp", "widths": [16, 8]}, "method": {"name": "gates"}}
    names["space"] = {"method.price": {"low": 1e-4, "high": 1e-2, "log": True}}


SITUATIONS = (averaged, deep, digits, ended, first_run, gating, growing, inputs_alone, network)
SITUATIONS += (own_operator, pixels, plain, planned, pruning, ranked, residual, several_runs, tuned)
SETUPS: dict[str, Callable[[Names], None]] = {made.__name__: made for made in SITUATIONS}
