"""The first example of docs/sphere.md runs and learns."""

import re
from pathlib import Path

import pytest
import torch

import parsinet as pn

PAGE = Path(__file__).parents[2] / "docs" / "sphere.md"


@pytest.mark.slow
def test_the_page_code_runs(capsys):
    code, *_ = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile(code, str(PAGE), "exec"), names)
    assert capsys.readouterr().out.startswith("fc1 0.")
    model, test = names["model"].eval(), names["data"].test
    assert (model(test.inputs).argmax(1) != test.targets).float().mean() < 0.06
    for name, p in (("fc1", 1.2), ("fc2", 1.3)):
        weight = model.get_submodule(name).weight.detach()
        assert (pn.sphere.unit_norm(weight, p) - 1).abs().max() < 1e-5
