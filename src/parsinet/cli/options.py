"""The options of the commands: how they are written, what help says of them, what completion offers."""

from pathlib import Path
from typing import Annotated

import typer

from parsinet.cli import names


def named(text: str) -> Path:
    """A path that is not empty: an empty word, as of a shell variable that is not set, would be the working folder."""
    if not text.strip():
        raise typer.BadParameter("it is empty; name a folder or file.")
    return Path(text)


Out = Annotated[Path | None, typer.Option(parser=named, metavar="FOLDER", help="Where everything of the run goes.", show_default=False)]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", metavar="FILE", help="A YAML recipe to start from.", show_default=False)]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME|PATH",
        help="digits (default), mnist, fashion-mnist, cifar10, a folder of images by class, an .npz, .parquet or .txt file "
        '(layouts: docs/tutorial.md, "Your own data").',
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
        help=f"One of {', '.join(names.MODELS)}, or your own as package.module:factory, which is called with input_shape and classes "
        "(or num_classes), those that it takes, and with --set model.NAME=VALUE. [default: lenet-300-100]",
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
Seed = Annotated[
    int | None, typer.Option(help="Of weights, batches, method; splits have data.split_seed. [default: 0]", show_default=False)
]
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
Classes = Annotated[int | None, typer.Option(min=1, help="Number of classes, with --input-shape. [default: 10]", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Png = Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Draw the groups and their sizes as PNG.", show_default=False)]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders of runs.")]
Plots = Annotated[
    Path | None, typer.Option(parser=named, metavar="FOLDER", help="Where the plots go. [default: beside the runs]", show_default=False)
]
Html = Annotated[
    str | None,
    typer.Option(
        "--html",
        metavar="[FILE]",
        help="Only the page, into FILE, whose name ends in .html. [default: beside the plots]",
        show_default=False,
    ),
]
Watched = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, which need not be there yet.", show_default=False)]
InBrowser = Annotated[bool, typer.Option("--browser", help="Serve the page, which renews itself, on this machine; print its address.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="With --browser. [default: 8765, or a free one]", show_default=False)]
DemoOut = Annotated[Path, typer.Option(parser=named, metavar="FOLDER", help="Where the runs and the plots go.")]
SweepOut = Annotated[
    Path, typer.Option("--out", parser=named, metavar="FOLDER", help="Where everything of the sweep goes.", show_default=False)
]
BaseRecipe = Annotated[
    Path, typer.Option("--recipe", metavar="FILE", help="The YAML recipe that all trials begin from.", show_default=False)
]
SpaceFile = Annotated[Path, typer.Option("--space", metavar="FILE", help="YAML: which entries change, between what.", show_default=False)]
Trials = Annotated[int, typer.Option(help="Trials of the whole sweep, those of other workers and earlier calls included.")]
Objectives = Annotated[str, typer.Option(metavar="NAMES", help="error, or error and one of macs, params, bytes, latency.")]
Seeds = Annotated[
    str | None,
    typer.Option(metavar="0,1,2", help="Each trial trains once for each; their mean counts. [default: the recipe's]", show_default=False),
]
Sampler = Annotated[str, typer.Option(metavar="NAME", help="tpe, nsga2 or random.")]
Pruner = Annotated[
    str, typer.Option(metavar="NAME", help="none, median or hyperband: gives bad trials up early, with --objectives error alone.")
]
SamplerSeed = Annotated[int, typer.Option("--seed", help="Of the sampler.")]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL|FILE", help="Where workers meet: a database, or a journal file. [default: SQLite in the folder]", show_default=False
    ),
]
StudyName = Annotated[
    str | None, typer.Option("--name", help="Of the study in the storage. [default: the folder's name]", show_default=False)
]
Reference = Annotated[
    Path | None, typer.Option(metavar="RUN", help="A finished run, dense perhaps, to show beside the trials.", show_default=False)
]
ExportRun = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run, or one that parsinet.save has written.")]
Target = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="FORM",
        help=f"{', '.join(names.EXPORTS)}.",
        autocompletion=lambda incomplete: names.beginning(names.EXPORTS, incomplete),
        show_default=False,
    ),
]
ExportOut = Annotated[
    Path | None,
    typer.Option("--out", parser=named, metavar="PATH", help="File or folder, new. [default: RUN/export/…]", show_default=False),
]
CallBatch = Annotated[
    int | None, typer.Option("--batch", min=1, help="Examples per call csr is measured with. [default: 1]", show_default=False)
]
License = Annotated[str | None, typer.Option(metavar="ID", help="Licence in the card of a bundle. [default: other]", show_default=False)]
RandomInputs = Annotated[bool, typer.Option("--random-inputs", help="Compare on random numbers instead of the run's test examples.")]
SavedModel = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="What built the network, for a folder without recipe.", show_default=False)
]
SavedClasses = Annotated[int | None, typer.Option("--classes", min=1, help="Its classes. [default: 10]", show_default=False)]
SavedSettings = Annotated[
    list[str] | None, typer.Option("--set", metavar="model.KEY=VALUE", help="An option of its factory. Repeatable.", show_default=False)
]
SuiteName = Annotated[
    str | None,
    typer.Argument(
        metavar="SUITE",
        help=f"{', '.join(names.SUITES)}, or a .yaml file of your own.",
        autocompletion=lambda incomplete: names.beginning(names.SUITES, incomplete),
        show_default=False,
    ),
]
BenchOut = Annotated[
    Path | None,
    typer.Option(
        "--out", parser=named, metavar="FOLDER", help="Where records and report go. [default: runs/bench/SUITE]", show_default=False
    ),
]
BenchData = Annotated[
    Path | None,
    typer.Option("--data", metavar="FOLDER", help="Holds mnist, cifar10 … [default: $PARSINET_DATA]", show_default=False),
]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="ROW", help="Only this row. Repeatable.", show_default=False)]
BenchSeeds = Annotated[list[int] | None, typer.Option("--seed", min=0, help="Only this seed. Repeatable.", show_default=False)]
Jobs = Annotated[int | None, typer.Option(min=1, help="Trainings at the same time. [default: one per core]", show_default=False)]
TableOnly = Annotated[bool, typer.Option("--table", "--report", help="Only rebuild the report from the records.")]
Check = Annotated[bool, typer.Option("--check", help="Compare stored claims with records; exit code 1 where one does not hold.")]
Rewrite = Annotated[
    bool,
    typer.Option("--rewrite", help="Put the records' numbers where claims and documents print others; goes before --check."),
]
Claims = Annotated[Path | None, typer.Option("--claims", metavar="FILE", help="[default: benchmarks/claims.yaml]", show_default=False)]
