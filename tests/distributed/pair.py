"""Two processes that train together: forked from one fresh interpreter, so that torch is imported once; none of it can hang a test."""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
SIZE = 2
TIMEOUT = 30
"""Seconds after which a collective gives up."""


def environment(**own: str) -> dict[str, str]:
    """That of this process, with what several processes on one machine need, and the tests beside what is imported here."""
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **own}


def results(scenarios: str, folder: Path, seconds: int) -> dict[str, list[Any]]:
    """What the scenarios of a module (`distributed.scenarios fast`) have told, by name and rank. seconds: after which all is killed."""
    module, *which = scenarios.split()
    command = [sys.executable, "-m", module, str(folder), *which]
    done = subprocess.run(command, env=environment(), timeout=seconds, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(SIZE)]
    return {name: [told[name] for told in ranks] for name in ranks[0]}


def launched(module: str, folder: Path, *words: str, seconds: int) -> list[Any]:
    """What a module has told by rank, started as a user starts it: `torchrun -m module folder words`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(SIZE), "-m", module, str(folder), *words]
    done = subprocess.run(command, env=environment(), timeout=seconds, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(SIZE)]


def agreed(told: list[Any], *keys: str) -> Any:
    """What all ranks have told under these keys, which must be the same."""
    for key in keys:
        told = [rank[key] for rank in told]
    assert all(rank == told[0] for rank in told[1:]), "the ranks differ"
    return told[0]


def main(scenarios: Mapping[str, Callable[[int], Any]], seconds: float = 10 * TIMEOUT) -> None:
    """Run the scenarios in two forked processes; the exit status is 1 if one of them fails or does not end in time."""
    folder, names = Path(sys.argv[1]), list(scenarios)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_child, args=(rank, folder, {name: scenarios[name] for name in names})) for rank in range(SIZE)]
    for child in children:
        child.start()
    running, deadline = {child.sentinel for child in children}, time.monotonic() + seconds
    while running and not any(child.exitcode for child in children) and time.monotonic() < deadline:
        running -= set(wait(running, 1.0))
    for child in children:
        child.kill() if child.exitcode is None else None
        child.join(TIMEOUT)
    sys.exit(any(child.exitcode != 0 for child in children))


def _child(rank: int, folder: Path, scenarios: Mapping[str, Callable[[int], Any]]) -> None:
    from torch import distributed as dist

    address = f"file://{folder}/meeting"
    dist.init_process_group("gloo", address, rank=rank, world_size=SIZE, timeout=datetime.timedelta(seconds=TIMEOUT))
    try:
        told = {}
        for name, scenario in scenarios.items():
            print(f"rank {rank}: {name} after {time.process_time():.1f} s", file=sys.stderr, flush=True)
            told[name] = scenario(rank)
        (folder / f"rank-{rank}.json").write_text(json.dumps(told))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    dist.destroy_process_group()
