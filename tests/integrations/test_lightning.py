"""Lightning trains as a loop of one's own does: same networks, checkpoints across removals, refusals in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pl = pytest.importorskip("lightning.pytorch", reason="lightning is not installed (pip install 'parsinet[lightning]')")

from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging  # noqa: E402
from lightning.pytorch.plugins.precision import MixedPrecision  # noqa: E402

from distributed.pair import launched  # noqa: E402
from integrations.toys import METHODS, StoppedError, Toy, Watch, loader, own_loop, same, step_loss, trainer  # noqa: E402
from methods.toys import points  # noqa: E402
from parsinet.errors import ParsinetError, RunError, StorageError, StructureError, UsageError  # noqa: E402
from parsinet.integrations.lightning import Prune  # noqa: E402
from parsinet.integrations.lightning_recovery import recover  # noqa: E402
from parsinet.methods import Spectral  # noqa: E402
from parsinet.structure.record import from_ranges  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::lightning.fabric.utilities.warnings.PossibleUserWarning", "ignore:.*treespec.*:FutureWarning", "ignore:.*LeafSpec.*"
)


def trained(name: str, **options: Any) -> tuple[Toy, Prune, Watch]:
    toy, prune = Toy(), Prune(METHODS[name](), loss=step_loss)
    watch = Watch(prune)
    trainer([prune, watch], **options).fit(toy, loader())
    return toy, prune, watch


@pytest.mark.parametrize("name", METHODS)
def test_the_lean_network_is_that_of_a_loop_of_ones_own(name: str) -> None:
    toy, prune, watch = trained(name, gradient_clip_val=0.5)
    lean = own_loop(METHODS[name](), clip=0.5)
    assert same(prune.finish(), lean)
    assert prune.finish() is toy.net
    assert len({tuple(widths.values()) for widths in watch.widths}) > 1, "nothing left during training"
    assert "on_load_checkpoint" not in vars(toy)


def test_the_law_notices_a_penalty_that_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parsinet.integrations.lightning.add_gradient", lambda penalty: None)
    assert not same(trained("spectral")[1].finish(), own_loop(METHODS["spectral"]()))


def test_every_parameter_moves_after_a_removal() -> None:
    _, _, watch = trained("gates")
    assert watch.moved
    assert all(watch.moved)


@pytest.mark.slow
def test_gradients_accumulate() -> None:
    _, prune, _ = trained("gates", accumulate_grad_batches=2)
    assert same(prune.finish(), own_loop(METHODS["gates"](), accumulate=2))


@pytest.mark.slow
def test_bfloat16() -> None:
    _, prune, _ = trained("gates", precision="bf16-mixed")
    assert same(prune.finish(), own_loop(METHODS["gates"](), autocast=True))


@pytest.mark.slow
def test_float16_with_a_scaler() -> None:
    """Gates hear derivatives of a scaled loss; the weights of an unscaled training are met but for rounding in 16 bits."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    _, prune, _ = trained("gates", plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    theirs, ours = prune.pruner.widths().values(), (prune.pruner._scale.value, scaler.get_scale())
    assert all(1 <= width <= 12 for width in theirs)
    assert ours[0] == ours[1]


@pytest.mark.slow
def test_float64() -> None:
    toy, prune, _ = trained("gates", precision="64-true")
    assert next(prune.finish().parameters()).dtype == torch.float64
    assert same(prune.finish(), toy.net)


def run(path: Path, *, resume: Path | None = None, stop: int | None = None, name: str = "gates") -> tuple[Toy, Prune]:
    """Shuffled batches and dropout, so that the global generator matters; a checkpoint after every epoch."""
    torch.manual_seed(0)
    toy, prune = Toy(0.1), Prune(METHODS[name](), loss=step_loss)
    torch.manual_seed(7 if resume is None else 99)
    watch = Watch(prune, stop, path)
    try:
        trainer([prune, watch]).fit(toy, loader(shuffle=True), ckpt_path=resume)
    except StoppedError:
        assert stop is not None
    return toy, prune


@pytest.mark.parametrize("name", ["gates", pytest.param("spectral", marks=pytest.mark.slow)])
def test_resume_is_bitwise_across_removals(name: str, tmp_path: Path) -> None:
    whole, prune = run(tmp_path / "whole.ckpt", name=name)
    (tmp_path / "part").mkdir()
    run(tmp_path / "part" / "part.ckpt", stop=2, name=name)
    saved = torch.load(tmp_path / "part" / "epoch-2.ckpt", weights_only=True)
    shapes = {tuple(value.shape) for value in saved["state_dict"].values()}
    resumed, again = run(tmp_path / "part" / "more.ckpt", resume=tmp_path / "part" / "epoch-2.ckpt", name=name)
    assert same(whole, resumed)
    assert prune.pruner.widths() == again.pruner.widths()
    assert shapes != {tuple(value.shape) for value in Toy().state_dict().values()}, "nothing had left when it was saved"


