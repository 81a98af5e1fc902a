"""Loops under Accelerate: as a loop of one's own, checkpoints across removals, two processes, refusals in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("accelerate", reason="accelerate is not installed (pip install 'parsinet[accelerate]')")

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, TorchDynamoPlugin

from distributed.pair import agreed, launched
from integrations.toys import METHODS
from integrations.two_accelerate import SAVED, accelerated, resumed, toy, train
from methods.toys import points
from parsinet.errors import RunError, StorageError, UsageError
from parsinet.integrations.accelerate import prepare_model, register_for_checkpointing
from parsinet.methods import Gates, Pruner

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def _forget() -> Any:
    """Accelerate keeps its precision for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "gates" else pytest.mark.slow) for name in METHODS])
def test_a_checkpoint_goes_on_bitwise_across_removals(name: str, tmp_path: Path) -> None:
    told = resumed(tmp_path, name)
    assert told["whole"] == told["resumed"]
    begin, saved, end = told["units"]
    assert begin > saved >= end
    assert (tmp_path / "saved" / "parsinet").is_dir()


@pytest.mark.slow
def test_a_checkpoint_in_mixed_precision(tmp_path: Path) -> None:
    told = resumed(tmp_path, mixed_precision="bf16")
    assert told["whole"] == told["resumed"]


def test_the_law_notices_a_method_that_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gates, "load_state_dict", lambda self, state: None)
    told = resumed(tmp_path)
    assert told["whole"] != told["resumed"]


def test_a_checkpoint_without_a_pruner_is_refused(tmp_path: Path) -> None:
    plain = Accelerator(cpu=True)
    prepare_model(plain, toy())
    plain.save_state(str(tmp_path))
    accelerator, *_, pruner = accelerated(METHODS["gates"]())
    before = pruner.widths()
    with pytest.raises(RunError, match="saved before this pruner was registered"):
        accelerator.load_state(str(tmp_path))
    assert pruner.widths() == before


def test_a_damaged_checkpoint_is_refused_before_units_leave(tmp_path: Path) -> None:
    parts = accelerated(METHODS["gates"]())
    train(parts, range(SAVED["gates"]), tmp_path)
    (state,) = (tmp_path / "parsinet").glob("*/state.json")
    state.write_bytes(state.read_bytes()[:-3])
    accelerator, *_, pruner = accelerated(METHODS["gates"]())
    before = pruner.widths()
    with pytest.raises((RunError, StorageError)):
        accelerator.load_state(str(tmp_path))
    assert pruner.widths() == before


def test_what_cannot_shrink_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = Accelerator(cpu=True)
    with pytest.raises(UsageError, match="got a int"):
        prepare_model(accelerator, 3)  # type: ignore[arg-type]
    prepared = accelerator.prepare(toy())
    with pytest.raises(UsageError, match="prepared already"):
        prepare_model(accelerator, prepared)
    for kind, words in (
        (DistributedType.FSDP, "Sharded"),
        (DistributedType.DEEPSPEED, "DeepSpeed"),
        (DistributedType.MEGATRON_LM, "Megatron"),
    ):
        monkeypatch.setattr(Accelerator, "distributed_type", kind)
        with pytest.raises(UsageError, match=words):
            prepare_model(accelerator, toy())


def test_compilation_is_refused() -> None:
    accelerator = Accelerator(cpu=True, dynamo_plugin=TorchDynamoPlugin(backend="eager"))
    with pytest.raises(UsageError, match="dynamo backend"):
        prepare_model(accelerator, toy())


def test_a_model_the_accelerator_does_not_hold_is_refused() -> None:
    net: nn.Module = toy()
    pruner = Pruner(net, torch.optim.SGD(net.parameters(), lr=0.1), Gates(price=1e-3), points(4)[0])
    with pytest.raises(UsageError, match="does not hold"):
        register_for_checkpointing(Accelerator(cpu=True), pruner)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What both ranks have seen."""
    return launched("integrations.two_accelerate", tmp_path_factory.mktemp("two"), seconds=600)


@pytest.mark.slow
def test_replicas_resume_across_removals(told: list[dict[str, Any]]) -> None:
    first = agreed(told, "resumed")
    assert first["whole"] == first["resumed"]
    begin, saved, end = first["units"]
    assert begin > saved > end


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gates, 1", "gates, 2", "vib, 1"])
def test_the_lean_model_is_that_of_gradients_averaged_by_hand(name: str, told: list[dict[str, Any]]) -> None:
    trained, by_hand, widths = agreed(told, "twins", name)
    assert trained == by_hand
    assert widths > 1, "nothing left during training"


@pytest.mark.slow
def test_a_checkpoint_that_rank_0_cannot_see_is_refused_on_both(told: list[dict[str, Any]]) -> None:
    for rank in told:
        assert rank["lost"].startswith("RunError")
