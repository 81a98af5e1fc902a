"""The commands and their manual."""

from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from parsinet.cli import options
from parsinet.cli.guard import guarded

app = typer.Typer(
    name="parsinet",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Train small: PyTorch networks that become smaller while they train, and stay plain PyTorch modules.",
    epilog="Begin with `parsinet demo --out runs/demo`, then `parsinet train --help`.",
)

TRAIN_EPILOG = """
**Examples**

    parsinet train --data digits --model lenet-300-100 --method gates --out runs/first

    parsinet train --data mnist --method gates --set method.price=3e-4 --epochs 20 --out runs/mnist

    parsinet train --recipe runs/first/recipe.yaml --seed 1 --out runs/second

    parsinet train --model mypackage.nets:small --set model.width=64 --data images/ --out runs/mine

    parsinet train --resume runs/first

    torchrun --nproc-per-node 2 -m parsinet train --data mnist --method gates --auto-resume --out runs/two

What `--recipe` says is overridden by options, and these by `--set`. The folder holds recipe.yaml (every setting), record.jsonl
(what happened, step by step), model/ (the result) and checkpoint/. A run survives Ctrl-C, SIGTERM and kill -9: it is saved after every
epoch, or as `--set checkpoint.every.minutes=10` says, and `--resume` goes on bitwise as if it had never stopped. A run locks its folder.
"""
INSPECT_EPILOG = """
**Examples**

    parsinet inspect --model lenet-5-caffe --data mnist

    parsinet inspect --model resnet-20 --input-shape 3,32,32 --classes 10

    parsinet inspect --model mypackage.nets:small --input-shape 64 --json

    parsinet inspect --model tiny-vit --input-shape 1,28,28 --png tiny-vit.png
"""
REPORT_EPILOG = """
**Examples**

    parsinet report runs/first

    parsinet report runs/dense runs/gates --out runs/comparison
"""
DEMO_EPILOG = """
**Example**

    parsinet demo --out runs/demo
"""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"parsinet {metadata.version('parsinet')}")
        raise typer.Exit


@app.callback()
def _parsinet(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")] = False,
) -> None:
    """Commands are added below."""


@app.command(epilog=TRAIN_EPILOG)
@guarded
def train(
    out: options.Out = None,
    recipe: options.RecipeFile = None,
    data: options.Data = None,
    folder: options.DataFolder = None,
    download: options.Download = False,
    model: options.Model = None,
    method: options.Method = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    optimizer: options.Optimizer = None,
    lr: options.LearningRate = None,
    validation: options.Validation = None,
    round_to: options.RoundTo = None,
    seed: options.Seed = None,
    threads: options.Threads = None,
    device: options.Device = None,
    deterministic: options.Deterministic = None,
    logger: options.Loggers = None,
    settings: options.Settings = None,
    overwrite: options.Overwrite = False,
    resume: options.Resume = None,
    auto_resume: options.AutoResume = False,
    debug: options.Debug = False,
) -> None:
    """Train a network, small if the method makes it so, and leave result, record and checkpoints in one folder."""
    from parsinet.cli import commands

    of_data: dict[str, Any] = {"source": data, "folder": None if folder is None else str(folder), "download": download or None}
    of_data |= {"batch_size": batch_size, "validation": validation}
    given: dict[str, Any] = {f"data.{key}": value for key, value in of_data.items()}
    given |= {"model.name": model, "method.name": method, "optimizer.name": optimizer, "optimizer.lr": lr}
    given |= {"epochs": epochs, "round_to": round_to, "seed": seed, "threads": threads, "device": device, "deterministic": deterministic}
    given |= {"loggers": logger or None}
    commands.train(out, recipe, given, settings or [], overwrite, resume, auto_resume)


@app.command(epilog=INSPECT_EPILOG)
@guarded
def inspect(
    model: options.Model = None,
    data: options.Data = None,
    input_shape: options.InputShape = None,
    classes: options.Classes = 10,
    settings: options.Settings = None,
    json: options.Json = False,
    png: options.Png = None,
    debug: options.Debug = False,
) -> None:
    """Show the groups of units of a network: which can be removed, and why the others cannot."""
    from parsinet.cli import commands

    commands.inspect(model, data, input_shape, classes, settings or [], json, png)


@app.command(epilog=REPORT_EPILOG)
@guarded
def report(runs: options.Runs, out: options.Plots = None, debug: options.Debug = False) -> None:
    """Compare runs: a table in the terminal, plots as PNG. Nothing is trained."""
    from rich.console import Console

    from parsinet.report import report as report_runs

    console = Console()
    plots = report_runs(runs, out, console)
    console.print(f"Plots and summary: {plots}", highlight=False, markup=False, soft_wrap=True)


@app.command(epilog=DEMO_EPILOG)
@guarded
def demo(out: options.DemoOut = Path("runs/demo"), overwrite: options.Overwrite = False, debug: options.Debug = False) -> None:
    """Train LeNet-300-100 on digits twice, dense and with gates, and compare; takes less than two minutes."""
    from parsinet.cli.demo import demo as run_demo

    run_demo(out, overwrite=overwrite)


def main() -> Any:
    """Entry point of the `parsinet` command."""
    return app()
