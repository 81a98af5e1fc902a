"""The scenarios of two processes, run once for all tests that ask what they have seen."""

from __future__ import annotations

from typing import Any

import pytest

from distributed.pair import results

Told = dict[str, list[Any]]


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What both ranks have seen, by scenario and rank."""
    return results("distributed.scenarios fast", tmp_path_factory.mktemp("pair"), seconds=300)
