"""All benchmarks of speed, one after the other; afterwards the tables of README.md and their claims say what the records say.

    python benchmarks/speed/run.py --again        # forget the records, measure anew: 12 minutes on two quiet cores
    python benchmarks/speed/run.py                # measure what the records lack
    python benchmarks/speed/run.py --table        # only rewrite the tables and ../claims.yaml from the records

A table of README.md stands between `<!-- table NAME -->` and `<!-- end -->`. Claims about it get the cells that it prints; `parsinet
bench --check` then holds both against the records. Each script's own options, such as --rounds: call it alone, then this with --table.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping

import csr
import engine
import latency
import steps
from protocol import FOLDER, Benchmark

from parsinet import files
from parsinet.bench.claims import Claim, drafted, load_claims

BENCHMARKS = (steps.BENCHMARK, latency.BENCHMARK, csr.BENCHMARK, engine.BENCHMARK)
README, CLAIMS = FOLDER / "README.md", FOLDER.parent / "claims.yaml"
DOCUMENT = "speed/README.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="forget the records first")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    options = parser.parse_args()
    failed = [] if options.table else [each.name for each in BENCHMARKS if not measured(each, options.again)]
    write_tables()
    write_claims()
    if failed:
        sys.exit(f"{', '.join(failed)}: see what is said above.")


def measured(benchmark: Benchmark, again: bool) -> bool:
    """Run one script; whether it ended well."""
    command = [sys.executable, str(FOLDER / f"{benchmark.name}.py"), *(["--again"] if again else [])]
    return subprocess.run(command).returncode == 0


def write_tables() -> None:
    """Every marked table of README.md from the records."""
    tables = {name: table for each in BENCHMARKS for name, table in each.tables(each.rows()).items()}
    text = README.read_text(encoding="utf-8")
    for name, table in tables.items():
        marked = re.compile(rf"(<!-- table {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = marked.subn(lambda found, table=table: f"{found[1]}\n{table}\n\n{found[2]}", text)
        if count != 1:
            sys.exit(f"{README.name} has {count} places for the table {name!r}; it needs one.")
    files.write_text(README, text)


def write_claims() -> None:
    """The cells of all claims about README.md, as it prints them."""
    text = CLAIMS.read_text(encoding="utf-8")
    for claim in load_claims(CLAIMS):
        if claim.documents == (DOCUMENT,):
            text = with_cells(text, claim, drafted(claim, FOLDER.parent))
    files.write_text(CLAIMS, text)


def with_cells(text: str, claim: Claim, cells: Mapping[str, Mapping[str, str]]) -> str:
    """The claims with other cells in one of them, a line per row."""
    lines = [f"      {quoted(row)}: {flow(told)}" for row, told in cells.items()]
    own = re.compile(rf'(  - claim: "?{re.escape(claim.claim)}"?\n(?:    .*\n)*?    cells:)[^\n]*\n(?:      .*\n)*')
    told = "\n".join(["", *lines]) if lines else " {}"
    text, count = own.subn(lambda found: f"{found[1]}{told}\n", text)
    if count != 1:
        sys.exit(f"{CLAIMS.name} has {count} claims called {claim.claim!r} with cells; it needs one.")
    return text


def flow(told: Mapping[str, str]) -> str:
    """A mapping of YAML in one line."""
    return "{" + ", ".join(f"{quoted(column)}: {quoted(cell)}" for column, cell in told.items()) + "}"


def quoted(words: str) -> str:
    """A string of YAML."""
    return json.dumps(words, ensure_ascii=False)


if __name__ == "__main__":
    main()
