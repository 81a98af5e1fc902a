"""All benchmarks of speed, one after the other; afterwards the tables of README.md and their claims say what the records say.

    python benchmarks/speed/run.py --again        # forget the records, measure anew: 12 minutes on two quiet cores
    python benchmarks/speed/run.py                # measure what the records lack
    python benchmarks/speed/run.py --table        # only rewrite the tables and ../claims.yaml from the records

A table of README.md stands between `<!-- table NAME -->` and `<!-- end -->`. Claims about it get the cells that it prints; `parsinet
bench --check` then holds both against the records. Each script's own options, such as --rounds: call it alone, then this with --table.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import csr
import engine
import latency
import steps
from protocol import FOLDER, Benchmark

from parsinet.bench import put_tables, run_script

BENCHMARKS = (steps.BENCHMARK, latency.BENCHMARK, csr.BENCHMARK, engine.BENCHMARK)
README, CLAIMS = FOLDER / "README.md", FOLDER.parent / "claims.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="forget the records first")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    options = parser.parse_args()
    failed = [] if options.table else [each.name for each in BENCHMARKS if not measured(each, options.again)]
    put_tables(CLAIMS, README, {name: table for each in BENCHMARKS for name, table in each.tables(each.rows()).items()})
    if failed:
        sys.exit(f"{', '.join(failed)}: see what is said above.")


def measured(benchmark: Benchmark, again: bool) -> bool:
    """Run one script; whether it ended well."""
    command = [sys.executable, str(FOLDER / f"{benchmark.name}.py"), *(["--again"] if again else [])]
    return subprocess.run(command).returncode == 0


if __name__ == "__main__":
    run_script(main)
