"""The command line as a user meets it: help, results, and one sentence with an exit code for everything that is wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from parsinet import baselines, data, methods, models
from parsinet.cli import app, names
from parsinet.training import read_record, run
from parsinet.training.trackers import TRACKERS

RUN = ["train", "--model", "mlp", "--set", "model.widths=[16]", "--epochs", "1", "--threads", "1"]


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No colours, a wide page, and a folder of one's own to stand in."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)


def parsinet(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def refused(*arguments: str) -> tuple[int, str]:
    """Exit code and the one sentence of a command that must fail."""
    result = parsinet(*arguments)
    assert "Traceback" not in result.output
    assert result.stderr.startswith("parsinet: ")
    assert result.stderr.count("\n") == 1
    return result.exit_code, result.stderr


def test_train_report_and_resume_of_a_complete_run() -> None:
    begun = (*RUN, "--method", "gates", "--set", "method.price=3e-4", "--validation", "0.1", "--out", "run")
    result = parsinet(*begun)
    assert result.exit_code == 0, result.output
    assert "validation error" in result.stdout
    assert "Saved in run" in result.stdout
    stored = yaml.safe_load(Path("run/recipe.yaml").read_text())
    assert stored["method"] == {"name": "gates", "price": 3e-4}
    assert stored["data"]["validation"] == 0.1
    shown = parsinet("report", "run")
    assert shown.exit_code == 0, shown.output
    assert list(Path("run/report").glob("*.png"))
    assert refused("train", "--resume", "run") == (2, "parsinet: The run in run is complete; there is nothing to resume.\n")
    before = Path("run/record.jsonl").read_bytes()
    again = parsinet(*begun, "--auto-resume")
    assert (again.exit_code, again.stdout) == (0, "The run in run is complete; there is nothing left to do.\n"), "for jobs that restart"
    code, words = refused(*begun, "--auto-resume", "--epochs", "2")
    assert (code, "stored in run/recipe.yaml, which has epochs = 1, not 2. Go on without a recipe (--resume RUN)" in words) == (2, True)
    assert Path("run/record.jsonl").read_bytes() == before


def test_options_override_the_file_and_settings_override_options() -> None:
    Path("base.yaml").write_text("epochs: 7\nseed: 7\nmodel: {name: mlp, widths: [16]}\noptimizer: {lr: 7e-3}\nthreads: 1\n")
    result = parsinet(
        "train", "--recipe", "base.yaml", "--out", "run", "--epochs", "3", "--seed", "3", "--deterministic", "--set", "epochs=1"
    )
    assert result.exit_code == 0, result.output
    stored = yaml.safe_load(Path("run/recipe.yaml").read_text())
    assert (stored["epochs"], stored["seed"], stored["optimizer"]["lr"]) == (1, 3, 7e-3)
    assert stored["deterministic"]


def test_a_users_own_model_is_found_in_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("ownnets.py").write_text(
        "from torch import nn\ndef small(classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, classes))\n"
    )
    result = parsinet("train", "--model", "ownnets:small", "--epochs", "1", "--out", "run")
    assert result.exit_code == 0, result.output


REFUSED = [
    (["--data", "mnst"], 2, "Did you mean 'mnist'?"),
    (["--data", "none.npz"], 1, "none.npz"),
    (["--model", "mpl"], 2, "Did you mean 'mlp'?"),
    (["--model", "nosuch.module:net"], 2, "nosuch"),
    (["--method", "gate"], 2, "Did you mean 'gates'?"),
    (["--method", "gates", "--set", "method.prize=1"], 2, "Did you mean 'price'?"),
    (["--method", "gates", "--set", "method.price=-1"], 2, "price"),
    (["--method", "gates", "--set", "method.price=high"], 2, "price must be a number"),
    (["--set", "epoch=3"], 2, "Did you mean 'epochs'?"),
    (["--set", "model.width=[3]"], 2, "Did you mean 'widths'?"),
    (["--set", "model.widths=3"], 2, "widths"),
    (["--set", "epochs"], 2, "--set needs key.path=value"),
    (["--set", "epochs=["], 2, "not valid YAML"),
    (["--epochs", "0"], 2, "epochs must be ≥ 1, got 0."),
    (["--lr", "-1"], 2, "optimizer.lr must be > 0"),
    (["--validation", "1"], 2, "data.validation must be < 1"),
    (["--optimizer", "sdg"], 2, "Did you mean 'sgd'?"),
    (["--device", "gpu"], 2, "Unknown device 'gpu'"),
    (["--folder", "."], 2, "folder has no effect"),
    (["--recipe", "none.yaml"], 1, "Cannot read the recipe none.yaml"),
    (["--model", "char-gpt", "--set", "model={name: char-gpt}"], None, "char"),
    (["--optimizer", "sgd", "--lr", "1e12", "--epochs", "3"], 1, "The loss is not finite in epoch 1, step"),
    (["--resume", "run"], 2, "leave out all other settings"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), REFUSED, ids=[" ".join(arguments) for arguments, _, _ in REFUSED])
def test_bad_input_is_one_sentence(arguments: list[str], code: int | None, words: str) -> None:
    found, sentence = refused(*RUN, "--out", "run", *arguments)
    assert found == code or (code is None and found in (1, 2))
    assert words in sentence


def test_bad_data_files_are_one_sentence() -> None:
    Path("images/cat").mkdir(parents=True)
    Path("broken.npz").write_bytes(b"PK no archive")
    Path("short.txt").write_text("ab")
    for source in ("images", "broken.npz", "short.txt"):
        code, sentence = refused("train", "--data", source, "--out", "run")
        assert code == 1
        assert Path(source).stem in sentence


def test_a_folder_in_use_is_refused_unless_overwritten() -> None:
    assert parsinet(*RUN, "--out", "run").exit_code == 0
    code, sentence = refused(*RUN, "--out", "run")
    assert code == 2
    assert "--overwrite" in sentence
    assert parsinet(*RUN, "--out", "run", "--overwrite").exit_code == 0
    assert refused("train", "--resume", "elsewhere")[0] == 2
    assert refused("train", "--out", "run/recipe.yaml")[0] == 1
    assert refused("report", "elsewhere")[0] == 1
    assert refused("train")[0] == 2


def test_debug_shows_the_error_itself() -> None:
    result = parsinet(*RUN, "--out", "run", "--method", "gate", "--debug")
    assert result.exit_code != 0
    assert "gates" in str(result.exception)


def test_the_unexpected_is_one_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero\nsecond line")

    monkeypatch.setattr("parsinet.training.train", fail)
    code, sentence = refused(*RUN, "--out", "run")
    assert code == 70
    assert sentence == "parsinet: Unexpected ZeroDivisionError: division by zero. Run again with --debug for the traceback.\n"
    assert isinstance(parsinet(*RUN, "--out", "run", "--debug").exception, ZeroDivisionError)


def test_ctrl_c_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "assemble", interrupt)
    assert refused(*RUN, "--out", "run") == (130, "parsinet: Interrupted; this call has saved nothing, and what was there is as it was.\n")


def test_inspect_as_table_and_as_json() -> None:
    shown = parsinet("inspect", "--model", "lenet-5-caffe", "--input-shape", "1,28,28")
    assert shown.exit_code == 0, shown.output
    for words in ("conv1", "500", "425,050", "no: "):
        assert words in shown.stdout
    assert "100.0 % of 431,080 parameters lie in groups that can shrink." in shown.stdout
    found = json.loads(parsinet("inspect", "--model", "mlp", "--set", "model.widths=[16]", "--json").stdout)
    assert list(found) == ["model", "parameters", "removable_share", "groups"]
    assert [(row["name"], row["size"], row["removable"]) for row in found["groups"]] == [("fc1", 16, True), ("fc2", 10, False)]


def test_inspect_draws_the_network(tmp_path: Path) -> None:
    assert parsinet("inspect", "--model", "mlp", "--png", str(tmp_path / "mlp.png")).exit_code == 0
    assert (tmp_path / "mlp.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input-shape", "3,x"], "--input-shape needs whole numbers"),
        (["--input-shape", "3", "--data", "digits"], "exclude each other"),
        (["--data", "digits", "--classes", "3"], "--classes goes with --input-shape"),
        (["--model", "lenet-5-caffe", "--input-shape", "7"], "image"),
        (["--model", "mpl"], "Did you mean 'mlp'?"),
    ],
)
def test_inspect_refuses(arguments: list[str], words: str) -> None:
    code, sentence = refused("inspect", *arguments)
    assert code == 2
    assert words in sentence


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "dense"], "--table writes the report of all records that are there"),
        (["--seed", "3"], "--table writes the report of all records that are there"),
        (["--jobs", "2"], "--table writes the report of all records that are there"),
        ([], "holds no records, so there is nothing to report"),
    ],
)
def test_a_report_of_what_is_not_there_is_refused(options: list[str], words: str, tmp_path: Path) -> None:
    code, sentence = refused("bench", "quick", "--table", "--out", str(tmp_path / "none"), *options)
    assert code == 2
    assert words in sentence
    assert not (tmp_path / "none").exists()


def test_inspect_looks_for_the_place_of_the_picture_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def traced(*_: object, **__: object) -> None:
        raise AssertionError("the network was traced")

    monkeypatch.setattr("parsinet.training.inspect", traced)
    Path("taken.png").mkdir()
    for png, words in (("nodir/a.png", "there is no folder nodir. Make it"), ("taken.png", "it is a folder. Name a file")):
        code, sentence = refused("inspect", "--png", png)
        assert (code, words in sentence) == (1, True)


def test_inspect_asks_for_the_classes_of_a_network_of_ones_own() -> None:
    Path("twonets.py").write_text("from torch import nn\ndef two(): return nn.Linear(4, 2)\n")
    code, sentence = refused("inspect", "--model", "twonets:two", "--input-shape", "4")
    assert (code, "(2, 2), where (2, 10) is needed" in sentence, "--classes, here 10." in sentence) == (1, True, True)


def test_version_and_help_read_well() -> None:
    assert re.fullmatch(r"parsinet \d+\.\d+\.\d+\S*\n", parsinet("--version").stdout)
    assert parsinet("--nonsense").exit_code == 2
    for command, words in (
        ("train", "--set method.price=3e-4"),
        ("inspect", "--input-shape 3,32,32"),
        ("report", "runs/dense runs/gates --html comparison.html"),
        ("watch", "runs/first --browser"),
        ("demo", "--out runs/demo"),
    ):
        shown = parsinet(command, "--help")
        assert shown.exit_code == 0
        assert words in shown.stdout


def test_completion_knows_what_the_library_knows() -> None:
    assert data.names() == names.DATA
    assert methods.names() == names.METHODS
    assert baselines.names() == names.BASELINES
    assert models.names() == names.MODELS
    assert tuple(TRACKERS) == names.LOGGERS
    assert names.beginning(names.MODELS, "len") == ["lenet-300-100", "lenet-5-caffe"]


def completed(words: str) -> str:
    environment = {**os.environ, "_PARSINET_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    code = "import sys; sys.argv[0] = 'parsinet'; from parsinet.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False).stdout


def test_shell_completion_offers_names() -> None:
    assert completed("parsinet train --model lenet-5").split() == ["lenet-5-caffe"]
    assert completed("parsinet train --method g").split() == ["gates", "gmp", "group-lasso"]
    assert completed("parsinet inspect --data fashion").split() == ["fashion-mnist"]


@pytest.mark.slow
def test_the_demo_compares_dense_and_gates() -> None:
    result = parsinet("demo", "--out", "demo")
    assert result.exit_code == 0, result.output
    assert "of dense" in result.stdout
    ends = {name: read_record(Path("demo") / name / "record.jsonl")[-1] for name in ("dense", "gates")}
    assert ends["gates"]["after"]["parameters"] < 0.3 * ends["dense"]["after"]["parameters"]
    assert all(end["test_error"] < 0.03 for end in ends.values())
    assert list(Path("demo/report").glob("*.png"))
    assert "4 runs on digits" in Path("demo/report/report.html").read_text(encoding="utf-8")


def test_an_empty_folder_name_is_refused() -> None:
    """As of a shell variable that is not set: not the working folder."""
    for command in (("train", *RUN[1:]), ("report", "run"), ("demo",), ("bench", "quick")):
        result = parsinet(*command, "--out", "")
        assert result.exit_code == 2
        assert "it is empty; name a folder or file." in result.output
    assert not list(Path().iterdir())


UNUSABLE = {
    "octal": (("train", "--set", "epochs=010"), "epochs must be a valid integer, got '010'"),
    "sexagesimal": (("train", "--set", "epochs=1:30"), "epochs must be a valid integer, got '1:30'"),
    "yes for a rate": (("train", "--set", "optimizer.lr=true"), "optimizer.lr: must be a number, got True"),
    "a logger twice": (("train", "--logger", "tensorboard", "--logger", "tensorboard"), "loggers: each is told once"),
    "a price beyond numbers": (
        ("train", "--method", "gates", "--set", "method.price=1e300"),
        "price=1e+300 nats is more than a unit can be worth",
    ),
    "latency": (("train", "--method", "gates", "--set", "method.target=latency=9s"), "target latency=9000ms asks for more than"),
    "a method to inspect": (("inspect", "--set", "method.name=nope"), "There is no method 'nope'"),
    "a picture": (("inspect", "--png", "a.jpg"), "must end in .png, got 'a.jpg'"),
}


@pytest.mark.parametrize(("command", "words"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_cannot_be_meant_is_refused(command: tuple[str, ...], words: str) -> None:
    out = ("--out", "run") if command[0] == "train" else ()
    code, said = refused(*command, *out)
    assert code == 2
    assert words in said


def test_memory_that_is_not_there_is_told() -> None:
    code, said = refused(*RUN[:4], "model.widths=[99999999999999]", "--out", "run")
    assert code == 1
    assert "There is not enough memory for this" in said


def test_a_large_batch_size_costs_no_memory() -> None:
    result = parsinet(*RUN, "--set", "data.batch_size=99999999999", "--out", "run")
    assert result.exit_code == 0, result.output


def test_a_page_needs_the_ending_of_one() -> None:
    code, said = refused("report", "run", "--html", "page.txt")
    assert code == 2
    assert "--html takes a file whose name ends in .html, or nothing; page.txt is neither" in said
