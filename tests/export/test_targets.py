"""Every form computes what the network computes, any batch size; what does not is refused and leaves nothing behind."""

from __future__ import annotations

import copy
import io
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import parsinet as pn
from export.lean_networks import FURTHER, NETWORKS, Lean
from parsinet.draws import Place
from parsinet.errors import ExportError, MissingExtraError, StorageError, UsageError
from parsinet.export import Exported, bundle_folder, onnx_file, program_file
from parsinet.export.agreement import compare
from parsinet.export.capturing import capture, settled
from parsinet.export.card import Facts, _inputs
from parsinet.measure import Latency

QUICK = ("mlp", "char-gpt")
ALL = {**NETWORKS, **FURTHER}


def rows(quick: tuple[str, ...]) -> pytest.MarkDecorator:
    values = [pytest.param(case, id=name, marks=() if name in quick else pytest.mark.slow) for name, case in ALL.items()]
    return pytest.mark.parametrize("case", values)


def clock(ratio: float) -> Callable[..., dict[str, Latency]]:
    """A timer that finds CSR `ratio` times as fast."""
    return lambda models, inputs: {"dense": Latency(1, 1e-3, 1e-3, 1), "csr": Latency(1, 1e-3 / ratio, 1e-3 / ratio, 1)}


def outputs_agree(model: nn.Module, other: Callable[..., Any], case: Lean, tolerance: float = 1e-5) -> None:
    """Beside `compare`, and without it: on batches that the export did not look at."""
    for batch in (1, 2, 5):
        x = case.inputs(batch)
        with torch.no_grad():
            y, z = model(x), other(x)
        z = z[0] if isinstance(z, tuple) else z
        assert y.shape == z.shape
        assert float((y - z).abs().max()) <= tolerance * float(y.abs().max())


