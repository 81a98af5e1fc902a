"""Tracing: names, reasons, what may leave of every network of the table, and a model that nothing has touched."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_sequence

import parsinet as pn
from networks import NETWORKS, call, flat, make, traced
from parsinet.errors import ArgumentTypeError, StructureError, UsageError
from parsinet.structure import proof
from parsinet.structure.proof import _uneven
from parsinet.structure.rules import pieces

STAYS: dict[str, set[str]] = {
    "super-resolution": {"last"},
    "mixer": {"tokens.2"},
    "experts": {"router", "experts.0.2"},
    "spectral-norm": {"fc3", "fc4.parametrizations.weight.0"},
    "state-space": {"x_proj", "out_proj"},
    "autoencoder": {"fc1.weight"},
    "twice": {"back"},
    "branches": {"left.groups", "left.groups#2"},
    "configured": {"spread#2", "pool#2"},
    "spatial-gating": {"mix"},
    "messages": {"a"},
    "routed": {"gate", "up"},
    "dispatched": {"gate"},
    "spectrum": {"mix.0", "mix.1"},
    "anchored": {"boxes"},
    "sampled": {"place", "place#2"},
}
"""Groups that rightly stay, besides the output.

They are added to the raw input (`out_proj`) or to positions (`mix`, `boxes`), sized by a literal in the code (`x_proj`, `spread#2`,
`pool#2`),
chosen by `topk` or `scatter` (`gate`, `up`: experts), frequencies (`mix.0`), coordinates of a grid (`place`), or one of their kind (`a`).
"""

INEXACT = {
    "volumes": {"wave", "wave.groups"},
    "convnext": {"stem"},
    "gpt": {"token", "attn.head_dim"},
    "grouped-query": {"embed", "q_proj.head_dim"},
    "native-grouped-query": {"lift", "q.head_dim"},
    "torch-encoder": {"lift", "pre.self_attn.head_dim", "post.self_attn.head_dim"},
    "torch-seq2seq": {"target", "encoder.self_attn.head_dim", "decoder.self_attn.head_dim", "decoder.multihead_attn.head_dim"},
    "cross-attention": {"cross.head_dim", "own.heads", "own.head_dim"},
    "windows": {"embed"},
    "spectral-norm": {"fc1", "fc2"},
    "mixer": {"patch"},
    "tiny-vit": {"patch_embed"},
    "char-gpt": {"embed"},
    "perceiver": {"latents"},
    "relative-bias": {"embed"},
    "nano-gpt": {"transformer.heads", "transformer.head_dim"},
    "timm": {"embed.heads", "embed.head_dim"},
    "matrices": {"out"},
}
"""Groups whose removal cannot equal silence: widths under a norm or a distance, head sizes under 1/√d, inputs of a spectral norm."""

UNITS = {
    "unet": "down1.0 down1.3 down2.0 down2.3 bottom.0 bottom.3 up2 dec2.0 dec2.3 dec1.0 dec1.3",
    "shufflenet": "stem reduce",
    "mobilenet": "stem expand squeeze",
    "resnext": "conv1.groups conv1 conv2 conv3",
    "siamese": "tower.0 tower.4 fc1",
    "depthwise": "stem multiplied kernel",
    "gpt": "token attn.heads attn.head_dim fc",
    "grouped-query": "embed q_proj.heads q_proj.head_dim gate",
    "native-grouped-query": "lift q.heads q.queries q.head_dim",
    "torch-encoder": "lift pre.self_attn.heads pre.self_attn.head_dim pre.linear1 "
    "post.self_attn.heads post.self_attn.head_dim post.linear1",
    "einsum": "lift q.heads q.qk_dim v",
    "windows": "embed qkv.heads qkv.head_dim",
    "projected": "embed both.projection both one",
    "elman": "rnn cell plain",
    "weight-norm": "conv1 conv2 fc1",
    "own-parametrization": "fc1 conv",
    "state-space": "in_proj x_proj#2",
    "nano-gpt": "transformer.heads transformer.head_dim transformer.h.0.mlp.c_fc transformer.h.1.mlp.c_fc",
    "timm": "embed.heads embed.head_dim up",
    "sets": "phi rho",
    "sampled": "lift mix out",
    "matrices": "lift mix out codes",
    "splines": "one.plain two.plain",
}
"""What may leave, by name."""


LARGE = {"resnet-56", "wrn-12", "wrn-18", "wrn-22", "torch-seq2seq", "directions", "windows", "unet", "perceiver", "nano-gpt", "gpt"}
"""They take longest, and other networks of the table have each of their parts."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in NETWORKS])
def test_what_stays_is_the_output_or_known(name: str) -> None:
    model, _, structure = traced(name, double=True)
    stays = {group.name for group in structure.groups if not group.removable and not is_output(group.reason)}
    assert stays == STAYS.get(name, set())
    assert {group.name for group in structure.removable() if not group.exact} == INEXACT.get(name, set())
    if name in UNITS:
        assert [group.name for group in structure.removable()] == UNITS[name].split()
    for group in structure.groups:
        assert bool(group.reason) == (not group.removable or not group.exact)
        assert set(group.parameters) <= {key for key, _ in [*model.named_parameters(), *model.named_buffers()]}


