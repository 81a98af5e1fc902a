"""From the folder of a run, or of a saved network, to a file: in Python and on the command line."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from typer.testing import CliRunner

import parsinet as pn
from parsinet.cli import app, names
from parsinet.errors import DataError, StorageError, UsageError
from parsinet.training import recipe_from, train

RECIPE = {
    "data": {"source": "digits", "batch_size": 128},
    "model": {"name": "mlp", "widths": [16]},
    "method": {"name": "magnitude-units", "share": 0.5},
    "epochs": 1,
    "threads": 1,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    train(recipe_from(RECIPE), folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it in the current folder, a wide terminal without colours."""
    for name, value in {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(finished, "run"))


def parsinet(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["export", *arguments])


def refused(*arguments: str) -> tuple[int, str]:
    result = parsinet(*arguments)
    assert result.stderr.startswith("parsinet: ")
    assert result.stderr.count("\n") == 1
    return result.exit_code, result.stderr


def test_what_a_run_offers(run: Path) -> None:
    what = pn.export.of_run(run)
    assert what.real
    assert what.inputs.shape == (128, 1, 8, 8)
    assert pn.measure.parameters(what.model) < pn.measure.parameters(what.factory())
    assert torch.equal(what.inputs, pn.data.load("digits").test.inputs[:128])
    other = pn.export.of_run(run, random_inputs=True)
    assert not other.real
    assert other.inputs.shape == what.inputs.shape
    assert torch.equal(other.model(what.inputs), what.model(what.inputs))


@pytest.mark.parametrize("target", ["torch-export", "safetensors", "csr"])
def test_the_command_writes_beside_the_run(target: str, run: Path) -> None:
    result = parsinet("run", "--to", target)
    assert result.exit_code == 0, result.output
    place = run / "export" / {"torch-export": "model.pt2"}.get(target, target)
    assert place.exists()
    assert str(place) in result.stdout
    assert refused("run", "--to", target)[1].endswith("exists already. Delete it, or choose another place.\n")


