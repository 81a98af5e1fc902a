"""Linear layers without their zeros: the same function, stored and loaded, and converted only where a measurement says so."""

import copy

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

import parsinet as pn
from parsinet.errors import StructureError, UsageError
from parsinet.export import CSRLinear, restore, to_csr, to_dense
from parsinet.measure import Latency


def sparse_linear(inputs=20, outputs=12, zeros=0.9, bias=True, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(inputs, outputs, bias=bias, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=generator, dtype=dtype))
        layer.weight.mul_(torch.rand(outputs, inputs, generator=generator) > zeros)
        if bias:
            layer.bias.copy_(torch.randn(outputs, generator=generator, dtype=dtype))
    return layer


def network(zeros=0.9):
    layers = [sparse_linear(20, 12, zeros), nn.BatchNorm1d(12, dtype=torch.float64), nn.ReLU(), sparse_linear(12, 8, zeros, seed=1)]
    return nn.Sequential(*layers, nn.ReLU(), sparse_linear(8, 3, 0.1, seed=2)).eval()


def normal(*shape, seed=5, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def clock(ratio, whole=None):
    """A timer that finds CSR `ratio` times as fast, and the model as a whole `whole` times."""

    def timer(models, example_inputs):
        single = isinstance(models["csr"], CSRLinear)
        speed = ratio if single or whole is None else whole
        return {"dense": Latency(1, 1e-3, 1e-3, 1), "csr": Latency(1, 1e-3 / speed, 1e-3 / speed, 1)}

    return timer


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(20,), (1, 20), (7, 20), (2, 3, 20), (1, 1, 20), (0, 20)])
@pytest.mark.parametrize("zeros", [0.0, 0.9, 1.0])
def test_it_is_the_same_function(shape, bias, zeros):
    layer = sparse_linear(zeros=zeros, bias=bias)
    x = normal(*shape)
    y = CSRLinear.from_linear(layer)(x)
    assert y.is_contiguous()
    assert y.shape == layer(x).shape
    assert torch.allclose(y, layer(x), atol=1e-12)
    if zeros < 1 and x.numel():
        assert not torch.allclose(CSRLinear.from_linear(sparse_linear(zeros=zeros, bias=bias, seed=3))(x), layer(x))


def test_transposed_inputs_and_gradients_to_the_input():
    layer = sparse_linear()
    x, twin = normal(20, 7).T.requires_grad_(), normal(20, 7).T.requires_grad_()
    CSRLinear.from_linear(layer)(x).square().sum().backward()
    layer(twin).square().sum().backward()
    assert torch.allclose(x.grad, twin.grad, atol=1e-12)


def test_a_first_call_in_inference_mode_leaves_it_usable_with_gradients():
    layer, x = CSRLinear.from_linear(sparse_linear()), normal(7, 20).requires_grad_()
    with torch.inference_mode():
        layer(x.detach())
    layer(x).sum().backward()
    assert x.grad is not None


def test_there_and_back():
    layer = sparse_linear(bias=False, dtype=torch.float32).eval()
    back = CSRLinear.from_linear(layer).to_linear()
    assert type(back) is nn.Linear
    assert torch.equal(back.weight, layer.weight)
    assert back.bias is None
    assert not back.training
    assert back.weight.requires_grad


def test_memory_follows_the_nonzeros():
    layer = sparse_linear(200, 100, dtype=torch.float32)
    sparse = CSRLinear.from_linear(layer)
    kept = int(layer.weight.count_nonzero())
    assert pn.measure.stored_bytes(sparse) == 4 * (2 * kept + 101 + 100)
    assert not list(sparse.parameters())


def test_the_sparse_tensor_follows_its_buffers():
    sparse, other = CSRLinear.from_linear(sparse_linear()), CSRLinear.from_linear(sparse_linear(seed=4))
    x = normal(5, 20)
    before = sparse(x)
    twin = copy.deepcopy(sparse)
    sparse.load_state_dict(other.state_dict())
    assert torch.allclose(sparse(x), other(x))
    assert torch.equal(twin(x), before)
    assert sparse.float()(x.float()).dtype == torch.float32


def test_a_converted_model_is_stored_by_safetensors_and_restored():
    x = normal(6, 20)
    converted = to_csr(network(), x, timer=clock(2.0)).model
    stored = load(save(converted.state_dict()))
    fresh = restore(network(0.5).train(), stored)
    assert isinstance(fresh[0], CSRLinear)
    assert torch.equal(fresh.eval()(x), converted(x))
    again = restore(fresh, to_csr(network(0.8), x, timer=clock(2.0)).model.state_dict())
    assert torch.allclose(again(x), network(0.8)(x), atol=1e-12)
    with pytest.raises(UsageError, match=r"CSR layer '0', but the model has no nn\.Linear there"):
        restore(nn.Sequential(nn.ReLU()), stored)


