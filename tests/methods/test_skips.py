"""Layer gates in plain networks: sections beside a skip close during training, leave with their state, and resume bitwise."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import parsinet as pn
from methods.toys import OPTIMIZERS, bank, points, start, train_step
from parsinet.structure import Skipped
from parsinet.structure.blocks_absent import Absent

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: pn.models.build("mlp", (2,), 2, widths=[12] * 4),
    "norms": lambda: pn.models.build("mlp", (2,), 2, widths=[12, 8, 8], batch_norm=True, activation="sigmoid"),
}
OPTIONS: dict[str, Any] = {"steps": 36, "gated": 0.7, "blocks": True, "fall_steps": 6, "interval": 4, "theta": 0.8}
PRICES: dict[str, dict[str, Any]] = {
    "layers": {"groups": [], "block_price": 0.05},
    "layers and units": {"price": 0.02, "block_price": 0.05},
    "by cost": {"cost_price": 0.3},
}


def network(name: str, start: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = NETWORKS[name]()
        pn.add_skips(model, points(4)[0], start=start)  # type: ignore[arg-type]
    return model


def sections(model: nn.Module) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, Skipped) and not isinstance(module.section, Absent)]


@pytest.mark.parametrize("begin", ["identity", "same"])
@pytest.mark.parametrize("name", NETWORKS)
def test_layers_leave_while_the_network_trains(name: str, begin: str) -> None:
    """What is finished is plain, computes what the pruner's last decision did, and the optimizer holds no more than it."""
    model = network(name, begin)
    before = sections(model)
    optimizer, pruner = start(model, **{**OPTIONS, **PRICES["layers"], "block_price": 1.0})
    for k in range(36):
        train_step(model, optimizer, pruner, k)
    lean = pruner.finish()
    left = sections(lean)
    assert len(left) < len(before)
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in lean.parameters()}
    assert not any(module._forward_hooks for module in lean.modules())
    x, expected = points(16)[0].double(), copy.deepcopy(lean).double().eval()
    merged = copy.deepcopy(expected)
    pn.merge_linear(merged, x)
    assert (merged(x) - expected(x)).abs().max() < 1e-10 * expected(x).abs().max().clamp(min=1)


def test_a_section_is_worth_more_than_nothing_where_the_task_bends() -> None:
    """The ring cannot be told from its inside by a linear map: at a fair price some section stays."""
    model = network("plain", "identity")
    optimizer, pruner = start(model, **{**OPTIONS, **PRICES["layers"], "fall_steps": 20, "steps": 120, "theta": 1.0})
    for k in range(120):
        train_step(model, optimizer, pruner, k)
    assert sections(pruner.finish())


def test_a_record_of_prices_of_which_none_is_left_is_json() -> None:
    model = network("plain", "identity")
    optimizer, pruner = start(model, **{**OPTIONS, "groups": [], "cost_price": 50.0})
    for k in range(36):
        train_step(model, optimizer, pruner, k)
    assert not sections(pruner.finish())
    assert json.loads(json.dumps(pruner.describe(), allow_nan=False))["price"] == 0


def test_the_gate_multiplies_norm_and_activation_too() -> None:
    """ξ = 0 is P(x), also for an activation that is not zero at zero."""
    model, x = network("norms", "same").eval(), points(8)[0]
    _, pruner = start(model, **{**OPTIONS, **PRICES["layers"]})
    first = model.get_submodule("fc1")
    seen: list[Tensor] = []
    first.register_forward_hook(lambda _, args, output: seen.append(output - first.shortcut(args[0])))  # type: ignore[operator]
    names = list(bank(pruner).sizes)
    with bank(pruner).holding(torch.tensor([float(name != "fc1.block") for name in names])), torch.no_grad():
        model(x)
    assert seen[0].abs().max() == 0


TELLING = {("plain", "layers and units"), ("norms", "by cost")}
"""What is resumed in the default run; the other pairs in the slow one."""
RESUMED = [pytest.param(*pair, marks=() if pair in TELLING else pytest.mark.slow) for pair in product(NETWORKS, PRICES)]


@pytest.mark.parametrize(("name", "prices"), RESUMED)
def test_resume_is_bitwise_across_the_removal_of_layers(name: str, prices: str) -> None:
    def begin() -> tuple[nn.Module, Any, pn.Pruner]:
        model = network(name, "same")
        return model, *start(model, OPTIMIZERS["adam"], **{**OPTIONS, **PRICES[prices]})

    model, optimizer, pruner = begin()
    saved: list[tuple[int, Any]] = []
    for k in range(36):
        if train_step(model, optimizer, pruner, k) is not None or k in (2, 30):
            saved.append((k + 1, copy.deepcopy((pruner.state_dict(), model.state_dict(), optimizer.state_dict()))))
    assert sections(model) != sections(begin()[0])
    for step, state in (saved[0], saved[len(saved) // 2], saved[-1]):
        again, optimizer_again, pruner_again = begin()
        for part, content in zip((pruner_again, again, optimizer_again), state, strict=True):
            part.load_state_dict(content)
        for k in range(step, 36):
            train_step(again, optimizer_again, pruner_again, k)
        assert sections(again) == sections(model)
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
