"""What `train`, `inspect` and `export` do, once their options are read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from parsinet import training
from parsinet.distributed import joined
from parsinet.errors import ParsinetError, StorageError, UsageError
from parsinet.export import Exportable, of_folder, of_run, targets
from parsinet.files import check_free, write_bytes
from parsinet.training import Recipe, UnitRow
from parsinet.training.assembly import build_method
from parsinet.training.folder import RunFolder
from parsinet.training.run import same_recipe

CLASSES = 10
"""Outputs of a network for which no data are given."""


def train(
    out: Path | None,
    recipe: Path | None,
    options: Mapping[str, Any],
    settings: Sequence[str],
    overwrite: bool,
    resume: Path | None,
    auto: bool,
) -> None:
    """Train by a recipe file, options and settings; the later win. In every process that torchrun has started, as one run."""
    given = [key for key, value in options.items() if value is not None]
    with joined() as ranks:
        console = Console(quiet=ranks.rank > 0)
        if resume is not None:
            if given or settings or recipe is not None or overwrite or auto or out is not None:
                raise UsageError("--resume RUN continues the run as it was begun; leave out all other settings.")
            result = training.train(None, resume, resume=True, console=console)
        else:
            if out is None:
                raise UsageError("--out FOLDER is needed: it holds the recipe, the record, the model and the checkpoints of the run.")
            if auto and ranks.first(lambda: RunFolder(out).complete):
                ranks.first(lambda: same_recipe(resolved(recipe, options, settings), RunFolder(out)))
                console.print(f"The run in {out} is complete; there is nothing left to do.", highlight=False, markup=False, soft_wrap=True)
                return
            begun: bool | Literal["auto"] = "auto" if auto else False
            result = training.train(resolved(recipe, options, settings), out, overwrite=overwrite, resume=begun, console=console)
        if ranks.rank == 0:
            for line in (*_asked(result.folder), f"Saved in {result.folder}. {_page(result.folder)}"):
                console.print(line, highlight=False, markup=False, soft_wrap=True)


def _asked(folder: Path) -> list[str]:
    """The size that was asked for and the one there is; nothing of a record that cannot be read, which the page says."""
    from parsinet.report import read
    from parsinet.report.asked import asked

    try:
        return [line[0].upper() + line[1:] for line in asked(read(folder))]
    except ParsinetError:
        return []


def _page(folder: Path) -> str:
    """Write the page of a finished run; the run is saved already, so that a page that cannot be written is only said."""
    from parsinet.report import write_page

    try:
        return f"Page: {write_page([folder])}. Plots: parsinet report {folder}"
    except ParsinetError as error:
        return f"Its page is missing. {error}"


def resolved(recipe: Path | None, options: Mapping[str, Any], settings: Sequence[str]) -> Recipe:
    """The recipe that file, options and settings make together."""
    values = {} if recipe is None else training.read_values(recipe)
    given = {key: value for key, value in options.items() if value is not None}
    return training.recipe_from(training.with_settings(training.with_values(values, given), settings))


def tune(out: Path, recipe: Path, space: Path, settings: Sequence[str], seeds: str | None, **options: Any) -> None:
    """Work on the sweep in `out`."""
    from parsinet.tuning import tune as run_sweep

    console = Console()
    base = training.with_settings(training.read_values(recipe), settings)
    between = training.read_values(space, "Space")
    found = run_sweep(base, between, out, seeds=None if seeds is None else _whole_numbers(seeds), console=console, **options)
    ready = [name for name in ("best", "knee") if getattr(found, name) is not None]
    for name in ready:
        sentence = f"Train the {name} again: parsinet train --recipe {out / f'{name}.yaml'} --out runs/{name}"
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Study and picture: {out}", highlight=False, markup=False, soft_wrap=True)


def inspect(
    model: str | None,
    data: str | None,
    input_shape: str | None,
    classes: int | None,
    settings: Sequence[str],
    as_json: bool,
    png: Path | None,
) -> None:
    """Print the groups of units of a model, and draw them."""
    if data is not None and input_shape is not None:
        raise UsageError("--data and --input-shape exclude each other: both say what the network takes.")
    if classes is not None and input_shape is None:
        raise UsageError("--classes goes with --input-shape; the data say how many they have.")
    if png is not None:
        _check_picture(png)
    recipe = resolved(None, {"model.name": model, "data.source": data}, settings)
    build_method(recipe)  # whose name and options are settings too
    found = training.inspect(recipe, None if input_shape is None else _shape(input_shape), CLASSES if classes is None else classes)
    if as_json:
        print(json.dumps(found.plain(), indent=2))
    else:
        console = Console()
        console.print(_table(recipe.model.name, found.groups))
        if found.blocks:
            console.print(_table("residual branches", found.blocks, "block"))
        console.print(f"{100 * found.share:.1f} % of {found.parameters:,} parameters lie in groups that can shrink.", highlight=False)
    if png is not None:
        from parsinet.report import picture

        write_bytes(png, picture(found.model, found.share, found.parameters, [row.plain() for row in found.groups]))


def _check_picture(png: Path) -> None:
    """Refuse a place for the picture before the network is traced for it."""
    if png.suffix.lower() != ".png":
        raise UsageError(f"--png writes a PNG, so the file's name must end in .png, got {png.name!r}.")
    if png.is_dir():
        raise StorageError(f"Cannot write {png}: it is a folder. Name a file.")
    if not png.parent.is_dir():
        raise StorageError(f"Cannot write {png}: there is no folder {png.parent}. Make it, or choose another folder.")


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds needs whole numbers with commas between, such as 0,1,2, got {text!r}.") from None


def export(
    run: Path,
    to: str,
    out: Path | None,
    options: Mapping[str, Any],
    random_inputs: bool,
    model: str | None,
    input_shape: str | None,
    classes: int | None,
    settings: Sequence[str],
) -> None:
    """Write the network of a run, or of a saved folder, in another form, and say how it agrees with the network."""
    given = {key: value for key, value in options.items() if value is not None}
    targets.check(to, given)
    place = RunFolder(run).exports / targets.TARGETS[to].place if out is None else out
    check_free(place)
    print(targets.write(_exportable(run, random_inputs, model, input_shape, classes, settings), to, place, **given))


def _exportable(
    run: Path, random_inputs: bool, model: str | None, input_shape: str | None, classes: int | None, settings: Sequence[str]
) -> Exportable:
    if model is None and input_shape is None and classes is None and not settings:
        return of_run(run, random_inputs=random_inputs)
    if model is None or input_shape is None:
        raise UsageError("--model and --input-shape go together: they say what built the network in a folder without recipe.")
    if RunFolder(run).recipe.is_file():
        raise UsageError(f"{run} holds a run, whose recipe names the model; leave out --model, --input-shape, --classes and --set.")
    if random_inputs:
        raise UsageError("--random-inputs has no effect here: a folder without recipe is always compared on random numbers.")
    values = training.with_settings({"model": {"name": model}}, settings)
    part = training.recipe_from(values).model
    if values != {"model": values["model"]}:
        raise UsageError("--set: only options of the model, such as model.widths=[300,100], have an effect on a saved folder.")
    return of_folder(run, part.name, _shape(input_shape), CLASSES if classes is None else classes, part.options)


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(f"--input-shape needs whole numbers ≥ 1 with commas between, such as 3,32,32, got {text!r}.")
    return shape


def _table(title: str, rows: Sequence[UnitRow], kind: str = "group") -> Table:
    """Groups with their units, or blocks, which have none."""
    table = Table(title=title, title_justify="left")
    for heading in (kind, *(["units"] if kind == "group" else []), "parameters", "removable"):
        table.add_column(heading, justify="right" if heading in ("units", "parameters") else "left", overflow="fold")
    for row in rows:
        table.add_row(row.name, *([f"{row.size:,}"] if kind == "group" else []), f"{row.parameters:,}", _verdict(row))
    return table


def _verdict(row: UnitRow) -> str:
    if not row.removable:
        return f"no: {row.reason}"
    return "yes" if row.exact else f"yes, but not exactly: {row.reason}"
