"""A Hugging Face model is trained on one task, then fine-tuned to another by its eigenvalues alone, which are a file of some kilobytes.

python examples/finetune_by_eigenvalues.py [--steps 200]      (needs pip install "parsinet[transformers]")

The model is a tiny BERT that is trained here, so nothing is downloaded; with a pretrained one the second half of the code is the same.
Sentences are 12 random words. First task: which quarter of the vocabulary is most frequent in them? Second: which is the least frequent?
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path

import torch
from before_after import show
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification

import parsinet as pn

WORDS = 64


class Logits(nn.Module):
    """The model with its logits as only output."""

    def __init__(self) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=WORDS, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, num_labels=4
        )
        self.bert = BertForSequenceClassification(config)

    def forward(self, ids: Tensor) -> Tensor:
        return self.bert(input_ids=ids).logits


def examples(count: int, most: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sentences, and which quarter of the vocabulary is most (or least) frequent in each; ties are decided by lot."""
    ids = torch.randint(WORDS, (count, 12), generator=generator)
    often = functional.one_hot(ids * 4 // WORDS, 4).sum(1) + 0.1 * torch.rand(count, 4, generator=generator)
    return ids, often.argmax(1) if most else often.argmin(1)


def train(model: nn.Module, steps: int, most: bool, lr: float, generator: torch.Generator) -> None:
    optimizer = torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad], lr=lr)
    for _ in range(steps):
        ids, labels = examples(64, most, generator)
        functional.cross_entropy(model.train()(ids), labels).backward()
        optimizer.step()
        optimizer.zero_grad()


def accuracy(model: nn.Module, ids: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((model.eval()(ids).argmax(1) == labels).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()

    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = Logits()
    train(model, options.steps, True, 1e-3, generator)
    before = copy.deepcopy(model)
    test = examples(1000, False, generator)

    trained = by_eigenvalues(model)
    train(model, options.steps, False, 1e-2, generator)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "task.safetensors")
        pn.spectral.save_eigenvalues(model, file)
        again = copy.deepcopy(before)
        by_eigenvalues(again)
        pn.spectral.load_eigenvalues(again, file)
        print(f"{trained:,} numbers train in the second task; they are a file of {file.stat().st_size:,} bytes")
    print("the file gives the same network:", torch.equal(again.eval()(test[0]), model.eval()(test[0])))
    plain = pn.spectral.fold(model)
    show(before, plain, test[0][:64], second_task=(accuracy(before, *test), accuracy(plain, *test)))


def by_eigenvalues(model: nn.Module) -> int:
    """Freeze everything and let the eigenvalues of the linear layers train; returns how many numbers these are, biases included."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    linear = [name for name, part in model.named_modules() if type(part) is nn.Linear]
    pn.spectral.spectralize(model, "two-set", layers=linear)  # the same function
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


if __name__ == "__main__":
    main()
