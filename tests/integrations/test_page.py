"""What the page on integrations shows runs as it stands, with the names it takes for granted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import parsinet as pn
from methods.toys import network, points

PAGE = (Path(__file__).parent.parent.parent / "docs" / "integrations.md").read_text(encoding="utf-8")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def shown(section: str) -> str:
    """The Python code of a section."""
    (part,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    (code,) = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    return code


def test_lightning() -> None:
    pytest.importorskip("lightning.pytorch")
    from integrations.toys import Toy, loader, trainer
    from parsinet.integrations.lightning import Prune

    names: dict[str, Any] = {"pn": pn, "Prune": Prune, "module": Toy(), "loader": loader()}
    exec(shown("Lightning"), {**names, "Trainer": lambda max_epochs, callbacks: trainer(callbacks, max_epochs=max_epochs)}, names)
    assert names["lean"] is names["module"].net
    assert all(map(torch.is_tensor, names["lean"].state_dict().values()))


def test_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from integrations.test_transformers import INPUTS, arguments, model, sequences
    from parsinet.integrations.transformers import Prune, from_pretrained, save_pretrained

    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"pn": pn, "Prune": Prune, "ids": INPUTS["input_ids"], "Trainer": transformers.Trainer, "model": model()}
    exec(
        shown("transformers' Trainer"),
        {"arguments": arguments(tmp_path), "dataset": sequences(), "save_pretrained": save_pretrained, **names},
        names,
    )
    again = from_pretrained("lean")
    with torch.no_grad():
        assert torch.equal(again(**INPUTS).logits, names["prune"].finish().eval()(**INPUTS).logits)


def test_accelerate() -> None:
    accelerate = pytest.importorskip("accelerate")
    from parsinet.integrations.accelerate import prepare_model, register_for_checkpointing

    model, method, (x, y) = network(), pn.methods.Gates(price=1e-3), points(64)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=0.01)
    names: dict[str, Any] = {"pn": pn, "model": model, "method": method, "optimizer": optimizer, "x": x, "cross_entropy": F.cross_entropy}
    names |= {"loader": DataLoader(TensorDataset(x, y), 16), "accelerator": accelerate.Accelerator(cpu=True)}
    exec(shown("Accelerate"), {"prepare_model": prepare_model, "register_for_checkpointing": register_for_checkpointing}, names)
    assert names["lean"] is model


def test_loggers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    pruner = pn.Pruner(net := network(), torch.optim.SGD(net.parameters(), lr=0.1), pn.methods.Gates(price=1e-3), points(4)[0])
    exec(shown("Loggers"), {"pn": pn, "pruner": pruner})
    assert list((tmp_path / "runs" / "mine" / "loggers" / "tensorboard").iterdir())
