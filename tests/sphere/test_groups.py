"""Which weights lie on spheres: by module type, with the last layer, frozen and shared weights left out."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from parsinet import models
from parsinet.errors import ArgumentTypeError, UsageError
from parsinet.sphere import LpSGD, param_groups


def names_of(model, groups, constrained):
    name = {id(parameter): key for key, parameter in model.named_parameters()}
    return {name[id(p)] for group in groups if group["constrained"] == constrained for p in group["params"]}


def test_the_wide_residual_networks_counts_equal_the_specifications():
    """Section 7.2 of our specification, plus the 1x1 shortcuts, which the authors' name rule leaves free."""
    for build, shape, weights, units in ((models.wrn_12, (1, 28, 28), 165_888, 416), (models.wrn_22, (3, 32, 32), 1_138_608, 1_488)):
        model = build(shape, 10)
        extra = [p for key, p in model.named_parameters() if key.endswith("shortcut.conv.weight")]
        on = [p for group in param_groups(model) if group["constrained"] for p in group["params"]]
        assert sum(p.numel() for p in on) == weights + sum(p.numel() for p in extra)
        assert sum(len(p) for p in on) == units + sum(len(p) for p in extra)


def test_every_parameter_is_in_one_group():
    model = models.build("tiny-vit", (1, 28, 28), 10)
    groups = param_groups(model)
    everything = [id(p) for group in groups for p in group["params"]]
    assert sorted(everything) == sorted(id(p) for p in model.parameters())
    LpSGD(groups)


class Zoo(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(12, 6)
        self.stem = nn.Conv2d(1, 4, 3)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.conv = nn.Conv2d(4, 6, 3)
        self.up = nn.ConvTranspose2d(6, 4, 2)
        self.grouped_up = nn.ConvTranspose2d(6, 4, 2, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.hidden = nn.Linear(6, 6)
        self.tied = nn.Linear(6, 12, bias=False)
        self.tied.weight = self.embedding.weight
        self.out = nn.Linear(6, 3)


def test_selection_by_kind_of_layer():
    model = Zoo()
    groups = param_groups(model, 1.3)
    assert names_of(model, groups, True) == {"conv.weight", "up.weight", "hidden.weight"}
    assert {group["unit_dim"] for group in groups if model.up.weight in set(group["params"])} == {1}
    frozen = model.frozen.weight.clone()
    LpSGD(groups)
    assert torch.equal(model.frozen.weight, frozen)
    sums = model.up.weight.detach().abs().pow(1.3).sum((0, 2, 3))
    assert torch.allclose(sums, torch.ones(4))


def test_last_and_options():
    model = Zoo()
    assert "out.weight" in names_of(model, param_groups(model, last=()), True)
    assert names_of(model, param_groups(model, last=["hidden", "conv"]), True) == {"up.weight", "out.weight"}
    groups = param_groups(model, last="out", lr=0.01, free={"lr": 0.2, "weight_decay": 5e-4})
    assert [group["lr"] for group in groups] == [0.01, 0.01, 0.2]
    assert "stem.weight" in names_of(model, param_groups(model, min_in=1), True)


def test_p_by_pattern():
    model = models.wrn_12((1, 28, 28), 10)
    groups = param_groups(model, {"layer1.*": 1.2, "*": 1.07})
    name = {id(p): key for key, p in model.named_parameters()}
    by_p = {group["p"]: {name[id(p)] for p in group["params"]} for group in groups if group["constrained"]}
    assert all(key.startswith("layer1.") for key in by_p[1.2])
    assert len(by_p[1.2]) == 2
    assert set(by_p) == {1.2, 1.07}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: param_groups(m, 1.0), UsageError, "p must be > 1"),
        (lambda m: param_groups(m, {}), ArgumentTypeError, "empty mapping"),
        (lambda m: param_groups(m, {"conv": 1.2}), UsageError, "no pattern of p fits the layer 'up'"),
        (lambda m: param_groups(m, {"*": 1.2, "cnov": 1.3}), UsageError, "'cnov' of p fits no constrained layer. Did you mean 'conv'"),
        (lambda m: param_groups(m, last="outt"), UsageError, "last='outt' is no Linear .* Did you mean 'out'"),
        (
            lambda m: param_groups(nn.Linear(3, 2)),
            UsageError,
            r"can be constrained; left out are the model itself \(the last",
        ),
        (lambda m: param_groups(nn.LSTM(3, 2)), UsageError, "can be constrained; it has no Linear or convolution"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call(Zoo())


def test_a_model_without_constrained_weights_is_told_why_layer_by_layer():
    model = Zoo()
    model.conv, model.up = weight_norm(model.conv), model.up.requires_grad_(False)
    model.hidden = nn.Conv2d(3, 3, 1, groups=3)
    with pytest.raises(UsageError) as told:
        param_groups(model)
    assert "left out are stem, depthwise, hidden (fewer than 2 input channels (min_in)); " in str(told.value)
    assert "conv (parametrized: call remove_parametrizations first); up, frozen (frozen); " in str(told.value)
    assert "tied (its weight is also of a module that stays free); out (the last layer; last=() constrains it too)" in str(told.value)
    one = nn.ModuleList([nn.Conv1d(1, 4, 1), nn.ConvTranspose1d(4, 4, 2, groups=2), *(nn.Conv1d(1, 4, 1) for _ in range(3))])
    with pytest.raises(UsageError, match=r"0, 2, 3 and 1 more \(one weight per unit\); 1 \(a transposed convolution with groups\)"):
        param_groups(one, last=(), min_in=1)
    tied = nn.ModuleList([model.embedding, model.tied])
    with pytest.raises(UsageError, match=r"left out are 1 \(its weight is also of"):
        param_groups(tied)


def test_a_last_layer_that_is_parametrized_is_the_last():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), weight_norm(nn.Linear(5, 3)))
    assert names_of(model, param_groups(model), True) == {"0.weight"}
    assert names_of(model, param_groups(model, last="2"), True) == {"0.weight"}
