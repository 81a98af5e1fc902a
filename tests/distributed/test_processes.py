"""What torchrun has set, and which of several processes tells of an error."""

from __future__ import annotations

import pytest
import typer
from torch import distributed as dist
from torch import nn

from parsinet.cli.guard import guarded
from parsinet.distributed import Replicas, Sharded, device_of, joined, launched, lost, one_message
from parsinet.distributed.ranks import ALONE, elsewhere
from parsinet.errors import RunError, UsageError

LAUNCHED = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "LOCAL_RANK": "1"}


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("torchrun")
def test_each_process_takes_the_gpu_of_its_own() -> None:
    assert launched() == 4
    assert device_of("cpu") == "cpu"
    assert device_of("cuda") == "cuda:1"
    with pytest.raises(UsageError, match="'cuda:0' names one GPU for 4 processes"):
        device_of("cuda:0")


def test_without_torchrun_nothing_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    assert device_of("cuda:1") == "cuda:1"
    with joined() as ranks:
        assert ranks is ALONE
    assert not dist.is_initialized()
    with pytest.raises(ValueError, match="as it was"), one_message(ALONE):
        raise ValueError("as it was")


@pytest.mark.parametrize("kind", [Replicas, Sharded])
def test_one_network_in_several_processes_needs_a_process_group(kind: type[Replicas | Sharded]) -> None:
    with pytest.raises(UsageError, match=f"{kind.__name__}: there is no process group. Start with torchrun"):
        kind(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:41"), True),
        (RuntimeError("Application timeout caused pair closure"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (dist.DistNetworkError("the client socket has timed out"), True),
        (ValueError("Connection closed"), False),
        (None, False),
    ],
)
def test_errors_of_lost_processes_are_known(error: BaseException | None, gone: bool) -> None:
    assert lost(error) == gone


@pytest.mark.parametrize(("kind", "raised"), [(UsageError, UsageError), (ZeroDivisionError, RunError)])
def test_an_error_of_another_rank_is_not_repeated(
    kind: type[Exception], raised: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    error = elsewhere(kind, "told there")
    assert type(error) is raised

    def command() -> None:
        raise error

    with pytest.raises(typer.Exit):
        guarded(command)()
    assert capsys.readouterr().err == ""
