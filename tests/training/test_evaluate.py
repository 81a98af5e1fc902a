"""Evaluation against one plain pass."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from parsinet.data import Split
from parsinet.errors import UsageError
from parsinet.training import evaluate


def test_mean_over_examples_whatever_the_batch_size() -> None:
    generator = torch.Generator().manual_seed(0)
    split = Split(torch.randn(103, 5, generator=generator, dtype=torch.float64), torch.randint(0, 4, (103,), generator=generator))
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).double()
    model.eval()
    logits = model(split.inputs)
    expected = functional.cross_entropy(logits, split.targets).item()
    wrong = (logits.argmax(1) != split.targets).double().mean().item()
    for batch_size in (1, 10, 103, 1000):
        found = evaluate(model, split, batch_size=batch_size)
        assert found.loss == pytest.approx(expected, rel=1e-12)
        assert found.error == pytest.approx(wrong, rel=1e-12)


def test_characters_count_one_by_one() -> None:
    split = Split(torch.randint(0, 7, (4, 9)), torch.randint(0, 7, (4, 9)))
    model = nn.Embedding(7, 7)
    found = evaluate(model, split, batch_size=3)
    logits = model(split.inputs)
    assert found.loss == pytest.approx(functional.cross_entropy(logits.view(-1, 7), split.targets.view(-1)).item(), rel=1e-5)
    assert found.error == (logits.argmax(-1) != split.targets).double().mean().item()


def test_every_training_flag_is_put_back_even_after_a_failure() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
    model.train()
    model[1].eval()
    before = model[1].running_mean.clone()
    evaluate(model, Split(torch.randn(8, 5), torch.zeros(8, dtype=torch.int64)))
    with pytest.raises(RuntimeError):
        evaluate(model, Split(torch.randn(8, 3), torch.zeros(8, dtype=torch.int64)))
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert torch.equal(model[1].running_mean, before)


def test_batch_size_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="batch_size must be ≥ 1, got 0"):
        evaluate(nn.Linear(1, 2), Split(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64)), batch_size=0)
