"""docs/pictures/gates.png: θ of the first layer while LeNet-300-100 learns MNIST, and what is left of the network, from a record.

python docs/pictures/gates.py
"""

from __future__ import annotations

import json
from pathlib import Path

from parsinet.report import style

HERE = Path(__file__).parent
RECORD = HERE.parent.parent / "benchmarks" / "gates_defaults" / "results" / "lenet-300-100-default-seed0.jsonl"
SHOWN = (1, 2, 3, 5, 8)


def main() -> None:
    epochs = [event for event in map(json.loads, RECORD.read_text(encoding="utf-8").splitlines()) if event["event"] == "epoch"]
    page = style.figure(8.6, 3.5)
    left = style.axes(page, 0.75, 0.65, 3.2, 2.3)
    ends, words = [], []
    for colour, epoch in zip(style.COLOURS, SHOWN, strict=False):
        theta = sorted(epochs[epoch - 1]["method"]["groups"]["fc1"]["theta"], reverse=True)
        left.plot(range(1, len(theta) + 1), theta, color=colour, linewidth=1.6)
        ends.append((len(theta), theta[-1]))
        words.append(f"after {epoch} epoch{'s' if epoch > 1 else ''}: {len(theta)} units")
    left.set_xlim(0, 305)
    left.set_ylim(-0.02, 1.04)
    for line, (word, colour) in enumerate(zip(words, style.COLOURS, strict=False)):
        style.note(left, 0.6, 0.99 - 0.07 * line, word, colour=colour)
    style.x_title(left, "units of the first layer, best first")
    style.note(left, 0, 1.12, "θ, the probability that a unit is open", size=style.BODY)
    right = style.axes(page, 5.0, 0.65, 2.6, 2.3)
    numbers = [epoch["epoch"] for epoch in epochs]
    curves = {
        "units, layer 1": [epoch["widths"]["fc1"] / 300 for epoch in epochs],
        "units, layer 2": [epoch["widths"]["fc2"] / 100 for epoch in epochs],
        "multiply-adds": [epoch["macs"] / 266_200 for epoch in epochs],
    }
    for colour, values in zip(style.COLOURS, curves.values(), strict=False):
        right.plot([0, *numbers], [1.0, *values], color=colour, linewidth=1.6)
    right.set_ylim(0, 1.04)
    right.set_xlim(0, numbers[-1])
    style.percent_ticks(right, 4)
    right.set_xticks(range(0, numbers[-1] + 1, 5))
    style.end_labels(right, [(numbers[-1], values[-1]) for values in curves.values()], list(curves), style.COLOURS[:3])
    style.x_title(right, "epochs")
    style.note(right, 0, 1.12, "what is left", size=style.BODY)
    (HERE / "gates.png").write_bytes(style.png(page))


if __name__ == "__main__":
    main()
