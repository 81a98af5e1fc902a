"""What single models promise: where LeNet-5 bends, what a character may see, that layers can be narrowed in place."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parsinet import models
from parsinet.errors import UsageError
from parsinet.models.transformer import Attention


def keep_units(layer: nn.Linear, keep: Tensor, dim: int) -> None:
    layer.weight.data = layer.weight.data.index_select(dim, keep)
    if dim == 0:
        layer.bias.data = layer.bias.data.index_select(0, keep)


def test_lenet_5_caffe_bends_after_fc1_only() -> None:
    torch.manual_seed(0)
    model = models.build("lenet-5-caffe", (1, 28, 28), 10).double()
    assert isinstance(model, models.LeNet5Caffe)
    x = torch.randn(4, 1, 28, 28, dtype=torch.float64)
    pooled = F.max_pool2d(F.conv2d(x, model.conv1.weight, model.conv1.bias), 2)
    pooled = F.max_pool2d(F.conv2d(pooled, model.conv2.weight, model.conv2.bias), 2)
    assert (pooled < 0).any()
    torch.testing.assert_close(model(x), model.fc2(model.fc1(pooled.reshape(4, -1)).clamp(min=0)))


def test_attention_is_the_formula() -> None:
    torch.manual_seed(0)
    attention, x = Attention(12, 3, causal=True).double(), torch.randn(2, 5, 12, dtype=torch.float64)
    heads = []
    for head in range(3):
        q, k, v = (layer(x)[..., 4 * head : 4 * head + 4] for layer in (attention.q, attention.k, attention.v))
        scores = (q @ k.mT / 2).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        heads.append(scores.softmax(-1) @ v)
    torch.testing.assert_close(attention(x), attention.proj(torch.cat(heads, -1)))


def test_attention_runs_with_fewer_heads() -> None:
    torch.manual_seed(0)
    attention, x = Attention(12, 3, causal=False).double(), torch.randn(2, 5, 12, dtype=torch.float64)
    dead, alive = torch.arange(4, 8), torch.tensor([0, 1, 2, 3, 8, 9, 10, 11])
    attention.v.weight.data[dead] = 0
    attention.v.bias.data[dead] = 0
    silenced = attention(x)
    for layer in (attention.q, attention.k, attention.v):
        keep_units(layer, alive, 0)
    keep_units(attention.proj, alive, 1)
    attention.num_heads = 2
    torch.testing.assert_close(attention(x), silenced)


def test_attention_keeps_its_scale_with_narrower_heads() -> None:
    torch.manual_seed(0)
    attention, x = Attention(8, 2, causal=False).double(), torch.randn(2, 5, 8, dtype=torch.float64)
    dead, alive = torch.tensor([1, 7]), torch.tensor([0, 2, 3, 4, 5, 6])
    attention.q.weight.data[dead] = 0
    attention.q.bias.data[dead] = 0
    silenced = attention(x)
    for layer in (attention.q, attention.k):
        keep_units(layer, alive, 0)
    attention.head_dim = 3
    torch.testing.assert_close(attention(x), silenced)


def test_a_character_sees_no_later_one() -> None:
    torch.manual_seed(0)
    model = models.build("char-gpt", (12,), 9).double()
    text = torch.randint(9, (2, 12))
    changed = text.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % 9
    before, after = model(text), model(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.isclose(before[:, 7:], after[:, 7:]).all()


def test_char_gpt_ties_head_and_embedding_and_takes_shorter_texts() -> None:
    model = models.build("char-gpt", (12,), 9)
    assert isinstance(model, models.CharGPT)
    assert model.head.weight is model.embed.weight
    assert model(torch.zeros(1, 5, dtype=torch.int64)).shape == (1, 5, 9)
    with pytest.raises(UsageError, match="13 characters is longer than the context of 12"):
        model(torch.zeros(1, 13, dtype=torch.int64))


def test_char_gpt_starts_near_the_uniform_guess() -> None:
    torch.manual_seed(0)
    scores = models.build("char-gpt", (12,), 65)(torch.randint(65, (4, 12)))
    # softmax of scores with a deviation far below 1 is uniform: ln 65 within a few per cent
    assert abs(F.cross_entropy(scores.flatten(0, 1), torch.randint(65, (48,))).item() - 4.174) < 0.2


def test_the_lstm_reads_an_image_from_the_top() -> None:
    torch.manual_seed(0)
    model = models.build("lstm", (2, 5, 3), 4, hidden=6).double()
    assert isinstance(model, models.LSTMClassifier)
    x = torch.randn(1, 2, 5, 3, dtype=torch.float64)
    rows = torch.stack([torch.cat([x[0, 0, row], x[0, 1, row]]) for row in range(5)])
    _, (last, _) = model.lstm(rows[None])
    torch.testing.assert_close(model(x), model.fc(last[-1]))


def test_wide_resnet_initialisation() -> None:
    torch.manual_seed(0)
    model = models.build("wrn-22", (3, 32, 32), 10)
    conv, norm = model.get_submodule("layer3.0.conv1"), model.get_submodule("layer3.0.bn1")
    assert isinstance(conv, nn.Conv2d)
    # Kaiming fan-out: deviation √(2 / (9·128)); 73,728 draws put the estimate within 1 %
    assert conv.weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.01)
    assert conv.bias is None
    assert norm.weight.eq(1).all()
    assert norm.bias.eq(0).all()


@pytest.mark.parametrize(
    ("name", "shape", "producer", "readers", "norm"),
    [
        ("lenet-300-100", (1, 8, 8), "fc1", ["fc2"], None),
        ("resnet-20", (3, 8, 8), "layer2.1.conv1", ["layer2.1.conv2"], "layer2.1.bn1"),
        ("vgg-small", (3, 8, 8), "conv2", ["conv3"], "bn2"),
        ("tiny-vit", (1, 8, 8), "blocks.1.mlp.fc1", ["blocks.1.mlp.fc2"], None),
    ],
)
def test_layers_can_be_narrowed_in_place(name: str, shape: tuple[int, ...], producer: str, readers: list[str], norm: str | None) -> None:
    model = models.build(name, shape, 10).eval()
    keep = torch.tensor([0, 2, 3])
    entries = [(producer, 0, ("weight", "bias")), *((reader, 1, ("weight",)) for reader in readers)]
    entries += [(norm, 0, ("weight", "bias", "running_mean", "running_var"))] if norm else []
    for path, dim, fields in entries:
        layer = model.get_submodule(path)
        for tensor in (getattr(layer, each) for each in fields if getattr(layer, each) is not None):
            tensor.data = tensor.data.index_select(dim, keep)
    assert model(torch.randn(2, *shape)).shape == (2, 10)
