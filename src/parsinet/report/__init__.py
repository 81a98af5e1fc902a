"""Tables, plots, a summary and a page from run records alone: nothing is trained and torch is not imported."""

from parsinet.report.assemble import PAGE, report, write_page
from parsinet.report.inputs import input_picture
from parsinet.report.network import picture
from parsinet.report.reading import read
from parsinet.report.records import Run
from parsinet.report.sweep_report import sweep_report
from parsinet.report.sweeps import STUDY, STUDY_FORMAT, Sweep, Trial, chosen, read_sweep
from parsinet.report.watch import follow, serve

__all__ = [
    "PAGE",
    "STUDY",
    "STUDY_FORMAT",
    "Run",
    "Sweep",
    "Trial",
    "chosen",
    "follow",
    "input_picture",
    "picture",
    "read",
    "read_sweep",
    "report",
    "serve",
    "sweep_report",
    "write_page",
]
