"""Einstein sums written out: the same sums as torch's, and units that leave through an ellipsis."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import parsinet as pn
from parsinet.structure.letters import terms_of

SUMS = {
    "none": ("ij,jk->ik", (2, 3), (3, 4)),
    "dots": ("...i,io->...o", (2, 5, 3), (3, 4)),
    "dots of unequal length": ("...ij,...jk->...ik", (6, 2, 5, 3), (2, 3, 4)),
    "no result": ("ij,jk", (2, 3), (3, 4)),
    "letters out of order": ("bj,ja", (2, 3), (3, 4)),
    "dots and no result": ("...i,i", (2, 5, 3), (3,)),
    "spaces": ("b c, c d -> b d", (2, 3), (3, 4)),
}


@pytest.mark.parametrize(("equation", "first", "second"), SUMS.values(), ids=SUMS)
def test_the_sum_written_out_is_the_sum(equation: str, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    a, b = torch.randn(first, dtype=torch.float64), torch.randn(second, dtype=torch.float64)
    terms, result = terms_of(equation, [a.dim(), b.dim()])
    assert [len(term) for term in terms] == [a.dim(), b.dim()]
    assert "." not in result
    assert torch.equal(torch.einsum(f"{','.join(terms)}->{result}", a, b), torch.einsum(equation, a, b))


class _Dotted(nn.Module):
    def __init__(self, equation: str) -> None:
        super().__init__()
        self.equation = equation
        self.first, self.mix, self.last = nn.Linear(4, 6), nn.Parameter(torch.randn(6, 7)), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.einsum(self.equation, self.first(x), self.mix).relu())  # type: ignore[no-any-return]


@pytest.mark.parametrize("equation", ["...i,io->...o", "bti,io->bto", "... i, i o -> ... o"])
def test_units_leave_through_an_ellipsis(equation: str) -> None:
    torch.manual_seed(0)
    model, x = _Dotted(equation).double(), torch.randn(3, 5, 4, dtype=torch.float64)
    structure = pn.trace(model, x)
    plan = structure.plan({"first": torch.arange(6) < 4, "mix": torch.arange(7) > 2})
    before = pn.measure.macs(model, x[:1])
    with pn.silence(model, plan):
        wanted = model(x)
    pn.shrink(model, plan)
    assert torch.allclose(model(x), wanted, atol=1e-12)
    assert before == 5 * (4 * 6 + 6 * 7 + 7 * 2)
    assert pn.measure.macs(model, x[:1]) == 5 * (4 * 4 + 4 * 4 + 4 * 2)


def test_diagonals_keep_what_they_meet_and_say_why() -> None:
    class Diagonal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.square, self.last = nn.Linear(4, 6), nn.Parameter(torch.randn(6, 6)), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x) * torch.einsum("ii->i", self.square))  # type: ignore[no-any-return]

    assert "depends on the order of its indices" in pn.trace(Diagonal(), torch.randn(2, 4)).group("first").reason
