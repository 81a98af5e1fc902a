"""A user's network that fails on one rank: env FAULT says how (raise, kill), FAULT_RANK where; not once the job has been restarted.

With env SEEN, a folder, every process writes down there which examples each of its training passes has had. Copies that parsinet tries
before the training write there too; the last line of a pass is the training's.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

STEP = 12


class Faulty(nn.Module):
    """A small network that counts its training passes."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.fc1, self.out = nn.Linear(inputs, 24), nn.Linear(24, classes)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled() and not torch.compiler.is_exporting():
            self.passes += 1
            if "SEEN" in os.environ:
                self._tell(x)
            self._fail()
        return self.out(torch.relu(self.fc1(x.flatten(1))))

    def _tell(self, x: Tensor) -> None:
        rows = [hashlib.sha256(row.numpy().tobytes()).hexdigest()[:12] for row in x.detach()]
        with (Path(os.environ["SEEN"]) / f"rank-{os.environ.get('RANK', '0')}.jsonl").open("a") as file:
            file.write(json.dumps({"pass": self.passes, "examples": rows}) + "\n")

    def _fail(self) -> None:
        here = os.environ.get("FAULT_RANK") == os.environ.get("RANK") and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
        if not here or self.passes != STEP:
            return
        if os.environ["FAULT"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError(f"the input of rank {os.environ['RANK']} is bad")


def build(input_shape: Sequence[int], classes: int) -> nn.Module:
    """As `--model` calls it."""
    return Faulty(torch.Size(input_shape).numel(), classes)
