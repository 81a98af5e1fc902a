"""Where the command line prints: a width in which numbers have room, an encoding that never fails."""

import io
import os
import shutil
import sys

from parsinet.lettering import handler

LEAST_WIDTH = 30
"""Columns below which tables would be cut before their numbers; lines of a narrower terminal wrap."""


def prepare() -> None:
    """Make standard output and error fit to print on, for the rest of the process.

    A COLUMNS below 1 says nothing and is forgotten; a smaller width than `LEAST_WIDTH` counts as that. What an encoding lacks is written
    as `lettering.INSTEAD` says.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=handler())
    told = os.environ.get("COLUMNS", "").strip()
    if told.isdecimal() and int(told) < 1:
        del os.environ["COLUMNS"]
    if shutil.get_terminal_size().columns < LEAST_WIDTH:
        os.environ["COLUMNS"] = str(LEAST_WIDTH)
