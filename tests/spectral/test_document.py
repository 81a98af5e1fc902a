"""What docs/spectral.md shows runs as it stands, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from torch import nn

from parsinet import spectral

PAGE = (Path(__file__).parents[2] / "docs" / "spectral.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    names: dict[str, object] = {}
    exec(compile(code, "spectral.md", "exec"), names)
    model = names["model"]
    assert isinstance(model, nn.Module)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert (tmp_path / "task.safetensors").exists()
    assert spectral.trained_parameters(spectral.spectralize(model)) == 384


@pytest.mark.parametrize("name", [*spectral.VARIANTS, *spectral.INITIALISERS])
def test_every_name_is_in_a_table(name: str) -> None:
    assert re.search(rf"^\| .*`{re.escape(name)}`", PAGE, re.MULTILINE)


def test_the_mirror_form_has_the_printed_count() -> None:
    model = nn.Sequential(nn.Linear(784, 100), nn.Linear(100, 100), nn.Linear(100, 10))
    assert spectral.trained_parameters(spectral.spectralize(model, "one-set-in")) == 1_194
