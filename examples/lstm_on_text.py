"""A recurrent language model of one's own loses embedding dimensions and LSTM units.

python examples/lstm_on_text.py [--epochs 10] [--characters 60000]
"""

from __future__ import annotations

import argparse
import copy

import torch
from before_after import show
from sample_text import load
from torch import Tensor, nn

import parsinet as pn


class CharLSTM(nn.Module):
    """Characters → embedding → LSTM → scores of the next character."""

    def __init__(self, characters: int, width: int = 32, hidden: int = 128) -> None:
        super().__init__()
        self.embed = nn.Embedding(characters, width)
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.head = nn.Linear(hidden, characters)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(self.embed(x))
        return self.head(states)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--characters", type=int, default=60_000)
    options = parser.parse_args()

    torch.manual_seed(0)
    data = load(options.characters, block=32)
    batches = pn.data.Batches(data.train, batch_size=32)
    model = CharLSTM(data.num_classes)
    before = copy.deepcopy(model)
    loss_fn = pn.training.cross_entropy

    method = pn.methods.Gates(target="params=30%")
    optimizer = torch.optim.Adam(method.param_groups(model), lr=4e-3)
    pruner = pn.Pruner(model, optimizer, method, data.train.inputs[:2], steps=options.epochs * len(batches), round_to=4)

    for _ in range(options.epochs):
        for x, y in batches:
            loss = loss_fn(model(x), y) + pruner.penalty()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.step(lambda x=x, y=y: loss_fn(model(x), y))

    lean = pruner.finish().eval()
    print(lean)
    with torch.no_grad():
        loss = float(loss_fn(lean(data.test.inputs), data.test.targets))
    show(before, lean, data.test.inputs[:32])
    print(f"test loss {loss:.3f} nats per character, {data.num_classes} characters")


if __name__ == "__main__":
    main()
