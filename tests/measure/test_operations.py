"""Multiply-adds against published numbers, hand formulas and a slow twin that counts at the modules."""

from collections.abc import Callable, Sequence
from math import prod

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parsinet import measure, models
from parsinet.errors import UsageError
from parsinet.measure.operations import recurrent_flops


class Function(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def macs_by_hooks(model: nn.Module, inputs: Tensor) -> int:
    """Linear: outputs · inputs of one; convolution: outputs · kernel · channels of the group; transposed: the same seen from the inputs."""
    total = 0

    def count(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Linear):
            total += output.numel() * module.in_features
        elif isinstance(module, nn.ConvTranspose2d):
            total += args[0].numel() * prod(module.kernel_size) * (module.out_channels // module.groups)
        elif isinstance(module, nn.Conv1d | nn.Conv2d):
            total += output.numel() * prod(module.kernel_size) * (module.in_channels // module.groups)

    handles = [module.register_forward_hook(count) for module in model.modules()]
    model.eval()(inputs)
    for handle in handles:
        handle.remove()
    return total // len(inputs)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [("lenet-300-100", (784,), 266_200), ("lenet-5-caffe", (1, 28, 28), 2_293_000)],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_published_counts(name: str, shape: tuple[int, ...], expected: int, batch: int) -> None:
    assert measure.macs(models.build(name, shape, 10), torch.randn(batch, *shape)) == expected


NETS: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "mlp": lambda: (models.build("mlp", (2, 7), 3, batch_norm=True), (2, 7)),
    "lenet-5-caffe": lambda: (models.build("lenet-5-caffe", (1, 20, 28), 10), (1, 20, 28)),
    "vgg-small": lambda: (models.build("vgg-small", (3, 8, 16), 10, width=4), (3, 8, 16)),
    "wrn-12": lambda: (models.build("wrn-12", (1, 9, 12), 10), (1, 9, 12)),
    "depthwise": lambda: (nn.Conv2d(6, 6, 3, groups=6), (6, 9, 7)),
    "grouped, strided, dilated": lambda: (nn.Conv2d(6, 9, (3, 2), groups=3, stride=2, dilation=2, padding=1), (6, 9, 7)),
    "transposed": lambda: (nn.ConvTranspose2d(6, 9, 3, groups=3, stride=2), (6, 5, 7)),
    "one dimension": lambda: (nn.Conv1d(6, 4, 3, groups=2), (6, 9)),
    "no bias, tokens": lambda: (nn.Linear(6, 4, bias=False), (5, 6)),
    "one output": lambda: (nn.Linear(6, 1), (6,)),
}


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_same_as_the_slow_twin(net: Callable[[], tuple[nn.Module, tuple[int, ...]]]) -> None:
    model, shape = net()
    inputs = torch.randn(2, *shape)
    assert measure.macs(model, inputs) == macs_by_hooks(model, inputs) > 0


def test_the_twin_can_object() -> None:
    model = nn.Sequential(nn.Linear(6, 4), Function(lambda x: x @ torch.ones(4, 3)))
    assert measure.macs(model, torch.randn(2, 6)) == macs_by_hooks(model, torch.randn(2, 6)) + 12


def recurrent_by_hand(gates: int, steps: int, features: int, hidden: int, layers: int, directions: int, projection: int) -> int:
    state = projection or hidden
    inputs: Sequence[int] = [features] + [directions * state] * (layers - 1)
    per_step = sum(gates * hidden * size + gates * hidden * state + hidden * projection for size in inputs)
    return steps * directions * per_step


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    ("kind", "gates", "options"),
    [
        (nn.LSTM, 4, {}),
        (nn.LSTM, 4, {"num_layers": 3, "bidirectional": True}),
        (nn.LSTM, 4, {"num_layers": 2, "proj_size": 2}),
        (nn.LSTM, 4, {"bias": False}),
        (nn.GRU, 3, {"num_layers": 2, "bidirectional": True}),
        (nn.RNN, 1, {"num_layers": 2}),
    ],
)
def test_recurrent_layers(kind: type[nn.RNNBase], gates: int, options: dict[str, int], batch_first: bool) -> None:
    steps, features, hidden, batch = 7, 5, 6, 3
    inputs = torch.randn(batch, steps, features)
    layer = kind(features, hidden, batch_first=batch_first, **options)
    wrapped = layer if batch_first else nn.Sequential(Function(lambda x: x.transpose(0, 1)), layer)
    directions = 2 if options.get("bidirectional") else 1
    expected = recurrent_by_hand(gates, steps, features, hidden, options.get("num_layers", 1), directions, options.get("proj_size", 0))
    assert measure.macs(wrapped, inputs) == expected


def test_the_formula_for_all_layers_at_once() -> None:
    weights = [(24, 5), (24, 2), (24,), (24,), (2, 6)]
    assert recurrent_flops((7, 3, 5), weights) == 2 * 3 * recurrent_by_hand(4, 7, 5, 6, 1, 1, 2)


def test_lstm_classifier() -> None:
    model = models.build("lstm", (1, 28, 28), 10, hidden=32)
    assert measure.macs(model, torch.randn(2, 1, 28, 28)) == 28 * 4 * 32 * (28 + 32) + 320


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_attention(causal: bool, frozen: bool) -> None:
    heads, queries, keys, width, value_width = 2, 5, 5, 4, 4
    q, k, v = torch.randn(3, heads, queries, width), torch.randn(3, heads, keys, width), torch.randn(3, heads, keys, value_width)
    model = Function(lambda *qkv: F.scaled_dot_product_attention(*qkv, is_causal=causal)).requires_grad_(not frozen)
    assert measure.macs(model, (q, k, v)) == heads * queries * keys * (width + value_width)


def test_cross_attention_with_wider_values_and_a_mask() -> None:
    q, k, v = torch.randn(3, 2, 5, 4), torch.randn(3, 2, 7, 4), torch.randn(3, 2, 7, 6)
    assert measure.macs(Function(F.scaled_dot_product_attention), (q, k, v)) == 2 * 5 * 7 * 10
    mask = torch.ones(5, 7, dtype=torch.bool)
    assert measure.macs(Function(F.scaled_dot_product_attention), (q, k, v, mask)) == 2 * 5 * 7 * 10


def test_vision_transformer() -> None:
    model = models.build("tiny-vit", (1, 28, 28), 10)
    tokens, width = 50, 64
    block = 4 * tokens * width * width + 2 * tokens * tokens * width + 2 * tokens * width * 128
    assert measure.macs(model, torch.randn(2, 1, 28, 28)) == 49 * 16 * width + 4 * block + width * 10


def test_torch_encoder_layer_is_seen_inside_its_fast_path() -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    tokens = 5
    expected = 4 * tokens * 64 + 2 * tokens * tokens * 8 + 2 * tokens * 8 * 16
    assert measure.macs(model, torch.randn(2, tokens, 8)) == expected
    assert torch.backends.mha.get_fastpath_enabled() is before


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x @ torch.ones(6), 6),
        (lambda x: torch.addmv(torch.ones(2), x, torch.ones(6)), 6),
        (lambda x: torch.dot(x.flatten(), x.flatten()), 6),
        (lambda x: torch.vdot(x.flatten(), x.flatten()), 6),
        (lambda x: F.bilinear(x, x[:, :4], torch.ones(5, 6, 4)), 5 * 6 * 4),
        (lambda x: torch.addbmm(torch.ones(3, 2), x.view(2, 3, 2), torch.ones(2, 2, 2)), 3 * 2 * 2),
        (lambda x: torch.einsum("bi,ij->bj", x, torch.ones(6, 3)), 18),
        (lambda x: x.relu() + 1, 0),
    ],
)
def test_products_outside_modules(function: Callable[[Tensor], Tensor], expected: int) -> None:
    assert measure.macs(Function(function), torch.randn(2, 6)) == expected


class Asking(nn.Module):
    """A layer that is given a parameter, spread over the batch, as queries."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.layer = nn.Parameter(torch.randn(1, 4)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.queries.expand(len(x), -1)) + self.layer(x)


def test_a_layer_may_be_given_a_parameter() -> None:
    model = Asking()
    assert measure.macs(model, torch.randn(2, 4)) == 2 * 12
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_zeros_are_multiplied_too() -> None:
    model = nn.Linear(6, 4)
    nn.init.zeros_(model.weight)
    assert measure.macs(model, torch.randn(2, 6)) == 24


def test_a_model_that_cannot_run_is_refused() -> None:
    with pytest.raises(UsageError, match=r"macs: the model cannot run on the example inputs \(float32 \[2, 5\]\): RuntimeError"):
        measure.macs(nn.Linear(6, 4), torch.randn(2, 5))
    assert nn.Linear(6, 4).training
