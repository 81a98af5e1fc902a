"""The commands and their options."""

from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from parsinet.cli import names
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

What `--recipe` says is overridden by options, and these by `--set`. The folder holds recipe.yaml (every setting), record.jsonl
(what happened, step by step), model/ (the result) and checkpoint/ (to resume after Ctrl-C).
"""
INSPECT_EPILOG = """
**Examples**

    parsinet inspect --model lenet-5-caffe --data mnist

    parsinet inspect --model resnet-20 --input-shape 3,32,32 --classes 10

    parsinet inspect --model mypackage.nets:small --input-shape 64 --json
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

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
DataOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|PATH",
        help="digits (default), mnist, fashion-mnist, cifar10, a folder of images by class, an .npz, .parquet or .txt file.",
        autocompletion=lambda incomplete: names.beginning(names.DATA, incomplete),
        show_default=False,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"One of {', '.join(names.MODELS)}, or your own as package.module:factory. [default: lenet-300-100]",
        autocompletion=lambda incomplete: names.beginning(names.MODELS, incomplete),
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY.PATH=VALUE", help="Any entry of a recipe; the value is read as YAML. Repeatable.", show_default=False
    ),
]


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
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where everything of the run goes.", show_default=False)] = None,
    recipe: Annotated[Path | None, typer.Option(metavar="FILE", help="A YAML recipe to start from.", show_default=False)] = None,
    data: DataOption = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the files of mnist, fashion-mnist or cifar10 lie.", show_default=False)
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch mnist or fashion-mnist where it is missing.")] = False,
    model: ModelOption = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="dense (default) or gates.",
            autocompletion=lambda incomplete: names.beginning(names.METHODS, incomplete),
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data. [default: 20]", show_default=False)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step. [default: 128]", show_default=False)] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="sgd, adam (default) or adamw.",
            autocompletion=lambda incomplete: names.beginning(names.OPTIMIZERS, incomplete),
            show_default=False,
        ),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. [default: 0.001; sgd 0.05]", show_default=False)] = None,
    validation: Annotated[float | None, typer.Option(help="Share of the training data held out. [default: 0]", show_default=False)] = None,
    round_to: Annotated[
        int | None, typer.Option(help="Removals leave a multiple of so many units, which is faster. [default: 4]", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, batches and method. [default: 0]", show_default=False)] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of torch. [default: torch's own choice]", show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help="cpu (default), cuda, cuda:1 …", show_default=False)] = None,
    settings: Settings = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is in the folder.")] = False,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue an interrupted run, bitwise; takes no other settings.", show_default=False)
    ] = None,
    debug: Debug = False,
) -> None:
    """Train a network, small if the method makes it so, and leave result, record and checkpoints in one folder."""
    from parsinet.cli import commands

    options = {
        "data.source": data,
        "data.folder": None if folder is None else str(folder),
        "data.download": download or None,
        "data.batch_size": batch_size,
        "data.validation": validation,
        "model.name": model,
        "method.name": method,
        "optimizer.name": optimizer,
        "optimizer.lr": lr,
        "epochs": epochs,
        "round_to": round_to,
        "seed": seed,
        "threads": threads,
        "device": device,
    }
    commands.train(out, recipe, options, settings or [], overwrite, resume)


@app.command(epilog=INSPECT_EPILOG)
@guarded
def inspect(
    model: ModelOption = None,
    data: DataOption = None,
    input_shape: Annotated[
        str | None, typer.Option(metavar="C,H,W", help="Shape of one example, instead of --data.", show_default=False)
    ] = None,
    classes: Annotated[int, typer.Option(help="Number of classes, with --input-shape.")] = 10,
    settings: Settings = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    debug: Debug = False,
) -> None:
    """Show the groups of units of a network: which can be removed, and why the others cannot."""
    from parsinet.cli import commands

    commands.inspect(model, data, input_shape, classes, settings or [], json)


@app.command(epilog=REPORT_EPILOG)
@guarded
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders of runs.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the plots go. [default: beside the run]", show_default=False)
    ] = None,
    debug: Debug = False,
) -> None:
    """Compare runs: a table in the terminal, plots as PNG. Nothing is trained."""
    from rich.console import Console

    from parsinet.report import report as report_runs

    console = Console()
    plots = report_runs(runs, out, console)
    console.print(f"Plots and summary: {plots}", highlight=False, markup=False, soft_wrap=True)


@app.command(epilog=DEMO_EPILOG)
@guarded
def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the two runs and the plots go.")] = Path("runs/demo"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo.")] = False,
    debug: Debug = False,
) -> None:
    """Train LeNet-300-100 on digits twice, dense and with gates, and compare; takes less than two minutes."""
    from parsinet.cli.demo import demo as run_demo

    run_demo(out, overwrite=overwrite)


def main() -> Any:
    """Entry point of the `parsinet` command."""
    return app()
