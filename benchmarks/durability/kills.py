"""kill -9 at every write and at random times: each run is resumed and must end bitwise as the run that was never killed.

    OMP_NUM_THREADS=1 python benchmarks/durability/kills.py                  # all that is not in results/kills.json yet
    OMP_NUM_THREADS=1 python benchmarks/durability/kills.py --limit 200 --scratch /dev/shm

A run is the command `parsinet train` in a process of its own, forked from this one, where everything is imported and has run once. It
kills itself (faults.py) at the n-th writing, flushing, renaming or deleting; or is killed from outside after a random time; or is killed
again while it resumes. Compared are the weights of the result, the last checkpoint but for its clocks, and the record but for its clocks.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from faults import Boundaries
from rich.console import Console

import parsinet.cli.commands  # noqa: F401 - imported once here, not in every run
from parsinet.bench import run_script
from parsinet.cli import main as command
from parsinet.training import read_record, recipe_from
from parsinet.training import train as run_training
from parsinet.training.checkpoint import checkpoints, read_checkpoint

RESULTS = Path(__file__).parent / "results" / "kills.json"
SHARED: dict[str, Any] = {
    "data": {"source": "digits", "batch_size": 128, "validation": 0.1, "augmentation": {"crop_padding": 1}},
    "model": {"name": "mlp", "widths": [24, 16]},
    "epochs": 2,
    "threads": 1,
    "round_to": 1,
    "checkpoint": {"every": {"epochs": 1, "steps": 8}, "keep": 2, "best": True},
}
METHODS: dict[str, dict[str, Any]] = {
    "gates": {
        "method": {"name": "gates", "fall_steps": 10, "interval": 3, "gated": 0.7, "price": 0.01},
        "optimizer": {"name": "adam", "lr": 0.01},
    },
    "spectral": {"method": {"name": "spectral", "share": 0.6, "begin": 0.1, "end": 0.8, "interval": 3}},
    "sphere": {"method": {"name": "sphere", "sparsity": 0.9, "interval": 3, "end": 0.8}},
}
TWICE, RANDOM = 15, 15
"""Per method: runs that are killed again while they resume, and runs killed at a random time."""
CLOCKS = {"seconds", "cpu_seconds", "train_seconds", "train_cpu_seconds", "latency"}
TRACES = {"interrupted", "resumed", "failed"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--limit", type=int, default=10**6, help="kills to add at most")
    parser.add_argument("--scratch", type=Path, help="where the runs lie meanwhile")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    results = json.loads(options.results.read_text()) if options.results.exists() else {"rows": [], "boundaries": {}}
    results["torch"], results["python"] = str(torch.__version__), sys.version.split()[0]
    options.results = options.results.absolute()
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        os.chdir(folder)  # outside the repository, whose commit would stand in the records and may change meanwhile
        warm(Path(folder))
        whole = {method: straight(Path(folder), method, results) for method in options.methods}
        done = {(row["method"], row["kind"], *row["at"]) for row in results["rows"]}
        cases = [case for case in plan(results["boundaries"], options.methods) if case not in done]
        for method, kind, *at in cases[: options.limit]:
            row = {"method": method, "kind": kind, "at": at, **killed(Path(folder), whole[method], method, at)}
            results["rows"].append(row)
            options.results.write_text(json.dumps(results, indent=None).replace('{"method"', '\n{"method"') + "\n")
            if row["outcome"] != "survived":
                print(row, flush=True)
    counts = Counter((row["method"], row["kind"], row["outcome"]) for row in results["rows"])
    for (method, kind, outcome), count in sorted(counts.items()):
        print(f"{method:10} {kind:10} {outcome:12} {count}")
    sys.exit(any(row["outcome"] == "lost" for row in results["rows"]))


def warm(folder: Path) -> None:
    """Train once here, with one thread, so that no run has to import what torch imports late."""
    recipe = recipe_from({**SHARED, **METHODS["gates"]})
    run_training(recipe, folder / "warm", console=Console(file=io.StringIO()))


def plan(boundaries: dict[str, list[str]], methods: list[str]) -> list[tuple[Any, ...]]:
    """(method, kind, where, …) of every kill, shuffled, so that any beginning of the list is a fair sample."""
    draw = random.Random(0)
    cases: list[tuple[Any, ...]] = []
    for method in METHODS:
        last = len(boundaries.get(method, ()))
        cases += [(method, "boundary", number) for number in range(1, last + 1)]
        cases += [(method, "twice", draw.randint(1, max(last, 1)), draw.randint(1, 40)) for _ in range(TWICE)]
        cases += [(method, "random", round(draw.random(), 4)) for _ in range(RANDOM)]
    draw.shuffle(cases)
    return [case for case in cases if case[0] in methods]


def straight(folder: Path, method: str, results: dict[str, Any]) -> dict[str, Any]:
    """The run that is never killed: what it ends with, the names of its boundaries, its duration in seconds."""
    run, recipe, log = folder / f"{method}-whole", folder / f"{method}.yaml", folder / f"{method}.log"
    recipe.write_text(yaml.safe_dump({**SHARED, **METHODS[method]}))
    began = time.monotonic()
    fork(lambda: train(["--recipe", str(recipe), "--out", str(run)], Boundaries(None, log)))
    found = {"seconds": time.monotonic() - began, **ending(run)}
    results["boundaries"][method] = log.read_text().split()
    removals = sum(event["event"] == "removal" for event in found["record"])
    print(f"{method}: {len(results['boundaries'][method])} boundaries, {removals} removals, {found['seconds']:.1f} s", flush=True)
    return found


def killed(folder: Path, whole: dict[str, Any], method: str, at: list[Any]) -> dict[str, Any]:
    """Kill a run at each place of `at` in turn, resume it, compare."""
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    fresh = ["--recipe", str(folder / f"{method}.yaml"), "--out", str(run)]
    kills = []
    for place in at:
        begin = ["--resume", str(run)] if (run / "recipe.yaml").exists() else fresh
        outside = place * whole["seconds"] if isinstance(place, float) else None
        status = fork(lambda begin=begin, place=place, outside=outside: train(begin, Boundaries(None if outside else place)), outside)  # type: ignore[misc]
        kills.append(os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
    stands = sorted(path.name for path in checkpoints(run / "checkpoint"))[-1:]
    again = ["--resume", str(run)] if (run / "recipe.yaml").exists() else fresh
    if not any(event["event"] == "end" for event in events(run)):
        fork(lambda: train(again, Boundaries(None)))
    try:
        same = equal({**ending(run), "seconds": 0}, {**whole, "seconds": 0})
    except Exception as error:
        return {"kills": sum(kills), "checkpoint": stands, "outcome": "lost", "error": f"{type(error).__name__}: {error}"}
    outcome = "lost" if not same else "survived" if any(kills) else "not killed"
    return {"kills": sum(kills), "checkpoint": stands, "outcome": outcome}


def fork(work: Callable[[], None], kill_after: float | None = None) -> int:
    """Do `work` in a process forked from this one; SIGKILL it after some seconds, if asked. The wait status of the process."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(70)
    if kill_after is not None:
        time.sleep(kill_after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def train(arguments: list[str], boundaries: Boundaries) -> None:
    """The command line, silent; never comes back."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    boundaries.install()
    sys.argv = ["parsinet", "train", *arguments]
    try:
        command()
    except SystemExit as left:
        os._exit(int(left.code or 0))


def events(run: Path) -> list[dict[str, Any]]:
    """The record, if there is one."""
    return read_record(run / "record.jsonl") if (run / "record.jsonl").exists() else []


def ending(run: Path) -> dict[str, Any]:
    """What a run ends with, without clocks: weights, the last checkpoint, the record."""
    state = read_checkpoint(checkpoints(run / "checkpoint")[-1])
    del state["monitor"]["watch"]
    told = [{key: value for key, value in event.items() if key not in CLOCKS} for event in events(run) if event["event"] not in TRACES]
    return {"weights": (run / "model" / "model.safetensors").read_bytes(), "state": state, "record": told}


def equal(one: Any, other: Any) -> bool:
    """Nested values, tensors bitwise."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


if __name__ == "__main__":
    run_script(main)
