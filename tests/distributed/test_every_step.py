"""Two processes resume bitwise from every step, whichever method removes units."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributed.pair import results

LEAST = {"gates": 3, "spectral": 3, "sphere": 1}
"""Removals in a run; the sphere lets units go once, when nothing can grow back."""


@pytest.mark.slow
def test_two_processes_go_on_from_every_step(tmp_path: Path) -> None:
    told = results("distributed.every_step", tmp_path, seconds=1200)
    for name, least in LEAST.items():
        for rank in told[name]:
            assert rank["removals"] >= least
            assert rank["saved"] > 20
            assert rank["different"] == []
    assert told["forgetful"] == [True, True]
