"""Where a run happens: versions, machine, commit, device and torch's global settings."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from parsinet.errors import UsageError

THREADS = 256
"""So many a recipe may ask for on any machine."""


def versions() -> dict[str, str]:
    """Versions of Python, torch and parsinet."""
    return {"python": platform.python_version(), "torch": str(torch.__version__), "parsinet": metadata.version("parsinet")}


def machine(device: torch.device) -> dict[str, Any]:
    """Processor (the GPU's name on CUDA), number of cores, torch's threads."""
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"processor": processor, "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def commit() -> str | None:
    """Git commit of the folder the run was started in, with `+changes` if files differ from it; None outside a repository."""
    head = _git("rev-parse", "HEAD")
    if not head:
        return None
    return f"{head}+changes" if _git("status", "--porcelain", "--untracked-files=no") else head


def usable_device(name: str) -> torch.device:
    """The device of that name. Errors: UsageError if torch does not know it or it is not there."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"Unknown device {name!r}. Use cpu, cuda, or one of several as cuda:1.") from None
    if device.type == "meta":
        raise UsageError("Device 'meta' holds shapes and no numbers: nothing trains there. Use cpu, cuda, or one of several as cuda:1.")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"Device {name!r} cannot be used: {str(error).splitlines()[0].rstrip('.')}. Use cpu.") from None
    return device


@contextlib.contextmanager
def torch_settings(*, threads: int | None, deterministic: bool) -> Iterator[None]:
    """Torch's number of threads and the demand for deterministic algorithms inside; both as before outside."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    if threads is not None:
        if threads > (most := max(THREADS, 4 * (os.cpu_count() or 1))):
            raise UsageError(f"threads={threads} is more than torch can be trusted to start here; give at most {most}.")
        torch.set_num_threads(threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    with contextlib.suppress(OSError):
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
