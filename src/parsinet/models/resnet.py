"""Residual networks for small images: He et al.'s ResNet-20/56 and the wide ones are one template of three stages."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from parsinet.errors import UsageError
from parsinet.models.checks import fraction, image_shape, positive, positives


class BasicBlock(nn.Module):
    """conv1 3x3 (stride) – bn1 – ReLU – dropout of whole channels – conv2 3x3 – bn2, plus the shortcut, ReLU.

    The shortcut is the identity, or `shortcut.conv` (1x1, stride) and `shortcut.bn` where stride or widths differ.
    Shapes: [batch, before, h, w] → [batch, after, ⌈h/stride⌉, ⌈w/stride⌉].
    """

    def __init__(self, before: int, after: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.dropout = nn.Dropout2d(dropout)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            conv = nn.Conv2d(before, after, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(after)))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(self.relu(self.bn1(self.conv1(x))))
        joined: Tensor = self.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))
        return joined


class ResNet(nn.Module):
    """Stem conv1 3x3 to 16 channels – bn1 – ReLU; layer1, layer2, layer3; global average; fc.

    Stage k has `blocks[k-1]` basic blocks of width `width · 2^(k-1)`, its first block with stride 1, 2, 2. With 16 channels in the stem
    and blocks (n, n, n) of width 16 this is the CIFAR ResNet-(6n+2), with projection shortcuts (option B).
    Shapes: [batch, channels, height, width] → [batch, classes], any image size. Initialisation: convolutions Kaiming normal
    (fan-out, ReLU), batch norm 1 and 0, fc PyTorch's default. `dropout` is the chance of a channel inside a block to be zeroed.
    Raises UsageError or ArgumentTypeError for anything that is not an image, and for blocks, width or dropout out of range.
    He, Zhang, Ren, Sun 2015, arXiv:1512.03385; Zagoruyko, Komodakis 2016, arXiv:1605.07146.
    """

    def __init__(self, input_shape: Sequence[int], classes: int, *, blocks: Sequence[int], width: int = 16, dropout: float = 0.0) -> None:
        super().__init__()
        channels = image_shape("resnet", input_shape)[0]
        counts = positives("resnet", "blocks", blocks)
        if len(counts) != 3:
            raise UsageError(f"resnet: blocks must have three entries, one per stage, got {len(counts)}.")
        base, chance = positive("resnet", "width", width), fraction("resnet", "dropout", dropout)
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, base, counts[0], 1, chance)
        self.layer2 = _stage(base, 2 * base, counts[1], 2, chance)
        self.layer3 = _stage(2 * base, 4 * base, counts[2], 2, chance)
        self.fc = nn.Linear(4 * base, positive("resnet", "classes", classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def resnet_20(input_shape: Sequence[int], classes: int, *, width: int = 16, dropout: float = 0.0) -> ResNet:
    """Blocks (3, 3, 3): 272,474 parameters on 3 channels with 10 classes."""
    return ResNet(input_shape, classes, blocks=(3, 3, 3), width=width, dropout=dropout)


def resnet_56(input_shape: Sequence[int], classes: int, *, width: int = 16, dropout: float = 0.0) -> ResNet:
    """Blocks (9, 9, 9): 855,770 parameters on 3 channels with 10 classes."""
    return ResNet(input_shape, classes, blocks=(9, 9, 9), width=width, dropout=dropout)


def wrn_12(input_shape: Sequence[int], classes: int, *, width: int = 16, dropout: float = 0.0) -> ResNet:
    """Blocks (1, 2, 2): 170,298 parameters on 1 channel with 10 classes (MNIST)."""
    return ResNet(input_shape, classes, blocks=(1, 2, 2), width=width, dropout=dropout)


def wrn_18(input_shape: Sequence[int], classes: int, *, width: int = 16, dropout: float = 0.0) -> ResNet:
    """Blocks (2, 3, 3): 267,514 parameters on 1 channel with 10 classes (Fashion-MNIST)."""
    return ResNet(input_shape, classes, blocks=(2, 3, 3), width=width, dropout=dropout)


def wrn_22(input_shape: Sequence[int], classes: int, *, width: int = 32, dropout: float = 0.0) -> ResNet:
    """Blocks (3, 4, 3): 1,154,074 parameters on 3 channels, 10 classes (CIFAR-10); 4,644,120 at width 64, 200 classes (Tiny ImageNet)."""
    return ResNet(input_shape, classes, blocks=(3, 4, 3), width=width, dropout=dropout)


def _stage(before: int, after: int, count: int, stride: int, dropout: float) -> nn.Sequential:
    first = BasicBlock(before, after, stride, dropout)
    return nn.Sequential(first, *(BasicBlock(after, after, 1, dropout) for _ in range(count - 1)))
