"""What a training shows, in a terminal and in a file."""

import io

import pytest
import torch
from rich.console import Console
from torch import nn

from parsinet.training import LoopState
from parsinet.training.display import Display, changes, epoch_line

EPOCH = {
    "event": "epoch", "epoch": 3, "epochs": 20, "step": 30, "loss": 0.12345, "train_error": 0.0321, "validation_loss": None,
    "validation_error": None, "parameters": 43602, "macs": 43496, "seconds": 4.25, "widths": {"fc1": 52, "fc2": 44},
}  # fmt: skip
REMOVALS = [
    {"event": "removal", "groups": {"fc2": [100, 60]}, "parameters": 9, "macs": 8},
    {"event": "removal", "groups": {"fc2": [60, 44], "fc1": [300, 52]}, "parameters": 7, "macs": 6},
]


def shown(terminal: bool) -> tuple[Display, io.StringIO]:
    file = io.StringIO()
    return Display(Console(file=file, force_terminal=terminal, width=160), "net", 100), file


def test_epoch_on_one_line() -> None:
    line = epoch_line(EPOCH)
    assert line == "epoch  3/20  loss 0.1235  train error  3.21 %  43,602 parameters  43,496 MACs  4.2 s"
    assert "validation error  4.50 %" in epoch_line({**EPOCH, "validation_error": 0.045})
    assert changes([("fc1", (300, 212))]) == "fc1 300→212"


def test_without_a_terminal_an_epoch_gathers_its_removals() -> None:
    display, file = shown(terminal=False)
    with display:
        for event in (*REMOVALS, EPOCH, {**EPOCH, "epoch": 4}):
            display.show(event)
    lines = file.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[1] == "  fc1 300→52, fc2 100→44"
    assert "\x1b" not in file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_every_event_is_told(terminal: bool) -> None:
    display, file = shown(terminal)
    end = {
        "event": "end", "test_error": 0.02, "before": {"parameters": 100, "macs": 100}, "after": {"parameters": 25, "macs": 20},
        "latency": [{"batch": 1, "before": {"median": 2e-3}, "after": {"median": 1e-3}}], "train_seconds": 3.0,
    }  # fmt: skip
    with display:
        for event in ({"event": "resumed", "epoch": 2, "step": 1000}, {"event": "settled", "step": 1200}, *REMOVALS, EPOCH, end):
            display.show(event)
    for words in (
        "Resumed at epoch 2, step 1,000",
        "fixed from step 1,200",
        *(("fc2 100→60", "fc1 300→52, fc2 60→44") if terminal else ("fc1 300→52, fc2 100→44",)),
        "epoch  3/20",
        "test error 2.00 %",
        "25.00 % of the start",
    ):
        assert words in file.getvalue()


def test_in_a_terminal_the_bar_is_redrawn_now_and_then() -> None:
    display, file = shown(terminal=True)
    model = nn.Linear(2, 2)

    class Batches:
        epoch = 0

    state = LoopState(model, torch.optim.SGD(model.parameters(), lr=0.1), Batches(), 5)  # type: ignore[arg-type]
    state.tally.add(torch.tensor(0.5), torch.tensor(1), 4)
    state.tally.read()
    with display:
        display.show({"event": "start", "parameters": 6, "macs": 4})
        for state.step in range(1, 1000):
            display.on_step(state)
    text = file.getvalue()
    assert "epoch 1/5  loss 0.500  error 25.00 %  6 parameters" in text
    assert text.count("loss 0.5000") < 20
