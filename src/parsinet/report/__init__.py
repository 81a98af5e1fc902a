"""Tables, plots and a summary from run records alone: nothing is trained and torch is not imported."""

from parsinet.report.assemble import report
from parsinet.report.inputs import input_picture
from parsinet.report.network import picture
from parsinet.report.reading import read
from parsinet.report.records import Run
from parsinet.report.sweep_report import sweep_report
from parsinet.report.sweeps import STUDY, STUDY_FORMAT, Sweep, Trial, chosen, read_sweep

__all__ = [
    "STUDY",
    "STUDY_FORMAT",
    "Run",
    "Sweep",
    "Trial",
    "chosen",
    "input_picture",
    "picture",
    "read",
    "read_sweep",
    "report",
    "sweep_report",
]
