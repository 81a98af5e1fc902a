"""Worker processes: one per core, pinned to it, one thread each, that run jobs until there are none."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from parsinet.bench.jobs import Job
from parsinet.errors import MissingExtraError, ParsinetError, RunError

Event = dict[str, Any]


def results(jobs: Sequence[Job], count: int) -> Iterator[Event]:
    """The event of every job, as they come in: its result, or `failed` or `skipped` with the reason.

    Workers end with this process, however it ends: one whose pipe closes leaves after the job it is at.
    """
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    pipes: dict[Any, Any] = {}
    waiting = list(jobs)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    try:
        for place in range(min(count, len(waiting))):
            ours, theirs = context.Pipe()
            core = cores[place % len(cores)] if cores else None
            process = context.Process(target=work, args=(theirs, core), daemon=True)
            process.start()
            theirs.close()
            ours.send(waiting.pop(0))
            pipes[ours] = process
        yield from _gather(pipes, waiting)
    finally:
        for process in pipes.values():
            process.terminate()


def _gather(pipes: dict[Any, Any], waiting: list[Job]) -> Iterator[Event]:
    while pipes:
        for pipe in wait(list(pipes)):
            assert isinstance(pipe, Connection)
            try:
                event = pipe.recv()
            except EOFError:
                process = pipes.pop(pipe)
                process.join()
                raise RunError(f"A worker ended with exit code {process.exitcode}. Run again: what is done stays.") from None
            if waiting:
                pipe.send(waiting.pop(0))
            else:
                pipe.close()
                pipes.pop(pipe).join()
            yield event


def work(pipe: Connection, core: int | None) -> None:
    """What a worker does: jobs in, events out, until the pipe closes. Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if core is not None:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {core})
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            pipe.send(outcome(pipe.recv()))


def outcome(job: Job) -> Event:
    """The event of one job, whatever happens in it."""
    from parsinet.bench.trainings import trained

    told = {"row": job.row, "strength": job.strength, "seed": job.seed, "settings": dict(job.settings)}
    try:
        return trained(job)
    except MissingExtraError as error:
        return {"event": "skipped", **told, "reason": str(error)}
    except ParsinetError as error:
        return {"event": "failed", **told, "reason": str(error)}
    except Exception as error:
        return {"event": "failed", **told, "reason": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
