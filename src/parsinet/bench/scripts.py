"""The scripts of benchmarks/: an error of parsinet is one sentence, as on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from parsinet.errors import ParsinetError


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`. An error of parsinet (no data, a row that is not known) ends it with its sentence on stderr and exit code 1.

    Anything else keeps its traceback: that is a fault of the script.
    """
    try:
        main()
    except ParsinetError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
