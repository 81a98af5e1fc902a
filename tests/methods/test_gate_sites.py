"""Gates wherever units are read: module inputs, recurrent and raw weights, shared streams, heads, the network's own inputs.

For every kind: a closed gate is the silenced and the removed unit, the derivative is that of the loss in ξ, training runs and units leave.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

import parsinet as pn
from architectures import huggingface
from methods.toys import bank
from networks import call, flat, make
from parsinet.errors import ParsinetWarning, RunError, UsageError
from parsinet.gates import straight_through
from parsinet.methods import Gates, Pruner
from parsinet.methods.weighing import FLAT, Weights, WholeSink, _Slice
from parsinet.structure.calling import results

EXACT = 1e-10
"""float64: sums over fewer terms differ in the last digits only."""

WEIGHED = {
    "lstm": {"lstm"},
    "cells": {"cell", "gru"},
    "elman": {"rnn", "cell", "plain"},
    "projected": {"both", "both.projection", "one", "embed"},
    "directions": {"gru"},
    "gated": {"glu"},
    "messages": {"lift", "message.2"},
    "seq2seq": {"encoder"},
    "depthwise": {"stem", "multiplied"},
    "cross-attention": {"embed", "keys", "values"},
    "einsum": {"lift", "v"},
    "routed": {"lift"},
    "dispatched": {"lift", "experts.0.0"},
    "tokens": {"embed"},
    "splines": {"one.plain", "two.plain"},
}
"""Networks of the table whose groups are, some of them, gated in the weights that read them."""
IN_FRONT = {
    "resnet-20": {"conv1", "layer1.0.conv1"},
    "tiny-vit": {"blocks.0.attn.heads", "blocks.0.mlp.fc1"},
    "char-gpt": {"blocks.0.attn.heads"},
    "branches": {"left", "right.groups", "grouped"},
    "experts": set(),
    "torch-encoder": {"pre.linear1", "pre.self_attn.heads", "post.self_attn.heads"},
    "torch-seq2seq": {"encoder.self_attn.heads", "decoder.multihead_attn.heads"},
}
"""Networks whose groups are gated in front of modules: streams, heads, feed-forward widths; a few of their groups."""

LAYERS = ("resnet-20", "tiny-vit", "torch-encoder")
KIN = {"splines", "cells", "projected", "dispatched", "directions", "seq2seq", "einsum", "torch-encoder"}
"""Networks whose readers are of the kinds of another of the table; their derivatives are left to the slow run."""


def double(name: str) -> tuple[nn.Module, Any]:
    model, x = make(name)
    return model.double(), tree_map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, x)


def start(model: nn.Module, x: Any, **options: Any) -> Pruner:
    method = Gates(**{"fall_steps": 50, "interval": 10, **options})
    return Pruner(model, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1), method, x)


def names(pruner: Pruner) -> set[str]:
    return {name for name, _, _ in bank(pruner).rows()}


def output(model: nn.Module, x: Any) -> Tensor:
    with torch.no_grad():
        return flat(call(model, x)).clone()


def closed_against_silent_and_removed(name: str, expected: set[str], *, training: bool = False) -> tuple[float, float]:
    """Half of the gates closed: the distance of the output to that of the silenced and to that of the shrunk network."""
    model, x = double(name)
    model.train(training)
    untouched, state = output(model, x), copy.deepcopy(model.state_dict())
    pruner = start(model, x)
    assert expected <= names(pruner)
    generator = torch.Generator().manual_seed(1)
    for _, theta, _ in bank(pruner).rows():
        theta.copy_((torch.rand(theta.shape, generator=generator) < 0.5).float())
        theta[torch.randint(len(theta), (1,), generator=generator)] = 1
    plan = pruner.structure.plan({group: theta >= 0.5 for group, theta, _ in bank(pruner).rows()})
    closed = output(model, x)
    assert not torch.allclose(closed, untouched), "closing half of the units must show"
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items() if "running" not in key and "num_" not in key)
    silent = copy.deepcopy(model)
    for module in silent.modules():
        module._forward_pre_hooks.clear()
        module._forward_hooks.clear()
    with pn.silence(silent, plan):
        silenced = output(silent, x)
    pruner.finish()
    removed = output(model, x)
    scale = float(closed.abs().max().clamp(min=1))
    return float((closed - silenced).abs().max()) / scale, float((closed - removed).abs().max()) / scale


@pytest.mark.parametrize("name", [*WEIGHED, *IN_FRONT])
def test_a_closed_gate_is_a_silent_and_an_absent_unit(name: str) -> None:
    silent, removed = closed_against_silent_and_removed(name, {**WEIGHED, **IN_FRONT}[name])
    assert silent < EXACT
    assert removed < EXACT


@pytest.mark.parametrize("name", ["lstm", "elman"])
def test_the_law_objects_to_a_weight_that_is_left_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Weights._exchange
    fault = lambda self, model, alias, tensor: None if "_hh" in alias else whole(self, model, alias, tensor)  # noqa: E731
    monkeypatch.setattr(Weights, "_exchange", fault)
    assert max(closed_against_silent_and_removed(name, set())) > 1e-6


def loss_of(result: Tensor) -> Tensor:
    """Any loss that is curved in the outputs."""
    return (torch.sin(3 * result) + result.square()).mean()


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in KIN else name for name in (*WEIGHED, *LAYERS)])
def test_the_derivative_is_that_of_the_loss_in_the_gate(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Central differences of the mean loss in ξ at a drawn ξ, all uses of a unit together: the sum over a residual stream, over time."""
    model, x = double(name)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    model.train()
    pruner = start(model, x, estimator="straight-through")
    generator = torch.Generator().manual_seed(2)
    xi = (torch.rand(len(bank(pruner).theta), generator=generator) < 0.7).double()
    monkeypatch.setattr(bank(pruner), "draw", lambda: xi)
    loss_of(flat(call(model, x))).backward()
    heard = bank(pruner).estimates()
    assert heard.keys() == names(pruner)
    step = 1e-5
    places = {group: torch.arange(len(xi)).split(list(bank(pruner).sizes.values()))[k] for k, group in enumerate(bank(pruner).sizes)}
    for group in list(heard)[:: max(1, len(heard) // 4)]:
        for unit in {0, len(heard[group]) - 1}:
            losses = []
            for sign in (1, -1):
                moved = xi.clone()
                moved[places[group][unit]] += sign * step
                with bank(pruner).holding(moved):
                    losses.append(loss_of(flat(call(model, x))).item())
            expected = (losses[0] - losses[1]) / (2 * step)
            assert float(heard[group][unit]) == pytest.approx(expected, rel=1e-5, abs=1e-9), (group, unit)


class Recurrent(nn.Module):
    """Tells sequences apart by what they sum up to: a recurrent layer wider than needed."""

    def __init__(self, kind: type[nn.RNNBase], hidden: int = 16) -> None:
        super().__init__()
        self.rnn = kind(2, hidden, 2, batch_first=True)
        self.fc = nn.Linear(hidden, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0][:, -1])


class Heads(nn.Module):
    """Attention of torch, which reads its heads with a weight and calls no module."""

    def __init__(self, kind: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.lift, self.attention, self.fc = nn.Linear(2, 24), kind(), nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lift(x)
        h = self.attention(h, h, h, need_weights=False)[0] if isinstance(self.attention, nn.MultiheadAttention) else self.attention(h)
        return self.fc(h.mean(1))


class Raw(nn.Module):
    """A hidden layer read by a raw parameter, a gated linear unit, and a stream without a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Linear(2, 16)
        self.up, self.down = nn.Linear(16, 24), nn.Linear(12, 16)
        self.mix = nn.Parameter(torch.randn(16, 2) / 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.lift(x.sum(1)))
        value, gate = self.up(h).chunk(2, -1)
        return (h + self.down(value * torch.sigmoid(gate))) @ self.mix


KINDS: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "lstm": (lambda: Recurrent(nn.LSTM), {"rnn"}),
    "gru": (lambda: Recurrent(nn.GRU), {"rnn"}),
    "heads": (
        lambda: Heads(lambda: nn.MultiheadAttention(24, 8, batch_first=True)),
        {"lift", "attention.heads", "attention.out_proj.weight"},
    ),
    "encoder layer": (
        lambda: Heads(lambda: nn.TransformerEncoderLayer(24, 8, 20, dropout=0.0, batch_first=True)),
        {"attention.self_attn.heads", "attention.linear1"},
    ),
    "raw": (Raw, {"lift", "up"}),
}


def sequences(n: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 5, 2, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, :, 0].sum(1) > 0).long()


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in ("lstm", "heads", "encoder layer") else kind for kind in KINDS]
)
def test_training_runs_and_units_leave(kind: str) -> None:
    build, expected = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
    method = Gates(price=8e-3, gated=0.7)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=5e-3, weight_decay=1e-4)
    pruner = Pruner(model, optimizer, method, sequences(2, 0)[0], steps=300, examples=300 * 32)
    assert names(pruner) == expected
    before = pruner.widths()
    for k in range(300):
        x, y = sequences(32, k)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    lean = pruner.finish().eval()
    x, y = sequences(500, 10**6)
    assert float((lean(x).argmax(1) == y).float().mean()) > 0.9
    for group in expected:
        assert pruner.widths()[group] < before[group], "something leaves"
    assert all(type(parameter) is nn.Parameter for parameter in lean.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in lean.modules())
    copy.deepcopy(lean)


def test_accumulated_passes_tell_what_one_batch_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only the derivative of the whole batch is known."""
    model = Recurrent(nn.LSTM, 6)
    pruner = start(model, sequences(2, 0)[0], theta=1.0)
    x, y = sequences(16, 3)
    F.cross_entropy(model(x), y).backward()
    whole = bank(pruner).estimates()["rnn"]
    for part in torch.arange(16).chunk(4):
        (F.cross_entropy(model(x[part]), y[part]) / 4).backward()
    assert torch.allclose(bank(pruner).estimates()["rnn"], whole, rtol=1e-4, atol=1e-7)
    assert float(whole.abs().max()) > 1e-4


def test_weights_are_parameters_again_after_every_pass_even_a_failing_one() -> None:
    model = Recurrent(nn.LSTM, 6)
    start(model, sequences(2, 0)[0])
    kept = {key: id(parameter) for key, parameter in model.named_parameters()}
    flat_before = [model.rnn.__dict__[key] for key in FLAT]
    model(sequences(3, 0)[0])
    with pytest.raises(RuntimeError):
        model(torch.randn(3, 5, 7))
    assert {key: id(parameter) for key, parameter in model.named_parameters()} == kept
    assert [model.rnn.__dict__[key] for key in FLAT] == flat_before
    assert all(type(weight) is nn.Parameter for weight in model.rnn._flat_weights)
    copy.deepcopy(model)(sequences(3, 0)[0])
    assert model(sequences(3, 0)[0]).requires_grad


@pytest.mark.parametrize("then", ["state_dict", "finish", "call"])
def test_ctrl_c_in_a_forward_pass_leaves_no_drawn_weight_behind(then: str) -> None:
    """torch calls no hook after KeyboardInterrupt."""
    model = Recurrent(nn.LSTM, 6)
    pruner = start(model, sequences(2, 0)[0])
    kept = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    handle = model.fc.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        model(sequences(3, 0)[0])
    handle.remove()
    assert type(model.rnn._parameters["weight_hh_l0"]) is Tensor, "the drawn weight is in the way"
    if then == "call":
        assert model(sequences(3, 0)[0]).requires_grad
    elif then == "finish":
        pruner.finish()
        torch.optim.SGD(model.parameters(), lr=0.1)
    now = model.state_dict()
    assert then == "finish" or all(torch.equal(now[key], value) for key, value in kept.items())
    assert all(type(parameter) is nn.Parameter for parameter in model.parameters())


def test_a_state_that_is_taken_within_the_forward_pass_does_not_end_it() -> None:
    model = Recurrent(nn.GRU, 4)
    start(model, sequences(2, 0)[0])
    within: list[type] = []
    model.fc.register_forward_pre_hook(lambda *_: model.state_dict() and within.append(type(model.rnn._parameters["weight_hh_l0"])))
    model(sequences(2, 0)[0])
    assert within == [Tensor]


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_model_that_calls_itself_is_refused() -> None:
    model = Recurrent(nn.GRU, 4)
    start(model, sequences(2, 0)[0])
    handle = model.fc.register_forward_pre_hook(lambda module, args: model(sequences(2, 1)[0]) and None)
    with pytest.raises(RunError, match="from within its own forward pass"):
        model(sequences(2, 0)[0])
    handle.remove()
    model(sequences(2, 0)[0])


def test_a_sink_hears_the_first_pass_only_and_says_when_there_was_none() -> None:
    sink = WholeSink()
    with pytest.raises(RunError, match="nothing to take"):
        sink.take()
    sink.add(torch.ones(2))
    sink.add(torch.ones(2))
    assert sink.take().tolist() == [1.0, 1.0]
    assert sink.empty


def test_indices_without_a_unit_stay_whole() -> None:
    class Fixed:
        def factor(self, group: str) -> Tensor:
            return torch.tensor([0.0, 2.0])

    factors = _Slice("g", 1, torch.tensor([1, 2, 0])).of(Fixed(), torch.ones(4, 3, dtype=torch.float64))
    assert factors.tolist() == [[2.0, 1.0, 0.0]]
    assert factors.dtype == torch.float64


def test_weights_that_make_what_they_read_are_not_gated() -> None:
    """A tied autoencoder: the first layer's weight is read again by the decoder."""
    model, x = make("autoencoder")
    with pytest.raises(UsageError, match=r"'fc1' cannot be gated: .*nor can the weights that read it"):
        start(model, x, groups=["fc1"])


def test_the_estimate_of_a_batch_is_straight_through() -> None:
    """ĝ of a group gated in its weights is the mean over the batch of the derivative, as that of `straight_through`."""
    model = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    x, y = torch.randn(9, 2, dtype=torch.float64), torch.randint(2, (9,))
    pruner = start(model, x, theta=1.0, estimator="straight-through")
    F.cross_entropy(model(x), y).backward()
    in_front = bank(pruner).estimates()["0"]
    bank(pruner).place(model, _Blind(pruner.structure))
    F.cross_entropy(model(x), y).backward()
    within = bank(pruner).estimates()["0"]
    assert torch.allclose(within.double(), in_front, rtol=1e-6)
    assert torch.allclose(straight_through(torch.ones(3, 2), torch.ones(2)), torch.ones(2))


class _Blind:
    """A structure that knows of no module whose input could be gated."""

    def __init__(self, structure: Any) -> None:
        self._structure = structure

    def gateable(self, name: str) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._structure, name)


def test_input_features_are_gated_and_leave() -> None:
    """Of ten columns two matter."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(10, 12), nn.Tanh(), nn.Linear(12, 2))
    method = Gates(price=2e-3, inputs=True)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=1e-2, weight_decay=1e-3)
    pruner = Pruner(model, optimizer, method, torch.randn(2, 10), steps=400, examples=12800)
    assert names(pruner) == {"input", "0"}
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        x = torch.randn(32, 10, generator=generator)
        F.cross_entropy(model(x), (x[:, 3] > x[:, 8]).long()).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    lean = pruner.finish()
    assert lean[0].kept.tolist() == [3, 8]
    assert pruner.widths()["input"] == 2


@pytest.mark.parametrize("own", [False, True])
def test_inputs_may_be_asked_for_at_the_pruner_or_the_method(own: bool) -> None:
    def gated(method: Gates, **options: bool) -> set[str]:
        model = nn.Sequential(nn.Linear(10, 12), nn.Tanh(), nn.Linear(12, 2))
        return names(Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), method, torch.randn(2, 10), **options))

    assert gated(Gates(inputs=own), inputs=not own) == {"input", "0"}
    assert gated(Gates()) == {"0"}


def test_inputs_that_no_group_names_are_refused() -> None:
    model = nn.Sequential(nn.Linear(10, 12), nn.Tanh(), nn.Linear(12, 2))
    with pytest.raises(UsageError, match=r"inputs=True, but groups does not name the inputs; add \['input'\]"):
        start(model, torch.randn(2, 10), inputs=True, groups=["0"])
    assert names(start(model, torch.randn(2, 10), inputs=True, groups=["0", "input"])) == {"0", "input"}


class Padded(nn.Module):
    """Torch's encoder on padded sequences: in evaluation it packs them for a fused pass."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 10, dropout=0.0, batch_first=True)
        self.encoder, self.fc = nn.TransformerEncoder(layer, 2), nn.Linear(16, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.fc(self.encoder(x, src_key_padding_mask=mask)[:, 0])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_heads_of_an_encoder_that_packs_padded_sequences() -> None:
    model = Padded().eval()
    x, mask = torch.randn(3, 5, 16), torch.arange(5) >= torch.tensor([[5], [3], [4]])
    untouched = output(model, (x, mask))
    pruner = start(model, (x, mask), groups=["encoder.layers.0.self_attn.heads", "encoder.layers.1.linear1"])
    assert torch.allclose(output(model, (x, mask)), untouched, atol=1e-5), "open gates change nothing"
    assert model.encoder.use_nested_tensor
    bank(pruner).theta[::2] = 0
    closed = output(model, (x, mask))
    pruner.finish()
    assert pruner.widths()["encoder.layers.0.self_attn.heads"] == 2
    assert torch.allclose(output(model, (x, mask)), closed, atol=1e-5)
    assert not torch.allclose(closed, untouched, atol=1e-3)


def test_torch_s_attention_is_its_own_class_again_unless_heads_have_left(tmp_path: Any) -> None:
    """Also in the record: a network whose attentions were open during a removal loads as it was saved."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, build = KINDS["encoder layer"][0]().eval(), KINDS["encoder layer"][0]
    x = sequences(3, 0)[0]
    pruner = start(model, x)
    assert type(model.attention.self_attn) is not nn.MultiheadAttention, "open, so that gates see the heads"
    theta = bank(pruner).split(bank(pruner).theta)
    theta["attention.linear1"][1:] = 0
    pruner._remove({"attention.linear1": theta["attention.linear1"] > 0.5})
    with pytest.warns(ParsinetWarning, match="still at work"):
        pn.save(model, tmp_path / "some")
    loaded = pn.load(tmp_path / "some", build).eval()
    closed = output(model, x)
    pruner.method.detach()
    assert type(model.attention.self_attn) is nn.MultiheadAttention
    assert torch.allclose(output(loaded, x), closed, atol=1e-5)
    pruner.method.attach(model, pruner.structure, pn.methods.Budget())
    pruner._remove({"attention.self_attn.heads": torch.arange(8) < 3})
    pruner.method.detach()
    pn.save(model, tmp_path / "fewer")
    loaded = pn.load(tmp_path / "fewer", build).eval()
    assert torch.equal(output(loaded, x), output(model, x))
    assert str(loaded) == str(model)


def test_resume_is_bitwise_with_gates_on_inputs_and_in_weights() -> None:
    """From two steps of a run in which inputs and recurrent units leave."""
    states, end = [], None
    for begin in (0, 10, 30):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(6, 4), Last(nn.LSTM(4, 8, batch_first=True)), nn.Linear(8, 2))
        method = Gates(inputs=True, price=0.05, fall_steps=20, interval=5, gated=0.8)
        optimizer = torch.optim.Adam(method.param_groups(model), lr=1e-2)
        pruner = Pruner(model, optimizer, method, torch.randn(2, 3, 6), steps=60)
        assert names(pruner) == {"input", "0", "1.rnn"}
        if begin:
            for part, state in zip((pruner, model, optimizer), copy.deepcopy(states[begin]), strict=True):
                part.load_state_dict(state)
        for k in range(begin, 60):
            if not begin:
                states.append(copy.deepcopy([part.state_dict() for part in (pruner, model, optimizer)]))
            x = torch.randn(16, 3, 6, generator=torch.Generator().manual_seed(k))
            F.cross_entropy(model(x), (x[:, :, 0].sum(1) > 0).long()).backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.step()
        if begin:
            assert all(torch.equal(value, end[key]) for key, value in model.state_dict().items()), begin
        end = model.state_dict()
        assert pruner.widths()["input"] < 6
        assert pruner.widths()["1.rnn"] < 8


class Last(nn.Module):
    """What a recurrent layer emits at the last step."""

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0][:, -1]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vit", "gpt2", "llama", "bert"])
def test_heads_and_feed_forward_widths_of_hugging_face_models(family: str) -> None:
    """GPT-2 reads with layers of its own kind, Llama shares key heads among queries and has a gated linear unit."""
    pytest.importorskip("transformers", reason='transformers is not installed (pip install "parsinet[transformers]")')
    model, x = huggingface.build(huggingface.FAMILIES[family]).double().eval(), huggingface.example(huggingface.FAMILIES[family])
    x = tree_map(lambda leaf: leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, x)

    def result() -> Tensor:
        with torch.no_grad():
            return flat(results(call(model, x)))

    untouched = result()
    pruner = start(model, x)
    assert sum(name.endswith("heads") for name in names(pruner)) == 2
    assert sum(len(theta) == huggingface.FEED_FORWARD for _, theta, _ in bank(pruner).rows()) == 2
    bank(pruner).theta[1::2] = 0
    closed = result()
    before = pruner.widths()
    pruner.finish()
    assert pruner.widths() != before
    assert torch.allclose(result(), closed, atol=EXACT * float(closed.abs().max()))
    assert not torch.allclose(closed, untouched, atol=1e-3)