@pytest.mark.slow
def test_the_command_writes_onnx(run: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    result = parsinet("run", "--to", "onnx", "--out", "lean.onnx")
    assert result.exit_code == 0, result.output
    assert "outputs on batches of 1, 3, 128 differ by" in result.stdout
    assert re.search(
        r"batch 64: torch [\d,]+ µs \(p95 [\d,]+\), ONNX Runtime [\d,]+ µs \(p95 [\d,]+\), \d+\.\d\d times as fast", result.stdout
    )


def test_the_card_says_what_the_record_says(run: Path) -> None:
    assert parsinet("run", "--to", "bundle", "--license", "apache-2.0").exit_code == 0
    folder = run / "export" / "bundle"
    text = (folder / "README.md").read_text(encoding="utf-8")
    end = json.loads((run / "record.jsonl").read_text().splitlines()[-1])
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["license"] == "apache-2.0"
    assert header["library_name"] == "pytorch"
    assert header["pipeline_tag"] == "image-classification"
    assert "magnitude-units" in header["tags"]
    assert header["model-index"][0]["results"][0]["metrics"] == [{"type": "accuracy", "value": round(1 - end["test_error"], 6)}]
    assert f"| parameters | {end['before']['parameters']:,} | {end['after']['parameters']:,} |" in text
    assert f"| MACs per example | {end['before']['macs']:,} | {end['after']['macs']:,} |" in text
    assert f"**{100 * end['test_error']:.2f} %** on 359 examples" in text
    assert "| forward pass, batch 64 |" in text
    config = json.loads((folder / "config.json").read_text())
    data = pn.data.load("digits")
    assert (tuple(config["mean"]), tuple(config["std"]), tuple(config["classes"])) == (data.mean, data.std, data.classes)
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(text)
    assert card.data.eval_results[0].metric_value == header["model-index"][0]["results"][0]["metrics"][0]["value"]


def _rows(folder: Path, names: tuple[str, ...], change: float = 0.0) -> None:
    x = np.random.default_rng(0).normal(size=(60, 6)) + change
    np.savez(folder / "rows.npz", x=x, y=np.array([names[k % len(names)] for k in range(60)]))


def test_a_bundle_tells_of_the_data_it_was_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Class names and standardisation as they were, whatever has become of the data; other shapes or numbers of classes are refused."""
    monkeypatch.chdir(tmp_path)
    _rows(tmp_path, ("cat", "dog"))
    train(recipe_from(RECIPE | {"data": {"source": "rows.npz", "batch_size": 16}}), tmp_path / "run")
    wanted = pn.data.load("rows.npz")
    _rows(tmp_path, ("ape", "dog"), 3.0)
    for place, more in (("later", ()), ("random", ("--random-inputs",))):
        assert parsinet("run", "--to", "bundle", "--out", place, *more).exit_code == 0
        config = json.loads((tmp_path / place / "config.json").read_text())
        assert config["classes"] == ["cat", "dog"]
        assert tuple(config["mean"]) == pytest.approx(wanted.mean)
    _rows(tmp_path, ("ant", "cat", "dog"))
    code, said = refused("run", "--to", "bundle", "--out", "refused")
    assert (code, "then 2 classes and examples [6], now 3 and [6]" in said) == (1, True)
    assert not (tmp_path / "refused").exists()


def test_a_saved_folder(run: Path) -> None:
    arguments = ["run/model", "--to", "bundle", "--model", "mlp", "--set", "model.widths=[16]", "--input-shape", "1,8,8", "--out", "lean"]
    assert parsinet(*arguments).exit_code == 0
    assert "| parameters | MACs per example |" in Path("lean/README.md").read_text()
    assert "has not been stated" in Path("lean/README.md").read_text()
    text = pn.models.build("char-gpt", (6,), 11, width=16, depth=1)
    pn.save(text, "text")
    what = pn.export.of_folder("text", "char-gpt", (6,), 11, {"width": 16, "depth": 1})
    assert what.inputs.dtype == torch.int64
    assert int(what.inputs.max()) < 11


def test_an_own_model_goes_into_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Softplus(), nn.Linear(4, 3))
    left = pn.export.bundle(model, torch.randn(5, 3, 4), "own")
    assert "class Network" in (left.path / "model.py").read_text()


REFUSED = [
    (["nowhere", "--to", "onnx"], 2, "nowhere holds no run."),
    (["run", "--to", "onxx"], 2, "Unknown target 'onxx'. Did you mean 'onnx'?"),
    (["run", "--to", "onnx", "--batch", "3"], 2, "batch has no effect with onnx; it belongs to csr."),
    (["run", "--to", "csr", "--license", "mit"], 2, "license has no effect with csr; it belongs to bundle."),
    (["run", "--to", "bundle", "--license", "My own"], 2, "the licence is an identifier"),
    (["run", "--to", "csr", "--out", "run/record.jsonl"], 1, "exists already"),
    (["run/model", "--to", "csr"], 2, "Add --model NAME --input-shape C,H,W"),
    (["run", "--to", "csr", "--model", "mlp"], 2, "--model and --input-shape go together"),
    (["run", "--to", "csr", "--model", "mlp", "--input-shape", "1,8,8"], 2, "run holds a run, whose recipe names the model"),
    (["run/model", "--to", "csr", "--model", "mpl", "--input-shape", "1,8,8"], 2, "Did you mean 'mlp'?"),
    (["run/model", "--to", "csr", "--model", "mlp", "--input-shape", "1,8,8"], 1, "The factory must build the original architecture"),
    (["run/model", "--to", "csr", "--model", "mlp", "--input-shape", "64", "--set", "epochs=3"], 2, "only options of the model"),
    (["run/model", "--to", "csr", "--model", "mlp", "--input-shape", "64", "--random-inputs"], 2, "--random-inputs has no effect"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), REFUSED, ids=[" ".join(arguments) for arguments, _, _ in REFUSED])
def test_bad_input_is_one_sentence_and_leaves_nothing(arguments: list[str], code: int, words: str, run: Path) -> None:
    before = sorted(run.rglob("*"))
    found, sentence = refused(*arguments)
    assert words in sentence
    assert found == code
    assert sorted(run.rglob("*")) == before


def test_a_run_that_has_not_ended_says_how_to_go_on(run: Path) -> None:
    lines = (run / "record.jsonl").read_text().splitlines()
    (run / "record.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(UsageError, match=r"The run in run has not ended \(1 epochs done\)\. Go on with: parsinet train --resume run\."):
        pn.export.of_run(run)
    (run / "record.jsonl").unlink()
    with pytest.raises(UsageError, match="0 epochs done"):
        pn.export.of_run(run)


def test_damage_and_missing_data_are_told(run: Path) -> None:
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("source: digits", "source: none.npz"))
    with pytest.raises(DataError, match=r"none\.npz.*Or compare on random numbers: --random-inputs"):
        pn.export.of_run(run)
    assert not pn.export.of_run(run, random_inputs=True).real
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(StorageError, match="does not match its checksum"):
        pn.export.of_run(run, random_inputs=True)


def test_a_run_that_is_replaced_takes_its_exports_with_it(run: Path) -> None:
    (run / "export").mkdir()
    (run / "export" / "model.onnx").write_text("of the old network")
    train(recipe_from(RECIPE), run, overwrite=True)
    assert not (run / "export").exists()


def test_completion_knows_the_targets() -> None:
    assert pn.export.names() == names.EXPORTS
    assert "parsinet export runs/first --to onnx" in parsinet("--help").stdout
