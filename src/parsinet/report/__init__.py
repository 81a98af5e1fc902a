"""Tables, plots and a summary from run records alone: nothing is trained and torch is not imported."""

from parsinet.report.assemble import report
from parsinet.report.inputs import input_picture
from parsinet.report.network import picture
from parsinet.report.reading import read
from parsinet.report.records import Run

__all__ = ["Run", "input_picture", "picture", "read", "report"]
