"""The commands and their manual."""

from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from parsinet.cli import options
from parsinet.cli.guard import guarded
from parsinet.cli.optional_file import OptionalFile

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
TUNE_EPILOG = """
**Examples**

    parsinet tune --recipe base.yaml --space space.yaml --trials 40 --out sweeps/first

    parsinet tune --recipe base.yaml --space space.yaml --objectives error --pruner median --out sweeps/error

    parsinet tune --recipe base.yaml --space space.yaml --seeds 0,1,2 --storage postgresql://user@host/sweeps --out sweeps/wide

A space names entries of the recipe: `optimizer.lr: {low: 1e-4, high: 1e-2, log: true}`, `model.widths: {choices: [[64, 32], [128, 64]]}`.
The recipe needs `data: {validation: 0.1}`: the test split is never looked at. Start the command several times, here or on other machines
with the same `--storage`, and the workers share the trials. The same command goes on with a sweep that was stopped or killed; more
`--trials` extend it. The folder holds study.json, pareto.png, best.yaml and knee.yaml for `parsinet train --recipe`, and all runs.
"""
REPORT_EPILOG = """
**Examples**

    parsinet report runs/first

    parsinet report sweeps/first

    parsinet report runs/dense runs/gates --out runs/comparison

    parsinet report runs/dense runs/gates --html comparison.html
"""
WATCH_EPILOG = """
**Examples**

    parsinet watch runs/first

    parsinet watch runs/first --browser
"""
EXPORT_EPILOG = """
**Examples**

    parsinet export runs/first --to onnx

    parsinet export runs/first --to bundle --license apache-2.0 --out lenet-on-digits

    parsinet export runs/sparse --to csr --batch 64

    parsinet export lean --to torch-export --model lenet-5-caffe --input-shape 1,28,28 --out lean.pt2

What is written is first compared with the network, on test examples of the run; if it computes something else, nothing is written.
"""
DEMO_EPILOG = """
**Example**

    parsinet demo --out runs/demo
"""


BENCH_EPILOG = """
**Examples**

    parsinet bench quick --out runs/quick

    parsinet bench mnist-units --data DIR --out runs/mnist-units --jobs 2

    parsinet bench my_suite.yaml --out runs/mine --only Gates --only dense --seed 0

    parsinet bench quick --out runs/quick --table

    parsinet bench --check --claims benchmarks/claims.yaml

Suites: quick (digits, minutes), mnist-units, mnist-weights, cifar, text. A training that stands in the folder's records.jsonl is not run
again: the same command goes on after Ctrl-C or kill -9. report.md and pareto.png are made of the records alone.
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


@app.command(epilog=TUNE_EPILOG)
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


@app.command(epilog=REPORT_EPILOG, cls=OptionalFile)
@guarded
def report(runs: options.Runs, out: options.Plots = None, html: options.Html = None, debug: options.Debug = False) -> None:
    """Compare runs: a table in the terminal, plots as PNG, all of it on one page. Nothing is trained."""
    from parsinet.cli import reading

    reading.report(runs, out, html)


@app.command(epilog=WATCH_EPILOG)
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


@app.command(epilog=EXPORT_EPILOG)
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


@app.command(epilog=DEMO_EPILOG)
@guarded
def demo(out: options.DemoOut = Path("runs/demo"), overwrite: options.Overwrite = False, debug: options.Debug = False) -> None:
    """Train 64-1000-500-10 on digits four times, dense and by three methods, and compare; takes about a minute."""
    from parsinet.cli.demo import demo as run_demo

    run_demo(out, overwrite=overwrite)


@app.command(epilog=BENCH_EPILOG)
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
    return app()
