"""A removal that fails, wherever it fails, leaves model and optimizer exactly as they were."""

from __future__ import annotations

import contextlib
import copy
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import parsinet as pn
from networks import traced
from parsinet.errors import ParsinetWarning
from parsinet.structure.plan import Fold


class Interrupted(BaseException):
    """Stands for Ctrl-C, a full memory, a bug in a rule."""


def start(name: str) -> tuple[nn.Module, Any, torch.optim.Optimizer, Any]:
    """A network in training that has lost units once already, its optimizer and the plan of a second removal."""
    model, x, structure = traced(name)
    optimizer = torch.optim.Adam(model.parameters())
    first = structure.plan({group.name: torch.arange(group.size) > 0 for group in structure.removable()})
    pn.shrink(model, first, optimizers=[optimizer])
    model(x).square().sum().backward()
    optimizer.step()
    structure = structure.after(first)
    return model, x, optimizer, structure.plan({group.name: torch.arange(group.size) % 2 == 0 for group in structure.removable()})


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a caller can see: identities, tensors bit by bit, gradients, attributes, classes, the record, optimizer state."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "identities": {name: id(tensor) for name, tensor in tensors.items()},
        "values": {name: tensor.detach().clone() for name, tensor in tensors.items()},
        "gradients": {name: None if tensor.grad is None else tensor.grad.clone() for name, tensor in tensors.items()},
        "trained": {name: tensor.requires_grad for name, tensor in tensors.items()},
        "dtypes": {name: tensor.dtype for name, tensor in tensors.items()},
        "modules": {name: (type(module), str(module), module.training) for name, module in model.named_modules()},
        "attributes": {
            name: {key: copy.deepcopy(value) for key, value in vars(module).items() if isinstance(value, int | str | tuple)}
            for name, module in model.named_modules()
        },
        "record": copy.deepcopy(pn.structure.record_of(model).to_json()),
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "held": [id(tensor) for tensor in optimizer.state],
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


STAGES = {
    "cutting data": "parsinet.structure.removal.cut",
    "planning optimizer state": "parsinet.structure.removal.carry",
    "cutting optimizer state": "parsinet.structure.optimizers.cut",
    "writing optimizer state": "parsinet.structure.optimizers.Carried.apply",
    "resizing": "parsinet.structure.removal.resize_",
    "attributes": "parsinet.structure.removal.refresh",
    "one attribute": "parsinet.structure.attributes._assign",
    "record": "parsinet.structure.removal.extend_record",
    "inside the record": "parsinet.structure.record.StructureRecord.extend",
}


def failing(monkeypatch: pytest.MonkeyPatch, target: str, call: int, *, after: bool) -> list[int]:
    """Make the call-th call of a function fail, before or after it does its work; returns the count of its calls."""
    path, _, name = target.rpartition(".")
    owner: Any = pkgutil.resolve_name(path)
    real: Callable[..., Any] = getattr(owner, name)
    calls: list[int] = []

    def fail(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == call and not after:
            raise Interrupted
        result = real(*args, **options)
        if len(calls) == call:
            raise Interrupted
        return result

    monkeypatch.setattr(target, fail)
    return calls


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", [1, 3])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["mlp-batch-norm", "torch-encoder"])
def test_whatever_fails_nothing_has_changed(name: str, stage: str, call: int, after: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, optimizer, plan = start(name)
    before, output = everything(model, optimizer), model.eval()(x).detach()
    model.train()
    fold = Fold({"fc.bias" if name == "torch-encoder" else "fc2.bias": torch.ones(model.fc.out_features if "encoder" in name else 8)})
    with monkeypatch.context() as patch:
        call = 1 if "record" in stage or stage == "attributes" else call
        calls = failing(patch, STAGES[stage], call, after=after)
        with pytest.raises(Interrupted):
            pn.shrink(model, plan, optimizers=[optimizer], fold=fold)
        assert len(calls) == call
    model.train()
    assert same(everything(model, optimizer), before)
    assert torch.equal(model.eval()(x), output)
    model.train()
    model(x).square().sum().backward()
    optimizer.step()
    pn.shrink(model, plan, optimizers=[optimizer], fold=fold)
    model(x).square().sum().backward()
    optimizer.step()


def test_a_warning_that_is_an_error_comes_before_anything_changes() -> None:
    model, _, optimizer, plan = start("mlp-batch-norm")
    optimizer.state[model.fc1.weight]["more"] = torch.zeros(7)
    before = everything(model, optimizer)
    with pytest.raises(ParsinetWarning):
        pn.shrink(model, plan, optimizers=[optimizer])
    assert same(everything(model, optimizer), before)


def test_scales_of_weight_norm_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, optimizer, plan = start("weight-norm")
    before = everything(model, optimizer)
    failing(monkeypatch, STAGES["record"], 1, after=False)
    with pytest.raises(Interrupted):
        pn.shrink(model, plan, optimizers=[optimizer])
    assert same(everything(model, optimizer), before)


def test_the_check_sees_what_is_not_put_back() -> None:
    """Planted faults: each of the things a removal touches, changed."""
    model, _, optimizer, _ = start("mlp-batch-norm")
    faults: dict[str, Callable[[], Any]] = {
        "values": lambda: model.fc1.bias.data.add_(1),
        "gradients": lambda: model.fc1.bias.grad.add_(1),
        "attributes": lambda: setattr(model.fc1, "out_features", 3),
        "record": lambda: pn.structure.record_of(model).removals.append({"fc1": [0]}),
        "optimizer": lambda: optimizer.state[model.fc1.bias]["exp_avg"].add_(1),
    }
    for what, fault in faults.items():
        before = everything(model, optimizer)
        fault()
        after = everything(model, optimizer)
        assert not same(after[what], before[what]), what


def test_without_the_guard_a_failure_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parsinet.structure.removal.all_or_nothing", lambda *_: contextlib.nullcontext())
    with pytest.raises((AssertionError, RuntimeError)):
        test_whatever_fails_nothing_has_changed("mlp-batch-norm", "record", 1, False, monkeypatch)