@pytest.fixture(scope="module")
def quick_onnx(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The smallest network as an ONNX file."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    return pn.export.onnx(*still(), tmp_path_factory.mktemp("onnx") / "deep" / "lean.onnx")


def test_an_onnx_file(quick_onnx: Exported) -> None:
    onnx = pytest.importorskip("onnx")
    outputs_agree(still()[0], pn.export.OnnxNetwork(quick_onnx.path.read_bytes()), NETWORKS["mlp"])
    assert quick_onnx.agreement is not None
    assert quick_onnx.agreement.batches == (1, 3, 9)
    assert {batch: list(times) for batch, times in quick_onnx.latency.items()} == {batch: ["torch", "ONNX Runtime"] for batch in (1, 64)}
    graph = onnx.load(str(quick_onnx.path)).graph
    assert [value.type.tensor_type.shape.dim[0].dim_param for value in (*graph.input, *graph.output)] == ["batch", "batch"]


@rows(())
def test_onnx(case: Lean, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = case.model()
    left = pn.export.onnx(model, case.inputs(), tmp_path / "lean.onnx")
    outputs_agree(model, pn.export.OnnxNetwork(left.path.read_bytes()), case)


@rows(("mlp",))
def test_torch_export(case: Lean, tmp_path: Path) -> None:
    model = case.model()
    left = pn.export.torch_export(model, case.inputs(), tmp_path / "lean.pt2")
    with open(left.path, "rb") as file:
        outputs_agree(model, torch.export.load(file).module(), case)


@rows(QUICK)
def test_bundle(case: Lean, tmp_path: Path) -> None:
    model = case.model()
    left = pn.export.bundle(model, case.inputs(), tmp_path / "lean")
    network = bundle_folder.runpy.run_path(str(left.path / "model.py"))["load"]()
    outputs_agree(model, network, case)
    again = pn.load(left.path, case.factory).eval()
    outputs_agree(model, again, case, 0.0)
    assert {name for name, _ in network.named_parameters()} == {name for name, _ in model.named_parameters()}


@rows(QUICK)
def test_safetensors(case: Lean, tmp_path: Path) -> None:
    model = case.model()
    left = pn.export.safetensors(model, tmp_path / "lean")
    outputs_agree(model, pn.load(left.path, case.factory).eval(), case, 0.0)
    assert "bit by bit" in str(left)


@pytest.mark.parametrize("name", ["mlp", "char-gpt", "tiny-vit"])
def test_csr(name: str, tmp_path: Path) -> None:
    case = NETWORKS[name]
    model = case.model()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.data.mul_(torch.rand(module.weight.shape, generator=torch.Generator().manual_seed(2)) > 0.8)
    left = pn.export.csr(model, case.inputs(), tmp_path / "won", timer=clock(2.0))
    again = pn.export.load_csr(left.path, case.factory)
    assert any(isinstance(module, pn.export.CSRLinear) for module in again.modules())
    outputs_agree(model, again, case)
    assert "1000.0   500.0  CSR" in str(left)
    lost = pn.export.csr(model, case.inputs(), tmp_path / "lost", timer=clock(1.0), batch=4)
    outputs_agree(model, pn.export.load_csr(lost.path, case.factory), case, 0.0)
    assert "No layer is faster as CSR with batch 4; the folder holds the dense network." in str(lost)


# What must be caught


@pytest.mark.parametrize("name", ["mlp", "char-gpt"])
def test_agreement_objects_to_another_weight_and_to_another_shape(name: str) -> None:
    model, case = NETWORKS[name].model(), NETWORKS[name]
    other = copy.deepcopy(model)
    outputs_agree(model, other, case, 0.0)
    with pytest.raises(AssertionError):
        outputs_agree(model, lambda x: model(x)[:1], case)
    with torch.no_grad():
        next(other.parameters())[:, 0] += 0.1
    with pytest.raises(AssertionError):
        outputs_agree(model, other, case)


def flipped(content: bytes, tensor: Tensor) -> bytes:
    """The bytes with one bit of a tensor's first entry turned: the sign."""
    wanted = tensor.detach().contiguous().numpy().tobytes()
    place = content.index(wanted) + 3
    return content[:place] + bytes([content[place] ^ 0x80]) + content[place + 1 :]


def with_a_flipped_weight(content: bytes) -> bytes:
    """An ONNX file with the sign of one weight turned: the largest of the last layer, whose outputs no activation hides."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(content)
    (place,) = (number for number, tensor in enumerate(model.graph.initializer) if tensor.name == "fc3.weight")
    values = onnx.numpy_helper.to_array(model.graph.initializer[place]).copy()
    values.flat[abs(values).argmax()] *= -1
    model.graph.initializer[place].CopyFrom(onnx.numpy_helper.from_array(values, model.graph.initializer[place].name))
    return bytes(model.SerializeToString())


def still() -> tuple[nn.Module, Tensor]:
    return NETWORKS["mlp"].model(), NETWORKS["mlp"].inputs()


def test_a_flipped_weight_in_an_onnx_file_is_caught(quick_onnx: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "to_onnx", lambda program: with_a_flipped_weight(quick_onnx.path.read_bytes()))
    with pytest.raises(ExportError, match=r"The ONNX file does not compute the same: its outputs differ by .* Nothing was written"):
        pn.export.onnx(*still(), tmp_path / "new" / "lean.onnx")
    assert not list(tmp_path.iterdir())


def test_a_flipped_bit_in_a_pt2_file_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = still()
    honest = program_file.to_program
    for tensor in (model.fc1.weight, model.bn1.running_mean):
        with monkeypatch.context() as patch:
            patch.setattr(program_file, "to_program", lambda program, tensor=tensor: flipped(honest(program), tensor))
            with pytest.raises(ExportError, match=r"cannot be loaded back|its tensor 'fc1.weight' differs|running_mean' differs"):
                pn.export.torch_export(model, x, tmp_path / "lean.pt2")
    with pytest.raises(ExportError, match="cannot be loaded back"):
        program_file.check_program(b"PK no program", model, x)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["safetensors", "csr"])
def test_a_flipped_weight_in_a_folder_is_caught(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = still()

    def faulty(network: nn.Module, folder: Path) -> None:
        network = pn.export.conversion.copy.deepcopy(network)
        network.fc1.bias.data[0] *= -1
        pn.save(network, folder)

    for module in (pn.export.tensors_folder, pn.export.csr_folder):
        monkeypatch.setattr(module, "save", faulty)
    export = {"safetensors": lambda out: pn.export.safetensors(model, out), "csr": lambda out: pn.export.csr(model, x, out)}[target]
    with pytest.raises(ExportError, match=r"not hold the same network: its tensor 'fc1.bias' differs"):
        export(tmp_path / "new" / "lean")
    assert not list(tmp_path.iterdir())


def test_a_wrong_line_or_a_replaced_weight_in_a_bundle_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = still()
    left = pn.export.bundle(model, x, tmp_path / "lean")
    weights = left.path / "model.safetensors"
    weights.write_bytes(flipped(weights.read_bytes(), model.fc1.bias))
    with pytest.raises(ValueError, match=r"model.safetensors is damaged or was replaced"):
        bundle_folder.runpy.run_path(str(left.path / "model.py"))["load"]()
    monkeypatch.setattr(bundle_folder, "TEMPLATE", bundle_folder.TEMPLATE.replace("{lines}", "x = 1.001 * x\n        {lines}"))
    with pytest.raises(ExportError, match="The bundle does not compute the same"):
        pn.export.bundle(model, x, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["lean"]


def test_compare_objects() -> None:
    model, x = still()
    assert compare("It", model, model, x).difference == 0.0
    for other, words in (
        (lambda y: model(y)[:, :2], r"It gives outputs of shapes \[\[9, 2\]\], not \[\[9, 5\]\]"),
        (lambda y: model(y) + 1e-3 * (len(y) == 1), "It does not compute the same"),
        (lambda y: model(y) * float("nan"), "There are numbers in the output of it that are not finite"),
        (lambda y: y["x"], "It does not run on a batch of 9: "),
    ):
        with pytest.raises(ExportError, match=words):
            compare("It", model, other, x)
    with pytest.raises(ExportError, match=r"computes in bfloat16; export it as float32: model.float\(\)"):
        compare("It", model.bfloat16(), model, x.bfloat16())


# What is refused


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1) if len(x) == 2 else x


class Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Airy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.airy_ai(x)


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


X = torch.linspace(-1, 1, 12).reshape(4, 3)


@pytest.mark.parametrize(
    ("export", "model", "inputs", "kind", "words"),
    [
        ("torch_export", Fixed(), X, ExportError, "torch.export cannot capture Fixed for any batch size"),
        ("torch_export", Deciding(), X, ExportError, "cannot capture Deciding.*data-dependent"),
        ("bundle", Two(), (X, X), UsageError, "networks of one input tensor, got 2"),
        ("bundle", nn.Linear(4, 3), X, UsageError, r"export: the model cannot run on the example inputs \(float32 \[4, 3\]\)"),
        ("bundle", nn.Linear(3, 3).half(), X.half(), ExportError, "computes in float16"),
    ],
)
def test_refused(export: str, model: nn.Module, inputs: Any, kind: type[Exception], words: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=words) as caught:
        getattr(pn.export, export)(model, inputs, tmp_path / "new" / "lean")
    assert len(str(caught.value)) < 400
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_onnx_cannot_take_says_why(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(ExportError, match=r"ONNX cannot take this network: .*special_airy_ai"):
        pn.export.onnx(Airy(), X, tmp_path / "lean.onnx")
    assert not list(tmp_path.iterdir())


def test_several_inputs_and_outputs_go_into_a_pt2(tmp_path: Path) -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor, *, weight: Tensor) -> dict[str, Tensor]:
            return {"sum": x + weight, "product": x * weight}

    left = pn.export.torch_export(Both(), {"x": X, "weight": X}, tmp_path / "both.pt2")
    assert left.agreement is not None
    assert left.agreement.difference == 0.0


def test_constants_and_odd_names_go_into_a_bundle(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("shift", torch.arange(3.0), persistent=False)
            self.operator = nn.Linear(3, 3)

        def forward(self, torch_: Tensor) -> tuple[Tensor, Tensor]:
            parts = (self.operator(torch_) + torch.tensor([1.0, float("-inf"), 2.0]).clamp(min=-5)).split(1, dim=-1)
            return parts[0] + self.shift, torch.zeros(torch_.shape[0], device=torch_.device)

    model = Odd()
    left = pn.export.bundle(model, X, tmp_path / "odd")
    assert (left.path / "constants.safetensors").exists()
    network = bundle_folder.runpy.run_path(str(left.path / "model.py"))["load"]()
    assert all(torch.equal(y, z) for y, z in zip(model(X), network(X), strict=True))
    assert "operator" in dict(network.named_children())


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_extra_is_named(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for other in {"onnx", "onnxscript", "onnxruntime"} - {missing}:
        pytest.importorskip(other)
    with pytest.raises(MissingExtraError, match=r"pip install 'parsinet\[onnx\]'"):
        pn.export.onnx(*still(), tmp_path / "lean.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("export", ["onnx", "torch_export", "bundle", "csr"])
def test_what_is_there_stays(export: str, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    for place in (tmp_path / "taken", tmp_path / "taken" / "file"):
        with pytest.raises(StorageError, match=r"exists already. Delete it, or choose another place"):
            getattr(pn.export, export)(*still(), place)
    with pytest.raises(StorageError, match="exists already"):
        pn.export.safetensors(still()[0], tmp_path / "taken")
    assert (tmp_path / "taken" / "file").read_text() == "mine"


def test_files_hold_neither_data_nor_folders_of_this_machine(tmp_path: Path) -> None:
    model, x = nn.Sequential(Airy(), nn.Linear(3, 2)), X * 1.2345
    content = program_file.to_program(capture(*settled(model, x)))
    for secret in (str(Path(__file__).parent), Path(__file__).name, str(Path(torch.__file__).parent)):
        assert secret.encode() not in content
    assert x[:1].numpy().tobytes() not in content
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(model, (x,), strict=False), buffer)
    assert Path(__file__).name.encode() in buffer.getvalue(), "the check would not see it"


def test_exporting_leaves_the_model_as_found(tmp_path: Path) -> None:
    case = NETWORKS["lstm"]
    model = case.model().train()
    before, generator = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.get_rng_state()
    pn.export.bundle(model, case.inputs(), tmp_path / "lean")
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "lstm", "char-gpt"])
def test_a_bundle_runs_without_parsinet(name: str, tmp_path: Path) -> None:
    """In a process where parsinet cannot be imported and warnings are errors, the card's own example."""
    case = NETWORKS[name]
    left = pn.export.bundle(case.model(), case.inputs(), tmp_path / "lean")
    code = f"import sys; sys.modules['parsinet'] = None\n{example(left.path)}"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=left.path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert done.stdout.startswith("[2, ")


def example(folder: Path) -> str:
    """The code in the card."""
    _, code = (folder / "README.md").read_text(encoding="utf-8").split("```python\n")
    return code.partition("```")[0]


# What draws random numbers in evaluation


class Variational(nn.Module):
    """Its code is drawn in evaluation too."""

    def __init__(self, draw: Callable[[Tensor], Tensor] = torch.randn_like) -> None:
        super().__init__()
        self.enter, self.leave, self.draw = nn.Linear(8, 4), nn.Linear(4, 8), draw

    def forward(self, x: Tensor) -> Tensor:
        mean = self.enter(x)
        return self.leave(mean + 0.1 * self.draw(mean))


DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "randn": torch.randn_like,
    "dropout": lambda mean: F.dropout(mean, 0.5, training=True),
    "distribution": lambda mean: torch.distributions.Normal(mean, mean.abs() + 1).rsample(),
}
NINE = torch.linspace(-1, 1, 72).reshape(9, 8)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("export", ["torch_export", "bundle"])
def test_torch_draws_the_same_numbers_in_both_forms(export: str, draw: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    model = Variational(draw)
    before, coins = torch.get_rng_state(), Place.now()
    left = getattr(pn.export, export)(model, NINE, tmp_path / "lean")
    assert torch.equal(torch.get_rng_state(), before)
    assert coins.moved(Place.now()) == []
    assert left.agreement.difference <= 1e-6


@pytest.mark.slow
def test_onnx_says_that_the_network_draws(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    words = (
        r"The ONNX file cannot be compared: two passes of the network itself differ by .* of their scale: in evaluation it draws random "
        r"numbers \(`randn_like` at test_targets.py:\d+ .*\)\. Return the mean where it does not train \(`if self.training`\), or write a "
        r".pt2 file, which draws as torch does. Nothing was written."
    )
    with pytest.raises(ExportError, match=words) as caught:
        pn.export.onnx(Variational(), NINE, tmp_path / "new" / "lean.onnx")
    assert len(str(caught.value)) < 450
    assert not list(tmp_path.iterdir())


def test_a_linear_layer_of_a_network_that_draws_becomes_sparse() -> None:
    model = Variational()
    with torch.no_grad():
        model.leave.weight[:, 1:] = 0
    found = pn.export.to_csr(model, NINE, timer=clock(9.0))
    assert [layer.name for layer in found.layers if layer.converted] == ["leave"]


ENTROPY = np.random.default_rng()
TOSSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "Python": (lambda mean: mean if random.random() < 0.5 else -mean, r"draws random numbers \(Python's `random`\)\. Return the mean"),
    "NumPy": (lambda mean: mean * np.random.standard_normal(), r"draws random numbers \(`numpy.random`\)\. Return the mean"),
    "both": (
        lambda mean: torch.rand_like(mean) * random.random(),
        r"draws random numbers \(`rand_like` at test_targets.py:\d+ .*, Python's `random`\)\. Return the mean",
    ),
    "nobody": (lambda mean: mean * float(ENTROPY.random()), r"it draws random numbers, or keeps a state\. Return the mean"),
}


@pytest.mark.parametrize(("draw", "words"), TOSSED.values(), ids=TOSSED)
def test_coins_that_a_file_cannot_toss_are_told(draw: Callable[[Tensor], Tensor], words: str, tmp_path: Path) -> None:
    """The graph holds what came out once; nor does a file get its name because all coins fell alike."""
    for seed in range(2):
        random.seed(seed)
        with pytest.raises(ExportError, match=rf"The .pt2 file cannot be compared: .*{words}.*Nothing was written"):
            pn.export.torch_export(Variational(draw), NINE, tmp_path / "lean.pt2")
    assert not list(tmp_path.iterdir())


def test_coins_that_change_nothing_are_let_pass(tmp_path: Path) -> None:
    """Code that tosses before it asks whether it trains."""
    model = Variational(lambda mean: -mean if random.random() < 0.5 and mean is None else mean)
    assert pn.export.torch_export(model, NINE, tmp_path / "lean.pt2").agreement is not None


def test_a_network_that_draws_and_a_file_that_is_another_are_told_apart() -> None:
    """Where the network does not differ from itself, the file is to blame."""
    model = nn.Linear(8, 3)
    with pytest.raises(ExportError, match="It does not compute the same: its outputs differ by"):
        compare("It", model, lambda x: model(x) * 1.1, NINE)


def test_which_output_is_not_finite() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.sum(1), x.log()

    with pytest.raises(ExportError, match="There are numbers in output 2 of 2 of the network that are not finite"):
        compare("The ONNX file", Both(), Both(), NINE)
    with pytest.raises(ExportError, match="There are numbers in output 1 of 2 of the ONNX file that are not finite"):
        compare("The ONNX file", Both(), lambda x: (x.sum(1) / 0, x.exp()), NINE.abs() + 1)


class Scaled(nn.Module):
    """Takes a number, or nothing, beside the tensor, has modules that are named as Python's words, and says what is above zero."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"in": nn.Linear(4, 5), "class": nn.Linear(5, 3)})

    def forward(self, x: Tensor, scale: float | None = None) -> tuple[Tensor, Tensor]:
        y = self.parts["class"](self.parts["in"](x))
        y = y if scale is None else y * scale
        return y, y > 0


@pytest.mark.parametrize("inputs", [(torch.randn(9, 4), 3.0), {"x": torch.randn(9, 4), "scale": 0.5}, (torch.randn(9, 4), None)])
def test_numbers_beside_the_tensor_stay_what_they_were_in_a_bundle(inputs: Any, tmp_path: Path) -> None:
    model = Scaled().eval()
    bundle_folder.bundle(model, inputs, tmp_path / "bundle")
    network = bundle_folder._loaded(tmp_path / "bundle")
    x, scale = inputs.values() if isinstance(inputs, dict) else inputs
    for ours, theirs in zip(model(x, scale), network(x), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match=f"scale is {scale} in this graph"):
        network(x, 7.0)


def test_a_bundle_that_cannot_be_loaded_back_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_folder, "TEMPLATE", "def load(:  # {title}{imports}{files}{buffers}{arguments}{lines}")
    with pytest.raises(ExportError, match="cannot be loaded back: SyntaxError"):
        bundle_folder.bundle(nn.Linear(4, 3), torch.randn(9, 4), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_spectral_network_is_read_without_parsinet(tmp_path: Path) -> None:
    """Unit rows are one operator of ours to the removal engine, and none of it in a file."""
    model = pn.spectral.spectralize(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), variant="unit")
    exported = pn.export.torch_export(model, torch.randn(9, 4), tmp_path / "unit.pt2")
    assert "parsinet" not in str(torch.export.load(exported.path).graph)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_table_beside_the_examples_is_not_taken_for_some(count: int, tmp_path: Path) -> None:
    class Reader(nn.Module):
        def forward(self, x: Tensor, table: Tensor) -> Tensor:
            return x[:, :3] + table.mean(0)

    exported = pn.export.torch_export(Reader(), (torch.randn(9, 4), torch.randn(count, 3)), tmp_path / "reader.pt2")
    assert exported.agreement is not None
    assert exported.agreement.batches == (1, 3, 9)


def test_a_card_says_pixels_are_scaled_where_they_were() -> None:
    moments: dict[str, Any] = {"mean": (0.1,), "std": (0.3,)}
    assert "Pixels in [0, 1], less `mean`" in _inputs(Facts(**moments, divided_by=255), (1, 4, 4), "float32")
    assert "Pixels as in the data, less `mean`" in _inputs(Facts(**moments), (1, 4, 4), "float32")
    assert "Columns, less `mean`" in _inputs(Facts(**moments), (4,), "float32")
