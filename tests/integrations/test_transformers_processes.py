"""Two processes of transformers' Trainer: as with gradients averaged by hand, resumed bitwise, refused on both when they come apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="transformers is not installed (pip install 'parsinet[transformers]')")
pytest.importorskip("accelerate", reason="accelerate is not installed (pip install 'parsinet[transformers]')")

from distributed.pair import agreed, launched
from parsinet.distributed import digest
from parsinet.integrations.transformers import from_pretrained

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def told(folder: Path) -> list[dict[str, Any]]:
    """What both ranks have seen."""
    return launched("integrations.two_trainer", folder, seconds=1200)


def test_replicas_end_bitwise_equal_and_resume_across_removals(told: list[dict[str, Any]], folder: Path) -> None:
    """Units leave before and after the checkpoint; rank 0 alone saves what both have trained."""
    first = agreed(told, "resumed")
    assert first["whole"] == first["resumed"]
    begin, saved, end = first["widths"]
    assert begin != saved != end
    assert digest(from_pretrained(folder / "lean").state_dict()) == first["whole"]


def test_gates_resume(told: list[dict[str, Any]]) -> None:
    first = agreed(told, "resumed_gates")
    assert first["whole"] == first["resumed"]
    begin, _, end = first["widths"]
    assert begin != end


@pytest.mark.parametrize("name", ["gates", "gates, accumulated", "spectral"])
def test_the_lean_model_is_that_of_gradients_averaged_by_hand(name: str, told: list[dict[str, Any]]) -> None:
    trained, by_hand, widths = agreed(told, "twins", name)
    assert trained == by_hand
    assert widths > 1, "nothing left during training"


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("local gradients", "ReplicaError", "The replicas differ"),
        ("hook", "UsageError", "communication hooks"),
        ("other weights", "RunError", "other weights than those loaded"),
        ("no folder", "RunError", "does not exist"),
    ],
)
def test_what_comes_apart_is_refused_on_both(fault: str, kind: str, words: str, told: list[dict[str, Any]]) -> None:
    for rank in told:
        assert rank["planted"][fault][0] == kind
        assert words in rank["planted"][fault][1]
