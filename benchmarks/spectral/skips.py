"""Hidden nodes of a three-layer skip block against how far from linear its task is.

    python benchmarks/spectral/skips.py

Task after the published test: target (1 − q)·mean(x) + q·mean(x²) with q = ½(1 + tanh β(α − ½)); two inputs, 10,000 points, hidden layer of
300, ReLU, Adam 1e-3, batch 100, penalty 1e-4·Σ‖λ‖₂ on the first two layers. Ours: x uniform on (−1, 1)², biases beside the operator, 60
epochs instead of 300, one seed, five values of α. A node counts as on if its activity exceeds 0.01. Written to results/skips.json.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch

from parsinet import spectral
from parsinet.bench import run_script

HIDDEN, POINTS, BATCH, EPOCHS, THRESHOLD = 300, 10_000, 100, 60, 0.01


def main() -> None:
    torch.set_num_threads(1)
    rows = [measure(alpha, beta) for beta in (5.0, 1000.0) for alpha in (0.0, 0.25, 0.5, 0.75, 1.0)]
    text = json.dumps({"command": "python benchmarks/spectral/skips.py", "torch": torch.__version__, "rows": rows}, indent=1)
    (Path(__file__).parent / "results" / "skips.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def measure(alpha: float, beta: float) -> dict[str, float]:
    """Error and hidden nodes after training at one α and β."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(POINTS, 2, generator=generator) - 1
    quadratic = 0.5 * (1 + math.tanh(beta * (alpha - 0.5)))
    target = ((1 - quadratic) * x.mean(1) + quadratic * x.square().mean(1))[:, None]
    block = train(spectral.SkipBlock((2, HIDDEN, 1), generator), x, target, generator)
    with torch.no_grad():
        (activity,) = block.activity()
        errors = [float((net(x) - target).square().mean() / target.var()) for net in (block, block.fold(THRESHOLD))]
        return {
            "alpha": alpha,
            "beta": beta,
            "quadratic share": round(quadratic, 4),
            "rest of the variance": round(errors[0], 6),
            "rest of the variance, folded": round(errors[1], 6),
            "nodes on": int((activity > THRESHOLD).sum()),
            "largest activity": round(float(activity.max()), 5),
            "nodes with |lambda_2| > 0.001": int((block.lambdas[1].abs() > 1e-3).sum()),
        }


def train(block: spectral.SkipBlock, x: torch.Tensor, target: torch.Tensor, generator: torch.Generator) -> spectral.SkipBlock:
    optimizer = torch.optim.Adam(block.parameters(), lr=1e-3, fused=True)
    for _ in range(EPOCHS):
        for some in torch.randperm(POINTS, generator=generator).split(BATCH):
            optimizer.zero_grad()
            ((block(x[some]) - target[some]).square().mean() + 1e-4 * block.penalty()).backward()
            optimizer.step()
    return block


if __name__ == "__main__":
    run_script(main)
