"""What shares memory without being one parameter is refused, since a removal would part it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import parsinet as pn
from parsinet.errors import StructureError


class Language(nn.Module):
    """An embedding, a layer and a head that reads with the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.layer, self.head = nn.Embedding(8, 8), nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.register_buffer("kept", torch.ones(8, 8))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        return self.head(x + torch.relu(self.layer(x)))


def by_data(model: Language) -> None:
    model.head.weight.data = model.embed.weight.data


def by_transposed_data(model: Language) -> None:
    model.head.weight.data = model.embed.weight.data.t()


def by_view(model: Language) -> None:
    model.head.weight = nn.Parameter(model.embed.weight.detach())


def in_a_buffer(model: Language) -> None:
    model.kept = model.embed.weight.detach()


TIES: list[Callable[[Language], None]] = [by_data, by_transposed_data, by_view, in_a_buffer]


@pytest.mark.parametrize("tie", TIES)
def test_a_tie_by_memory_is_refused_with_the_remedy(tie: Callable[[Language], None]) -> None:
    model = Language()
    tie(model)
    with pytest.raises(StructureError, match=r"embed\.weight and (head\.weight|kept) share memory .* \(layer\.weight = other\.weight\)"):
        pn.trace(model, torch.randint(8, (2, 5)))


def test_a_tie_as_torch_has_it_stays_one() -> None:
    model = Language()
    model.head.weight = model.embed.weight
    pn.shrink(model, pn.trace(model, torch.randint(8, (2, 5))).plan({"embed": torch.arange(8) % 2 == 0}))
    assert model.head.weight is model.embed.weight
    assert model.head.weight.shape == (8, 4)


def test_empty_parameters_and_buffers_that_share_memory_are_no_matter() -> None:
    model = Language()
    model.register_parameter("none", nn.Parameter(torch.empty(0)))
    model.register_parameter("nothing", nn.Parameter(torch.empty(0)))
    model.register_buffer("kept_too", model.kept)
    assert pn.trace(model, torch.randint(8, (2, 5))).group("embed").removable