def test_layers_that_win_are_converted_and_the_model_itself_is_left_alone():
    model, x = network(), normal(6, 20)
    found = to_csr(model, x, timer=clock(2.0))
    assert [(layer.name, layer.converted) for layer in found.layers] == [("0", True), ("3", True), ("5", False)]
    assert torch.allclose(found.model(x), model(x), atol=1e-12)
    assert all(type(model[place]) is nn.Linear for place in (0, 3, 5))
    assert "0: CSR, 8" in str(found) or "0: CSR, 9" in str(found)
    assert "5: dense, only" in str(found)
    assert "whole model: 1000 µs dense, 500 µs with CSR layers" in str(found)
    dense = to_dense(found.model)
    assert torch.equal(dense(x), model(x))
    assert set(dense.state_dict()) == set(model.state_dict())
    assert type(to_dense(CSRLinear.from_linear(model[0]))) is nn.Linear


@pytest.mark.parametrize(
    ("timer", "margin", "words"),
    [
        (clock(1.05), 1.1, "less than 1.1 times as fast"),
        (clock(2.0), 3.0, "less than 3 times as fast"),
        (clock(2.0, whole=0.9), 1.1, "but the whole model is not faster with it"),
    ],
)
def test_dense_stays_where_csr_does_not_win(timer, margin, words):
    model, x = network(), normal(6, 20)
    found = to_csr(model, x, timer=timer, margin=margin)
    assert not any(isinstance(module, CSRLinear) for module in found.model.modules())
    assert not any(layer.converted for layer in found.layers)
    assert words in found.layers[0].reason
    assert torch.equal(found.model(x), model(x))


def test_models_that_read_their_weights_keep_them():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = sparse_linear()
            self.unused = sparse_linear()

        def forward(self, x):
            return self.inner(x) * self.inner.weight.sum()

    found = to_csr(Reader(), normal(6, 20), timer=clock(2.0))
    assert type(found.model.inner) is nn.Linear
    assert "does not run with it: AttributeError" in found.layers[0].reason
    assert found.layers[1].reason == "the example inputs do not reach it"


def test_other_types_and_refusals():
    model = nn.Sequential(sparse_linear(dtype=torch.bfloat16))
    (layer,) = to_csr(model, normal(2, 20).bfloat16(), timer=clock(2.0)).layers
    assert layer.reason == "torch.bfloat16 on cpu is not supported"
    assert str(to_csr(nn.ReLU(), normal(2, 20))) == "no linear layer"
    with pytest.raises(UsageError, match=r"float32 or float64, got torch\.float16"):
        CSRLinear(3, 4, dtype=torch.float16)
    with pytest.raises(UsageError, match=r"margin must be ≥ 1, got 0\.5"):
        to_csr(network(), normal(2, 20), margin=0.5)
    with pytest.raises(UsageError, match="to_csr: the model cannot run"):
        to_csr(network(), normal(2, 21))


def stored_as_csr(folder):
    model = network()
    pn.export.csr(model, normal(4, 20), folder, timer=clock(3))
    return model, pn.export.load_csr(folder, network)


def test_a_network_stored_as_csr_is_exported_again_as_it_is(tmp_path):
    model, serving = stored_as_csr(tmp_path / "csr")
    assert any(isinstance(module, CSRLinear) for module in serving.modules())
    pn.export.csr(serving, normal(4, 20), tmp_path / "again", timer=clock(3))
    pn.export.torch_export(serving, normal(4, 20), tmp_path / "net.pt2")
    x = normal(7, 20)
    assert torch.allclose(pn.export.load_csr(tmp_path / "again", network)(x), model(x))
    assert torch.allclose(torch.export.load(tmp_path / "net.pt2").module()(x), model(x))


def test_a_network_stored_as_csr_says_who_reads_it_and_how_it_trains_again(tmp_path):
    _, serving = stored_as_csr(tmp_path / "csr")
    with pytest.raises(StructureError, match=r"Read it with parsinet\.export\.load_csr"):
        pn.load(tmp_path / "csr", network)
    with pytest.raises(StructureError, match=r"trace: 0 cannot train and lose units: it is stored as CSR.*to_dense\(model\)"):
        pn.trace(serving, normal(4, 20))
    assert pn.trace(to_dense(serving), normal(4, 20)).removable()


def test_the_machine_decides():
    """Almost empty against full, both large: measured for real."""
    model = nn.Sequential(
        sparse_linear(1500, 1500, 0.999, dtype=torch.float32), nn.ReLU(), sparse_linear(1500, 1500, 0.5, dtype=torch.float32)
    )
    quick = lambda models, x: pn.measure.compare_latency(models, x, repeats=10, warmup=2)  # noqa: E731
    found = to_csr(model, normal(32, 1500, dtype=torch.float32), timer=quick)
    assert found.layers[0].converted
    assert found.csr < found.dense
