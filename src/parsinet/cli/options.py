"""The options of the commands: how they are written, what help says of them, what completion offers."""

from pathlib import Path
from typing import Annotated

import typer

from parsinet.cli import names

Out = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where everything of the run goes.", show_default=False)]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", metavar="FILE", help="A YAML recipe to start from.", show_default=False)]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME|PATH",
        help="digits (default), mnist, fashion-mnist, cifar10, a folder of images by class, an .npz, .parquet or .txt file.",
        autocompletion=lambda incomplete: names.beginning(names.DATA, incomplete),
        show_default=False,
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option("--folder", metavar="FOLDER", help="Where the files of mnist or cifar10 lie.", show_default=False),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch mnist or fashion-mnist where it is missing.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help=f"One of {', '.join(names.MODELS)}, or your own as package.module:factory. [default: lenet-300-100]",
        autocompletion=lambda incomplete: names.beginning(names.MODELS, incomplete),
        show_default=False,
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help=f"{', '.join(names.METHODS)} [default: dense]; or, to compare with, {', '.join(names.BASELINES)}.",
        autocompletion=lambda incomplete: names.beginning(names.METHODS + names.BASELINES, incomplete),
        show_default=False,
    ),
]
Optimizer = Annotated[
    str | None,
    typer.Option(
        "--optimizer",
        metavar="NAME",
        help="sgd, adam (default), adamw, or lpsgd (default of method sphere).",
        autocompletion=lambda incomplete: names.beginning(names.OPTIMIZERS, incomplete),
        show_default=False,
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training data. [default: 20]", show_default=False)]
BatchSize = Annotated[int | None, typer.Option(help="Examples per step. [default: 128]", show_default=False)]
LearningRate = Annotated[float | None, typer.Option("--lr", help="Learning rate. [default: 0.001; sgd .05, lpsgd .01]", show_default=False)]
Validation = Annotated[float | None, typer.Option(help="Share of the training data held out. [default: 0]", show_default=False)]
RoundTo = Annotated[
    int | None, typer.Option(help="Removals leave a multiple of so many units, which is faster. [default: 4]", show_default=False)
]
Seed = Annotated[int | None, typer.Option(help="Of weights, batches and method. [default: 0]", show_default=False)]
Threads = Annotated[int | None, typer.Option(help="Threads of torch. [default: torch's own choice]", show_default=False)]
Device = Annotated[str | None, typer.Option(help="cpu (default), cuda, cuda:1 …", show_default=False)]
Deterministic = Annotated[
    bool | None,
    typer.Option(
        "--deterministic",
        help="Only algorithms that repeat bitwise. On a GPU slower, and an error where torch has none; on a processor runs repeat anyway.",
        show_default=False,
    ),
]
Loggers = Annotated[
    list[str] | None,
    typer.Option(
        "--logger",
        metavar="NAME",
        help="Tell numbers to tensorboard, mlflow, wandb or trackio as well. Repeatable.",
        autocompletion=lambda incomplete: names.beginning(names.LOGGERS, incomplete),
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Any entry of a recipe, read as YAML. Repeatable.", show_default=False),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a run that is in the folder.")]
Resume = Annotated[
    Path | None,
    typer.Option("--resume", metavar="RUN", help="Continue an interrupted run, bitwise; takes no other settings.", show_default=False),
]
AutoResume = Annotated[
    bool,
    typer.Option("--auto-resume", help="Continue the run in the folder if it holds one, else start; for jobs that restart themselves."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
InputShape = Annotated[str | None, typer.Option(metavar="C,H,W", help="Shape of one example, instead of --data.", show_default=False)]
Classes = Annotated[int, typer.Option(min=1, help="Number of classes, with --input-shape.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Png = Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Draw the groups and their sizes as PNG.", show_default=False)]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders of runs.")]
Plots = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the plots go. [default: beside the runs]", show_default=False)]
DemoOut = Annotated[Path, typer.Option(metavar="FOLDER", help="Where the runs and the plots go.")]
