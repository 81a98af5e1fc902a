"""The scripts of benchmarks/: an error of parsinet is one sentence, as on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from parsinet.errors import ParsinetError
from parsinet.lettering import silence


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`. An error of parsinet (no data, a row that is not known) ends it with its sentence on stderr and exit code 1.

    Ctrl-C ends it with a word and exit code 130; where what reads the output goes away (`| head`), it ends without a word.
    Anything else keeps its traceback: that is a fault of the script.
    """
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        silence()
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).name}: interrupted", file=sys.stderr)
        sys.exit(130)
    except ParsinetError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
