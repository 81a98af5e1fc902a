"""What `bench` does, once its options are read."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from parsinet import bench as suites
from parsinet.data.places import VARIABLE
from parsinet.errors import UsageError

CLAIMS = Path("benchmarks/claims.yaml")


def bench(
    suite: str | None,
    out: Path | None,
    data: Path | None,
    only: Sequence[str],
    seeds: Sequence[int],
    jobs: int | None,
    table: bool,
    check: bool,
    rewrite: bool,
    claims: Path | None,
) -> None:
    """Run a suite, rebuild its report, or rewrite or check claims."""
    console = Console()
    if check or rewrite:
        if suite is not None or table or only or seeds or jobs is not None or out is not None or data is not None:
            raise UsageError("--check and --rewrite compare claims with records and take --claims FILE alone.")
        for done in ([suites.rewrite] if rewrite else []) + ([suites.check] if check else []):
            console.print(done(claims or CLAIMS), highlight=False, markup=False, soft_wrap=True)
        return
    if claims is not None:
        raise UsageError("--claims goes with --check and --rewrite.")
    if suite is None:
        raise UsageError(f"Name a suite: {', '.join(suites.names())}, or a .yaml file of your own.")
    if data is not None:
        os.environ[VARIABLE] = str(data)
    found, folder = suites.load(suite), out or Path("runs/bench") / Path(suite).stem
    if table:
        if only or seeds or jobs is not None:
            raise UsageError("--table writes the report of all records that are there; --only, --seed and --jobs go with a run.")
        if not (events := suites.stored(folder)):
            raise UsageError(f"{folder} holds no records, so there is nothing to report. Run the suite first: leave out --table.")
        suites.write_report(found, folder, events)
    else:
        suites.run(found, folder, only=only, seeds=seeds, workers_count=jobs or os.cpu_count() or 1, console=console)
    console.print(f"Report: {folder / suites.PAGE}", highlight=False, markup=False, soft_wrap=True)