def is_output(reason: str) -> bool:
    """The output, or the table of an embedding that is tied to it."""
    return reason in ("it is part of the model's output", "rows of an embedding are chosen by the input")


@pytest.mark.parametrize(
    "name",
    ["torch-encoder", "elman", "spectral-norm", "sets", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gpt", "resnet-20"))],
)
def test_the_model_is_untouched(name: str) -> None:
    model, x = make(name)
    model.train()
    next(model.children()).eval()
    flat(call(model, x)).sum().backward()
    hook = model.register_forward_hook(lambda *_: None)
    modes = [module.training for module in model.modules()]
    state, identities = copy.deepcopy(model.state_dict()), [id(tensor) for tensor in model.parameters()]
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    attributes = [set(module.__dict__) for module in model.modules()]
    seed, inputs = torch.get_rng_state(), copy.deepcopy(x)
    pn.trace(model, x)
    assert torch.equal(seed, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert identities == [id(tensor) for tensor in model.parameters()]
    assert all(p.grad is old or torch.equal(p.grad, old) for p, old in zip(model.parameters(), gradients, strict=True))
    assert attributes == [set(module.__dict__) for module in model.modules()]
    assert hook.id in model._forward_hooks
    leaves = zip(torch.utils._pytree.tree_leaves(x), torch.utils._pytree.tree_leaves(inputs), strict=True)
    assert all(torch.equal(a, b) for a, b in leaves)


def test_ignored_layers_by_name_and_by_module() -> None:
    model, x = make("mlp")
    for layer in ("fc1", model.fc1):
        structure = pn.trace(model, x, ignored_layers=[layer])
        assert structure.group("fc1").reason == "fc1 is in ignored_layers"
        assert structure.group("fc2").removable


def test_ignored_layers_by_any_of_a_module_s_names() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.out = nn.Linear(4, 6), nn.Linear(6, 2)
            self.again = self.first

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.out(torch.relu(self.again(x)))
            return hidden

    model = Twice()
    assert pn.trace(model, torch.randn(2, 4), ignored_layers=["again"]).group("again").reason == "first is in ignored_layers"


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_model_is_refused_in_words() -> None:
    scripted = torch.jit.trace(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), torch.randn(2, 4))
    with pytest.raises(StructureError, match=r"scripted \(torch\.jit\).* Give the module that it was made of"):
        pn.trace(scripted, torch.randn(2, 4))


def test_attributes_of_users_classes_mean_nothing_to_the_trace() -> None:
    class Counting(nn.Linear):
        served = 3

    assert pn.trace(nn.Sequential(Counting(4, 6), nn.ReLU(), nn.Linear(6, 2)), torch.randn(2, 4)).group("0").removable


def test_ignored_layers_that_are_not_there() -> None:
    model, x = make("mlp")
    with pytest.raises(UsageError, match=r"ignored_layers names 'fc11', which the model does not have\. Did you mean 'fc1'"):
        pn.trace(model, x, ignored_layers=["fc11"])
    with pytest.raises(UsageError, match="a Linear that is not part of the model"):
        pn.trace(model, x, ignored_layers=[nn.Linear(2, 2)])


def test_outputs_may_be_removable_when_asked() -> None:
    model, x = make("mlp")
    output = pn.trace(model, x).groups[-1]
    group = pn.trace(model, x, removable_outputs=True).group(output.name)
    assert not output.removable
    assert group.size == 10
    assert group.removable
    assert group.exact


@pytest.mark.parametrize("inputs", ["text", None, 3])
def test_example_inputs_of_another_kind(inputs: object) -> None:
    with pytest.raises(ArgumentTypeError, match="example_inputs must be a Tensor"):
        pn.trace(nn.Linear(2, 2), inputs)  # type: ignore[arg-type]


def test_inputs_the_model_rejects() -> None:
    with pytest.raises(StructureError, match=r"cannot capture Linear: .* Check that model"):
        pn.trace(nn.Linear(2, 2), torch.randn(1, 3))


class Strange(nn.Module):
    """Operators no rule understands between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(torch.geqrf(self.fc1(x)).a + self.fc2(x))


def test_an_unknown_operator_freezes_with_its_name_and_line() -> None:
    structure = pn.trace(Strange(), torch.randn(2, 4))
    for name in ("fc1", "fc2"):
        reason = structure.group(name).reason
        assert "`geqrf` at test_analysis.py:" in reason
        assert "is not understood" in reason


class Mixing(nn.Module):
    """A Fourier transform over positions, and one over units."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fft.fft(self.one(x), dim=1).real
        return self.out(torch.fft.fft(self.two(x)).real)


def test_a_fourier_transform_keeps_what_it_runs_along() -> None:
    structure = pn.trace(Mixing(), torch.randn(2, 3, 4))
    assert structure.group("one").removable
    assert re.match(r"`_fft_r2c` at test_analysis\.py:\d+ .*runs along it", structure.group("two").reason)


class Settling(nn.Module):
    """A state that starts from zeros as long as what it is fed, and is as long ever after."""

    def __init__(self) -> None:
        super().__init__()
        self.feed, self.back, self.out = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        u = self.feed(x)
        state = torch.zeros_like(u)
        for _ in range(3):
            state = torch.tanh(self.back(state) + u)
        return self.out(state)


def test_zeros_like_something_are_as_long_as_it() -> None:
    group = pn.trace(Settling(), torch.randn(2, 3)).group("feed")
    assert group.removable
    assert group.exact
    assert set(group.parameters) == {"feed.weight", "feed.bias", "back.weight", "back.bias", "out.weight"}


class Grouped(nn.Module):
    """Experts by one kernel for all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.head = nn.Linear(3, 8), nn.Linear(8, 2)
        self.experts = nn.Parameter(torch.randn(2, 8, 8))
        self.register_buffer("ends", torch.tensor([2, 6], dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.grouped_mm(self.lift(x), self.experts, offs=self.ends))


def test_grouped_products_stay_and_say_what_to_do() -> None:
    """Their kernels take whole 16 bytes only; their work is counted all the same."""
    model, x = Grouped().bfloat16(), torch.randn(6, 3).bfloat16()
    structure = pn.trace(model, x)
    assert not structure.removable()
    assert "needs widths of whole 16 bytes; transformers' batched_mm does not" in structure.group("lift").reason
    assert pn.measure.macs(model, x) == 3 * 8 + 8 * 8 + 8 * 2


class DataDependent(nn.Module):
    """With a number that is followed: torch prints the graph into its error while shapes are being noted, which once went on for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.heads = nn.Linear(4, 6), 2

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x).view(x.shape[0], self.heads, 3)
        return x * 2 if x.sum() > 0 else x