@pytest.mark.slow
def test_without_the_units_that_left_the_weights_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: the weights do not wait."""
    run(tmp_path / "part.ckpt", stop=2)
    monkeypatch.setattr("parsinet.integrations.lightning_parts.Held._load", lambda self, checkpoint: None)
    with pytest.raises(RuntimeError, match="size mismatch"):
        run(tmp_path / "more.ckpt", resume=tmp_path / "epoch-2.ckpt")


@pytest.mark.slow
def test_a_checkpoint_gives_its_network_without_a_trainer(tmp_path: Path) -> None:
    run(tmp_path / "part.ckpt", stop=2)
    lean = recover(tmp_path / "epoch-2.ckpt", Toy(0.1), METHODS["gates"]())
    saved = torch.load(tmp_path / "epoch-2.ckpt", weights_only=True)["callbacks"]["Prune"]["pruner"]
    for name, units in saved["units"].items():
        assert lean.get_submodule(name).out_features <= len(from_ranges(units)) < saved["sizes"][name]
    assert torch.isfinite(lean(points()[0])).all()
    assert not any(module._forward_pre_hooks for module in lean.modules())


def test_recover_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        recover(tmp_path / "nothing.ckpt", Toy(), METHODS["gates"]())
    torch.save({"state_dict": {}}, tmp_path / "plain.ckpt")
    with pytest.raises(RunError, match="without the callback"):
        recover(tmp_path / "plain.ckpt", Toy(), METHODS["gates"]())


@pytest.mark.slow
def test_validation_of_a_checkpoint_of_other_widths_is_refused_in_words(tmp_path: Path) -> None:
    toy, prune = run(tmp_path / "run.ckpt")
    with pytest.raises(StructureError, match=r"recover"):
        trainer([prune]).test(toy, loader(), ckpt_path=tmp_path / "epoch-0.ckpt", verbose=False)


@pytest.mark.slow
def test_validation_goes_with_it() -> None:
    toy, prune = Toy(), Prune(METHODS["gates"]())
    fitted = trainer([prune])
    fitted.fit(toy, loader(), loader())
    assert fitted.callback_metrics["parsinet/parameters"] < sum(parameter.numel() for parameter in Toy().parameters())
    assert 0 <= fitted.validate(toy, loader(), verbose=False)[0]["error"] < 0.5


class Manual(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class Silent(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.example_input_array = None


class Odd(Toy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x) + self.net(x)


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "manual": (lambda: trainer([Prune(METHODS["gates"]())]).fit(Manual(), loader()), "manual optimization"),
    "no inputs": (lambda: trainer([Prune(METHODS["gates"]())]).fit(Silent(), loader()), "example inputs"),
    "inputs that do not tell": (lambda: trainer([Prune(METHODS["gates"]())]).fit(Odd(), loader()), "does not tell"),
    "no such network": (lambda: trainer([Prune(METHODS["gates"](), network="body")]).fit(Toy(), loader()), "no module 'body'"),
    "half weights": (lambda: trainer([Prune(METHODS["gates"]())], precision="bf16-true").fit(Toy(), loader()), "bf16-mixed"),
    "an average": (
        lambda: trainer([Prune(METHODS["gates"]()), EMAWeightAveraging()]).fit(Toy(), loader()),
        "EMAWeightAveraging keeps a copy",
    ),
    "swa": (
        lambda: trainer([StochasticWeightAveraging(1e-3), Prune(METHODS["gates"]())]).fit(Toy(), loader()),
        "StochasticWeightAveraging keeps a copy",
    ),
    "rate of eigenvalues": (lambda: trainer([Prune(Spectral(0.5, eigenvalue_lr=0.1))]).fit(Toy(), loader()), "lr = 0.1"),
    "loss": (lambda: Prune(METHODS["gates"](), loss=0.5), "loss must be a function"),  # type: ignore[arg-type]
    "option": (lambda: Prune(METHODS["gates"](), keep=3), "takes no 'keep'"),  # type: ignore[call-arg]
    "finish": (lambda: Prune(METHODS["gates"]()).finish(), "nothing has been trained"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_pruned_in_is_refused(name: str) -> None:
    act, words = BAD[name]
    with pytest.raises(ParsinetError, match=words):
        act()


@pytest.mark.slow
def test_a_second_fit_is_refused() -> None:
    toy, prune, _ = trained("gates")
    with pytest.raises(UsageError, match="Build a new one"):
        trainer([prune]).fit(toy, loader())


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes(accumulate: int, tmp_path: Path) -> None:
    """Both end bitwise equal; resumed across removals they are those that were never stopped."""
    first, second = launched("integrations.two", tmp_path, str(accumulate), seconds=300)
    assert first == second
    assert first["whole"] == first["resumed"]
    assert first["widths"][2] != first["widths"][0]
