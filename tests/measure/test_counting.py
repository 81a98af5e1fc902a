"""Parameters, non-zeros and bytes against numbers counted by hand."""

import pytest
import torch
from torch import nn

from parsinet import measure, models
from parsinet.errors import UsageError


class Tied(nn.Module):
    """Two layers over one parameter, a third whose parameter is another object over the same memory, and a view of half of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(3, 4, bias=False) for _ in range(3))
        self.second.weight = self.first.weight
        self.third.weight.data = self.first.weight.data


def test_shared_counts_once() -> None:
    model = Tied()
    assert measure.parameters(model) == 12
    assert measure.nonzeros(model) == 12
    assert measure.stored_bytes(model) == 48


def test_equal_but_separate_counts_twice() -> None:
    first = nn.Linear(3, 4)
    second = nn.Linear(3, 4)
    second.load_state_dict(first.state_dict())
    assert measure.parameters(nn.Sequential(first, second)) == 32


def test_nonzeros() -> None:
    model = nn.Linear(5, 3)
    with torch.no_grad():
        model.weight.fill_(1e-30)[1] = 0
        model.bias.copy_(torch.tensor([0.0, -0.0, -2.0]))
    assert measure.parameters(model) == 18
    assert measure.nonzeros(model) == 11


def test_bytes_count_buffers_in_their_own_type() -> None:
    model = nn.Sequential(nn.Linear(5, 3).half(), nn.BatchNorm1d(3))
    assert measure.stored_bytes(model) == 18 * 2 + 4 * 3 * 4 + 8


def test_char_gpt_counts_its_tied_head_once() -> None:
    model = models.build("char-gpt", (16,), 65)
    assert measure.parameters(model) == sum(parameter.numel() for parameter in model.parameters())
    assert measure.stored_bytes(model) == 4 * measure.parameters(model)


def test_models_without_memory_or_parameters() -> None:
    assert measure.parameters(nn.Sequential(nn.Linear(3, 4, device="meta"), nn.Linear(3, 4, device="meta"))) == 32
    assert measure.parameters(nn.ReLU()) == measure.nonzeros(nn.ReLU()) == measure.stored_bytes(nn.ReLU()) == 0


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_layers_are_refused() -> None:
    with pytest.raises(UsageError, match="lazy layer"):
        measure.parameters(nn.LazyLinear(3))