def test_a_model_that_cannot_be_exported_is_refused_in_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StructureError, match=r"torch\.export cannot capture DataDependent: ") as caught:
        pn.trace(DataDependent(), torch.randn(3, 4))
    told = str(caught.value)
    assert "\n" not in told
    assert "unhinted" not in told
    assert re.search(r"expression Eq\(u0, 1\) at test_analysis\.py:\d+ \(return x \* 2 if x\.sum\(\) > 0 else x\)\. ", told)
    assert capfd.readouterr() == ("", "")


class Sized(nn.Module):
    """A size written in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x).view(-1, 6))


def test_a_size_in_the_code_is_named_with_its_line() -> None:
    group = pn.trace(Sized(), torch.randn(2, 4)).group("fc1")
    assert not group.removable
    assert "`return self.fc2(self.fc1(x).view(-1, 6))` at test_analysis.py:" in group.reason


class Writes(nn.Module):
    """Values written into slices of another tensor, at fixed places."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc1(x)
        y[:, 2:4] = 0
        return self.fc3(y) + self.fc3(torch.hstack([self.fc2(x)]))


def test_writes_into_slices_are_seen() -> None:
    structure = pn.trace(Writes(), torch.randn(2, 4))
    assert "writes to indices by their position" in structure.group("fc1").reason


