"""The same drawn examples at every run; at its end, the names of the tests that use more than two seconds of processor time.

`pytest --hypothesis-profile=default` draws other examples at every run, to search for what the kept ones do not show.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, print_blob=True)
settings.load_profile("repeatable")

LIMIT = 2.0
"""Seconds of this process' processor time, which other work on the machine does not lengthen (threads that wait busily do)."""
HEAVY = pytest.StashKey[dict[str, float]]()

gc.disable()  # while tests are collected, which leaves a million objects and no rubbish


def pytest_collection_finish() -> None:
    """What has been collected stays to the end: it need not be searched for rubbish again and again."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    began = time.process_time()
    try:
        return (yield)
    finally:
        spent = time.process_time() - began
        if spent > LIMIT and item.get_closest_marker("slow") is None:
            item.config.stash.setdefault(HEAVY, {})[item.nodeid] = spent


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    heavy = terminalreporter.config.stash.get(HEAVY, {})
    if heavy:
        terminalreporter.section(f"more than {LIMIT:g} s of processor time: shrink them or mark them slow")
    for name, seconds in sorted(heavy.items(), key=lambda entry: -entry[1]):
        terminalreporter.line(f"{seconds:.1f} s  {name}")
