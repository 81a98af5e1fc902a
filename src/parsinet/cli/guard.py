"""Errors as one sentence and an exit code."""

import functools
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from parsinet.errors import ArgumentTypeError, ParsinetError, UsageError
from parsinet.lettering import silence

FAILED, USAGE, UNEXPECTED, INTERRUPTED = 1, 2, 70, 130


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose errors end in one sentence on stderr; its parameter `debug` asks for the traceback instead.

    Exit codes: 2 for an argument, option or recipe entry that cannot be used, 1 for every other error of parsinet,
    130 after Ctrl-C or SIGTERM, 70 for anything unexpected.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:
            silence()
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt as error:
            _leave(str(error) or "Interrupted; this call has saved nothing, and what was there is as it was.", INTERRUPTED, error)
        except ParsinetError as error:
            if kwargs.get("debug"):
                raise
            _leave(str(error), USAGE if isinstance(error, UsageError | ArgumentTypeError) else FAILED, error)
        except Exception as error:
            if kwargs.get("debug") or type(error).__module__.startswith("typer"):
                raise
            if isinstance(error, OSError) and error.filename is None:
                _leave_if_output_is_lost(error)
            reason = next(iter(str(error).strip().splitlines()), "").rstrip(".")
            if isinstance(error, MemoryError) or "can't allocate memory" in reason or "out of memory" in reason:
                _leave(f"There is not enough memory for this ({reason or 'none is left'}). Make network or batch smaller.", FAILED, error)
            _leave(f"Unexpected {type(error).__name__}: {reason}. Run again with --debug for the traceback.", UNEXPECTED, error)

    return run


def _leave_if_output_is_lost(error: Exception) -> None:
    """Where what is printed cannot be written, as on a full disk, an empty line cannot either; errors of our files name them."""
    try:
        print(flush=True)
    except OSError as lost:
        silence()
        reason = lost.strerror or str(lost)
        words = f"What this command prints cannot be written: {reason}. Send it elsewhere; a run that it has begun goes on with --resume."
        _leave(words, FAILED, error)


def _leave(message: str, code: int, error: BaseException) -> NoReturn:
    """Say it, unless another process of the same run does."""
    if not getattr(error, "elsewhere", False):
        typer.echo(f"parsinet: {message}", err=True)
    raise typer.Exit(code) from None
