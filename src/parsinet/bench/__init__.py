"""The fair comparison: suites of methods under one recipe, equal trials, watched trainings, reports and claims checked against records."""

from parsinet.bench.checking import check
from parsinet.bench.page import PAGE, write_report
from parsinet.bench.rewriting import put_tables, redraft, rewrite
from parsinet.bench.running import run, stored
from parsinet.bench.scripts import run_script
from parsinet.bench.suite import Suite, load, names

__all__ = ["PAGE", "Suite", "check", "load", "names", "put_tables", "redraft", "rewrite", "run", "run_script", "stored", "write_report"]
