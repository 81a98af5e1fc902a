"""What the benchmarks of speed share: cases in processes of their own, records that grow case by case, turns, summaries, tables."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parsinet import files
from parsinet.training import environment

FOLDER = Path(__file__).parent
THREADS = (1, 2)
Row = dict[str, Any]
Work = Callable[[], Any]


@dataclass(frozen=True)
class Benchmark:
    """One script of this folder.

    name: of the script and of its record. about: its documentation. rounds: how often all parts take turns, unless said otherwise.
    cases: each one process, described by fields that its rows repeat; `threads` is one of them. measure: the rows of a case from its
    fields and the rounds. tables: name → Markdown table, from all rows. packages: whose versions the record tells. judge: the sentence
    of what does not hold, "" if all does.
    """

    name: str
    about: str
    rounds: int
    cases: Sequence[Row]
    measure: Callable[[Row, int], list[Row]]
    tables: Callable[[Sequence[Row]], Mapping[str, str]]
    packages: tuple[str, ...] = ("torch",)
    judge: Callable[[Sequence[Row]], str] = lambda rows: ""

    @property
    def record(self) -> Path:
        return FOLDER / "results" / f"{self.name}.json"

    def rows(self) -> list[Row]:
        """What the record holds."""
        return list(json.loads(self.record.read_text(encoding="utf-8"))["rows"]) if self.record.exists() else []

    def table(self) -> str:
        """All tables, each under its name."""
        return "\n\n".join(f"{name}\n\n{table}" for name, table in self.tables(self.rows()).items())


def main(benchmark: Benchmark) -> None:
    """Run the cases that the record does not hold yet; print the tables."""
    options = _options(benchmark)
    if options.case:
        print(json.dumps(_measured(benchmark, json.loads(options.case), options.rounds)))
        return
    if not options.table:
        fill(benchmark, options)
    print(benchmark.table())
    reason = benchmark.judge(benchmark.rows())
    print(reason)
    sys.exit(bool(reason) and not options.table)


def fill(benchmark: Benchmark, options: argparse.Namespace) -> None:
    """Run what is missing, or all that is chosen anew, and write after every case."""
    chosen = [case for case in benchmark.cases if case["threads"] in options.threads and options.only in " ".join(map(str, case.values()))]
    rows = benchmark.rows()
    if options.again:
        rows = [row for row in rows if not any(_fits(row, case) for case in chosen)]
    for case in chosen:
        wanted = {**case, "rounds": options.rounds}
        if any(_fits(row, wanted) for row in rows):
            continue
        start = time.perf_counter()
        new = _elsewhere(benchmark, case, options.rounds)
        rows = [row for row in rows if not _fits(row, case)] + new
        _write(benchmark, rows, options.rounds)
        described = ", ".join(f"{key} {value}" for key, value in case.items())
        print(f"{benchmark.name}: {described}: {time.perf_counter() - start:.0f} s", flush=True)


def _options(benchmark: Benchmark) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=benchmark.about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=benchmark.rounds, help="of turns (default %(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=list(THREADS))
    parser.add_argument("--only", default="", help="cases with this word in them")
    parser.add_argument("--again", action="store_true", help="forget the record first; else only what it lacks is run")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


def _fits(row: Row, wanted: Row) -> bool:
    return all(row.get(key) == value for key, value in wanted.items())


def _elsewhere(benchmark: Benchmark, case: Row, rounds: int) -> list[Row]:
    """A case in a process of its own, whose libraries start with its number of threads."""
    command = [sys.executable, str(FOLDER / f"{benchmark.name}.py"), "--case", json.dumps(case), "--rounds", str(rounds)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": str(case["threads"])}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{benchmark.name}, {case}: {done.stderr}")
    rows: list[Row] = json.loads(done.stdout.splitlines()[-1])
    return rows


def _measured(benchmark: Benchmark, case: Row, rounds: int) -> list[Row]:
    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    before = os.getloadavg()[0]
    rows = benchmark.measure(case, rounds)
    load = [round(before, 1), round(os.getloadavg()[0], 1)]
    return [{**case, "rounds": rounds, **row, "load": load} for row in rows]


def _write(benchmark: Benchmark, rows: list[Row], rounds: int) -> None:
    order = list(benchmark.cases)
    rows = sorted(rows, key=lambda row: next((n for n, case in enumerate(order) if _fits(row, case)), len(order)))
    machine = environment.machine(torch.device("cpu"))
    record = {
        "command": f"python benchmarks/speed/{benchmark.name}.py --rounds {rounds}",
        "machine": {key: machine[key] for key in ("processor", "cores")},
        "versions": {**environment.versions(), **{package: version(package) for package in benchmark.packages}},
        "rows": rows,
    }
    files.make_folder(benchmark.record.parent)
    files.write_text(benchmark.record, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed: its columns are missing"


def take_turns(parts: Sequence[tuple[str, Work]], rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Seconds of each part, round by round. Every round runs all parts one after the other, every second one in reverse order; the first
    `warm_up` are not counted. With one thread these are seconds of processor time, in which other work on the machine does not count."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name, _ in parts}
    for number in range(-warm_up, rounds):
        for name, work in parts if number % 2 else reversed(parts):
            start = clock()
            work()
            if number >= 0:
                times[name].append(clock() - start)
    return times


def spread(values: Iterable[float], digits: int = 3) -> dict[str, float]:
    """Median and 95th percentile."""
    median, p95 = np.percentile(list(values), (50, 95))
    return {"median": round(float(median), digits), "p95": round(float(p95), digits)}


def ratios(one: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile of the ratios round by round."""
    return spread(a / b for a, b in zip(one, other, strict=True))


def markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)])


def shown(found: Mapping[str, float] | None, form: str = ".2f") -> str:
    """`median (p95)`, – for nothing."""
    return "–" if found is None else f"{found['median']:{form}} ({found['p95']:{form}})"
