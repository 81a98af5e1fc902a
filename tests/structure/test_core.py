"""The small core removals are tried on: sizes that only show at full size are found, and verdicts are those of the whole network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import parsinet as pn
from parsinet.structure import core


class Capped(nn.Module):
    """Reads at most the first hundred units: a small network knows nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 200), nn.Linear(200, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc1(x).tanh()
        return self.fc2(y) + y.narrow(1, 0, min(y.shape[1], 100)).sum(1, keepdim=True)


def test_what_only_shows_at_full_size_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = pn.trace(Capped(), torch.randn(3, 4)).groups
    assert not any(group.removable and group.exact for group in groups if group.size >= 100)
    monkeypatch.setattr(core, "close", lambda *_: True)
    blind = pn.trace(Capped(), torch.randn(3, 4)).groups
    assert any(group.removable and group.exact for group in blind if group.size >= 100)


class Wide(nn.Module):
    """A wide layer with its size written in the code beside one without."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(4, 96), nn.Linear(96, 80), nn.Linear(80, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(self.fc2(self.fc1(x).tanh()).tanh().view(-1, 80))


def test_a_culprit_among_wide_groups_is_named_with_its_line() -> None:
    structure = pn.trace(Wide(), torch.randn(3, 4))
    assert structure.group("fc1").removable
    assert "view(-1, 80))` at test_core.py:" in structure.group("fc2").reason


class Writes(nn.Module):
    """A forward pass that writes into a parameter, a buffer and its input."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 64), nn.Linear(64, 2)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            with torch.no_grad():
                self.calls.add_(1)
                self.fc1.weight.mul_(0.5)
                x.mul_(2)
        return self.fc2(self.fc1(x).relu())


def test_what_a_forward_pass_writes_does_not_reach_the_users_tensors() -> None:
    model, x = Writes(), torch.randn(3, 4)
    state, inputs = {key: value.clone() for key, value in model.state_dict().items()}, x.clone()
    pn.trace(model, x)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert torch.equal(x, inputs)
