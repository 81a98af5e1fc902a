"""The commands and their options."""

from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from parsinet.cli import manual, options
from parsinet.cli.guard import guarded
from parsinet.cli.optional_file import OptionalFile
from parsinet.cli.terminal import prepare

app = typer.Typer(
    name="parsinet",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Train small: PyTorch networks that become smaller while they train, and stay plain PyTorch modules.",
    epilog="Begin with `parsinet demo --out runs/demo`, then `parsinet train --help`.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"parsinet {metadata.version('parsinet')}")
        raise typer.Exit


@app.callback()
def _parsinet(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")] = False,
) -> None:
    """Commands are added below."""


@app.command(epilog=manual.TRAIN)
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


@app.command(epilog=manual.INSPECT)
@guarded
def inspect(
    model: options.Model = None,
    data: options.Data = None,
    input_shape: options.InputShape = None,
    classes: options.Classes = None,
    settings: options.Settings = None,
    json: options.Json = False,
    png: options.Png = None,
    debug: options.Debug = False,
) -> None:
    """Show the groups of units of a network: which can be removed, and why the others cannot."""
    from parsinet.cli import commands

    commands.inspect(model, data, input_shape, classes, settings or [], json, png)


@app.command(epilog=manual.TUNE)
@guarded
def tune(
    out: options.SweepOut,
    recipe: options.BaseRecipe,
    space: options.SpaceFile,
    trials: options.Trials = 20,
    objectives: options.Objectives = "error,macs",
    seeds: options.Seeds = None,
    sampler: options.Sampler = "tpe",
    pruner: options.Pruner = "none",
    seed: options.SamplerSeed = 0,
    storage: options.Storage = None,
    name: options.StudyName = None,
    reference: options.Reference = None,
    settings: options.Settings = None,
    debug: options.Debug = False,
) -> None:
    """Search a space of recipes for networks that err little and are small, with as many workers as you start."""
    from parsinet.cli import commands

    commands.tune(
        out,
        recipe,
        space,
        settings or [],
        seeds,
        trials=trials,
        objectives=[word.strip() for word in objectives.split(",")],
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        storage=storage,
        name=name,
        reference=reference,
    )


@app.command(epilog=manual.REPORT, cls=OptionalFile)
@guarded
def report(runs: options.Runs, out: options.Plots = None, html: options.Html = None, debug: options.Debug = False) -> None:
    """Compare runs: a table in the terminal, plots as PNG, all of it on one page. Nothing is trained."""
    from parsinet.cli import reading

    reading.report(runs, out, html)


@app.command(epilog=manual.WATCH)
@guarded
def watch(
    run: options.Watched,
    browser: options.InBrowser = False,
    port: options.Port = None,
    debug: options.Debug = False,
) -> None:
    """Look at a run while it trains, in the terminal or in a browser. Ctrl-C ends the looking, not the run."""
    from parsinet.cli import reading

    reading.watch(run, browser, port)


@app.command(epilog=manual.EXPORT)
@guarded
def export(
    run: options.ExportRun,
    to: options.Target,
    out: options.ExportOut = None,
    batch: options.CallBatch = None,
    license: options.License = None,
    random_inputs: options.RandomInputs = False,
    model: options.SavedModel = None,
    input_shape: options.InputShape = None,
    classes: options.SavedClasses = None,
    settings: options.SavedSettings = None,
    debug: options.Debug = False,
) -> None:
    """Write the network of a run for inference elsewhere: ONNX, .pt2, safetensors, CSR layers, or a bundle with a model card."""
    from parsinet.cli import commands

    commands.export(run, to, out, {"batch": batch, "license": license}, random_inputs, model, input_shape, classes, settings or [])


@app.command(epilog=manual.DEMO)
@guarded
def demo(out: options.DemoOut = Path("runs/demo"), overwrite: options.Overwrite = False, debug: options.Debug = False) -> None:
    """Train 64-1000-500-10 on digits four times, dense and by three methods, and compare; takes about a minute."""
    from parsinet.cli.demo import demo as run_demo

    run_demo(out, overwrite=overwrite)


@app.command(epilog=manual.BENCH)
@guarded
def bench(
    suite: options.SuiteName = None,
    out: options.BenchOut = None,
    data: options.BenchData = None,
    only: options.Only = None,
    seeds: options.BenchSeeds = None,
    jobs: options.Jobs = None,
    table: options.TableOnly = False,
    check: options.Check = False,
    rewrite: options.Rewrite = False,
    claims: options.Claims = None,
    debug: options.Debug = False,
) -> None:
    """Compare methods fairly: one recipe, equal trials, all seeds, a report; or check stored claims against records."""
    from parsinet.cli import benching

    benching.bench(suite, out, data, only or [], seeds or [], jobs, table, check, rewrite, claims)


def main() -> Any:
    """Entry point of the `parsinet` command."""
    prepare()
    return app()