class Cut(nn.Module):
    """One layer read whole by one reader and in part by another; `norm`: what makes the units inexact by rule."""

    def __init__(self, read: Callable[[Cut, Tensor], Tensor], size: int, *, norm: bool) -> None:
        super().__init__()
        self.read, self.n = read, 3
        self.fc, self.norm = nn.Linear(4, 6), nn.LayerNorm(6) if norm else nn.Identity()
        self.whole, self.piece = nn.Linear(6, 2), nn.Linear(size, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(torch.relu(self.fc(x)))
        out: Tensor = self.whole(h) + self.piece(self.read(self, h))
        return out


BY_POSITION: dict[str, tuple[Callable[[Cut, Tensor], Tensor], int, bool]] = {
    "[:, 0]": (lambda net, h: h[:, 0].unsqueeze(1), 1, True),
    "[:, [0]]": (lambda net, h: h[:, [0]], 1, True),
    "[:, 2:5]": (lambda net, h: h[:, 2:5], 3, True),
    "[:, ::2]": (lambda net, h: h[:, ::2], 3, True),
    "[:, 0:3], summed": (lambda net, h: h[:, 0:3].sum(1, keepdim=True), 1, True),
    "[:, 0:1], summed": (lambda net, h: h[:, 0:1].sum(1, keepdim=True), 1, True),
    "narrow": (lambda net, h: h.narrow(1, 1, 3), 3, True),
    "[:, : self.n]": (lambda net, h: h[:, : net.n], 3, False),
    "chunk": (lambda net, h: h.chunk(2, 1)[0], 3, False),
}


@pytest.mark.parametrize("norm", [False, True], ids=["exact", "normalised"])
@pytest.mark.parametrize(("read", "size", "stays"), BY_POSITION.values(), ids=BY_POSITION)
def test_what_is_cut_by_position_stays_however_it_is_written(read: Any, size: int, stays: bool, norm: bool) -> None:
    torch.manual_seed(0)
    structure = pn.trace(Cut(read, size, norm=norm), torch.randn(2, 4))
    found = [group for group in structure.groups if group.name.startswith("fc")]
    if not stays:
        assert all(group.removable and group.exact is not norm for group in found)
        return
    assert not any(group.removable for group in found)
    assert any("by position" in group.reason or "by its position" in group.reason or "by their position" in group.reason for group in found)


def test_the_law_objects_to_cuts_that_are_not_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_cut", lambda ctx, x, dim, cut, whole=pieces._cut: (whole(ctx, x, dim, cut)[0], True))
    with pytest.raises(AssertionError):
        test_what_is_cut_by_position_stays_however_it_is_written(lambda net, h: h[:, 2:5], 3, True, False)


def offered(seed: int) -> bool:
    """Whether a group is offered whose first unit is read by its place, then summed; on one example half of the units are shut."""
    torch.manual_seed(seed)
    read, size, _ = BY_POSITION["[:, 0:1], summed"]
    return any(group.removable for group in pn.trace(Cut(read, size, norm=False), torch.randn(1, 4)).groups if group.name.startswith("fc"))


def test_a_unit_that_is_shut_hides_no_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(offered(seed) for seed in range(6))
    monkeypatch.setattr(proof, "_flipped", lambda subject: ())
    assert any(offered(seed) for seed in range(6)), "one trial alone is deceived"


def test_one_unit_cut_off_stays_and_those_behind_it_leave() -> None:
    """`x[:, :1]` keeps its place when the others go: a trial has shown it."""
    first, rest = (pn.trace(Cut(lambda net, h: h[:, :1], 1, norm=False), torch.randn(2, 4)).group(name) for name in ("fc", "fc#2"))
    assert "single unit" in first.reason
    assert (rest.size, rest.removable, rest.exact) == (5, True, True)


def test_groups_know_what_their_units_are_within_a_module() -> None:
    _, _, structure = traced("char-gpt")
    roles = {group.name: group.role for group in structure.groups if group.name.startswith("blocks.0.")}
    assert roles["blocks.0.attn.heads"] == "heads"
    assert roles["blocks.0.attn.v_dim"] == "v_dim"
    assert roles["blocks.0.mlp.fc1"] == ""


def test_a_layer_that_is_called_heads_is_none() -> None:
    layers = {"heads": nn.Linear(4, 6), "relu": nn.ReLU(), "v_dim": nn.Linear(6, 5), "again": nn.ReLU(), "out": nn.Linear(5, 2)}
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    structure = pn.trace(model, torch.randn(3, 4))
    assert {group.name: group.role for group in structure.removable()} == {"heads": "", "v_dim": ""}


def test_frozen_encoder_layers_show_their_heads() -> None:
    """Without gradients torch would fuse the whole layer into one operator."""
    model, x = make("torch-encoder")
    model.requires_grad_(False)
    assert pn.trace(model, x).group("post.self_attn.heads").removable
    assert torch.backends.mha.get_fastpath_enabled()


def test_low_rank_weights_lose_rank_exactly() -> None:
    class LowRank(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(4, 6))

        def forward(self, x: Tensor) -> Tensor:
            return x @ (self.right.t() @ self.left.t())

    rank = next(group for group in pn.trace(LowRank(), torch.randn(2, 6)).removable())
    assert (rank.size, rank.exact) == (4, True)


def test_tied_weights_are_one_group() -> None:
    model, x = make("gpt")
    assert {"token.weight", "position", "norm.weight"} <= set(pn.trace(model, x).group("token").parameters)


def test_a_compiled_model_is_traced_like_its_original() -> None:
    model, x = make("mlp")
    compiled = torch.compile(model, backend="eager")
    assert [group.size for group in pn.trace(compiled, x).groups] == [group.size for group in pn.trace(model, x).groups]


class Halves(nn.Module):
    """Two halves cut at half the present width: they fit only while both lose equally many."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(4, 12), nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc1(x)
        n = y.shape[1] // 2
        return self.fc2(y[:, :n]) * self.fc3(y[:, n:])


def test_halves_that_only_fit_each_other_are_not_offered_one_by_one() -> None:
    model, x = Halves(), torch.randn(2, 4)
    structure = pn.trace(model, x)
    assert {group.name for group in structure.groups if not group.removable and not is_output(group.reason)} == {"fc1", "fc1#2"}
    for group in structure.removable():
        smaller = copy.deepcopy(model)
        pn.shrink(smaller, structure.plan({group.name: [False] + [True] * (group.size - 1)}))
        smaller(x)


class Together(nn.Module):
    """Runs without some units of the one or of the other, not of both."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.third, self.out = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(16, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([torch.relu(self.one(x)), torch.relu(self.two(x))], 1)
        if self.one.out_features < 8 and self.two.out_features < 8:
            h = h[:, :-1]
        return self.out(torch.relu(self.third(h)))


def test_groups_that_cannot_leave_together_are_not_both_offered() -> None:
    structure = pn.trace(Together(), torch.randn(2, 5))
    assert [group.name for group in structure.removable()] == ["one", "third"]
    assert "does not run without some of its units" in structure.group("two").reason


def test_groups_lose_different_numbers_of_units_where_sizes_allow() -> None:
    for name in ("mlp", "resnet-20", "gpt", "densenet"):
        model, x = make(name)
        structure = pn.trace(model, x)
        lost = {group: int((~mask).sum()) for group, mask in _uneven(structure).items()}
        sizes = sorted(structure.group(group).size for group in lost)
        most = 0
        for size in sizes:
            most = min(most + 1, size - 1)
        assert len(set(lost.values())) == most
        assert all(0 < loss < structure.group(group).size for group, loss in lost.items())


class Standardised(nn.Conv2d):
    """Weight standardisation, in the forms networks without batch normalisation use."""

    form: str

    def forward(self, x: Tensor) -> Tensor:
        over, w = (1, 2, 3), self.weight
        if self.form == "std":
            w = (w - w.mean(over, keepdim=True)) / (w.std(over, keepdim=True) + 1e-5)
        elif self.form == "var":
            w = (w - w.mean(over, keepdim=True)) * torch.rsqrt(w.var(over, keepdim=True) + 1e-5)
        else:
            var, mean = torch.var_mean(w, over, True, True)
            w = (w - mean) / (var + 1e-5).sqrt()
        return nn.functional.conv2d(x, w, self.bias)


@pytest.mark.parametrize("form", ["std", "var", "var_mean"])
def test_standardised_filters_are_units(form: str) -> None:
    torch.manual_seed(0)
    first = Standardised(3, 12, 3)
    first.form = form
    model = nn.Sequential(first, nn.ReLU(), nn.Conv2d(12, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).double()
    structure = pn.trace(model, torch.randn(2, 3, 7, 8).double())
    assert [(group.name, group.removable, group.exact) for group in structure.groups][:2] == [("0", True, True), ("2", True, True)]


def test_a_model_without_numbers_is_refused() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(StructureError, match="Sequential is on the meta device"):
        pn.trace(model, torch.randn(2, 4, device="meta"))


def test_inputs_of_another_type_are_refused_in_words() -> None:
    with pytest.raises(StructureError, match=r"does not run on the example inputs: .*dtype.* Check that model"):
        pn.trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.ones(2, 4, dtype=torch.long))


def test_a_packed_sequence_is_no_input() -> None:
    packed = pack_sequence([torch.randn(5, 3), torch.randn(2, 3)])
    with pytest.raises(StructureError, match="Let the model pack"):
        pn.trace(nn.LSTM(3, 8), (packed,))
