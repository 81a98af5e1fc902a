"""Residual networks as people write them: every way to add a branch to what it was computed from."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    """ResNet's bottleneck with a strided projection, which is added in place to the branch."""

    def __init__(self, before: int, inner: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, after, 1, bias=False), nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += identity
        return self.relu(out)


class Bottlenecks(nn.Module):
    """Three bottlenecks; the second keeps, the third halves the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 3, padding=1)
        self.layers = nn.Sequential(Bottleneck(10, 4, 12, 1), Bottleneck(12, 5, 12, 1), Bottleneck(12, 6, 14, 2))
        self.fc = nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(torch.relu(self.stem(x))).mean((2, 3)))


class PreActivation(nn.Module):
    """Norm and activation first; the second block's shortcut is pooling and zero channels (option A), its branch a Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.first = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 7, 3, padding=1), nn.BatchNorm2d(7), nn.ReLU())
        self.first.append(nn.Conv2d(7, 6, 3, padding=1))
        self.second = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(8, 9, 1))
        self.norm, self.fc = nn.BatchNorm2d(9), nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.first(x)
        x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 3)) + self.second(x)
        return self.fc(F.relu(self.norm(x)).mean((2, 3)))


class Partial(nn.Module):
    """FasterNet's block: a convolution on some channels, the others beside it, and on all of them two maps back to as many channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.part = nn.Conv2d(2, 10, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.touched, self.left = 4, 6
        self.maps = nn.Sequential(nn.Conv2d(10, 14, 1), nn.BatchNorm2d(14), nn.ReLU(), nn.Conv2d(14, 10, 1))
        self.fc = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        part, rest = torch.split(x, [self.touched, self.left], 1)
        x = x + self.maps(torch.cat((self.part(part), rest), 1))
        return self.fc(x.relu().mean((2, 3)))


class PostNorm(nn.Module):
    """The transformer as first published: x ← norm(x + dropout(f(x))), with attention written out."""

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Linear(5, 12)
        self.query, self.key, self.value, self.out = (nn.Linear(12, 12) for _ in range(4))
        self.up, self.down = nn.Linear(12, 20), nn.Linear(20, 12)
        self.norm1, self.norm2 = nn.LayerNorm(12), nn.LayerNorm(12)
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        q, k, v = (layer(x).unflatten(-1, (3, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = (q @ k.transpose(-2, -1) / 2).softmax(-1) @ v
        x = self.norm1(x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2))))
        x = self.norm2(x + self.dropout(self.down(F.gelu(self.up(x)))))
        return self.fc(x.mean(1))


class Parallel(nn.Module):
    """GPT-J's block: both branches read one norm, which leaves with the second of them, and a scale of the last one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.norm = nn.Linear(5, 9), nn.LayerNorm(9)
        self.left = nn.Sequential(nn.Linear(9, 11), nn.Tanh(), nn.Linear(11, 9))
        self.right = nn.Sequential(nn.Linear(9, 13), nn.GELU(), nn.Linear(13, 9))
        self.scale = nn.Parameter(torch.rand(9))
        self.fc = nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        h = self.norm(x)
        return self.fc(torch.tanh(self.left(h) + self.right(h) * self.scale + x))


class Shared(nn.Module):
    """One residual layer run three times, as in ALBERT: its block leaves from all three at once."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.up, self.down, self.fc = nn.Linear(4, 8), nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.lift(x))
        for _ in range(3):
            x = x + self.down(torch.relu(self.up(x)))
        return self.fc(torch.tanh(x))


class Nested(nn.Module):
    """A residual branch within a residual branch, and an in-place addition onto the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.fc = nn.Linear(4, 7), nn.Linear(7, 3)
        self.inner = nn.Sequential(nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 9))
        self.enter, self.leave = nn.Linear(7, 9), nn.Linear(9, 7)
        self.last = nn.Sequential(nn.Linear(7, 6), nn.SiLU(), nn.Linear(6, 7))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.lift(x))
        h = torch.relu(self.enter(x))
        x = x + self.leave(torch.relu(h + self.inner(h)))
        x += self.last(2 * x)
        return self.fc(torch.relu(x))


class ResidualMLP(nn.Module):
    """lift, `depth` blocks x + fc2(relu(fc1(x))), head."""

    def __init__(self, inputs: int = 6, width: int = 8, hidden: int = 12, depth: int = 3, classes: int = 3) -> None:
        super().__init__()
        self.lift, self.head = nn.Linear(inputs, width), nn.Linear(width, classes)
        self.blocks = nn.ModuleList(MLPBlock(width, hidden) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.lift(x.flatten(1)))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def residual_mlp(input_shape: tuple[int, ...], classes: int) -> ResidualMLP:
    """For recipes."""
    return ResidualMLP(math.prod(input_shape), classes=classes)


class MLPBlock(nn.Module):
    """x + fc2(relu(fc1(x)))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(torch.relu(self.fc1(x)))


class RawMatrix(nn.Module):
    """tanh(x M): a module of which no rule says what shape it returns."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(inputs, outputs) / math.sqrt(inputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.matrix)


class ReadByBranches(nn.Module):
    """What a raw matrix makes is read by two branches and nobody else; it stays when both have left."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.raw, self.fc = nn.Linear(6, 8), RawMatrix(8, 12), nn.Linear(8, 3)
        self.left, self.right = nn.Linear(12, 8), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.lift(x))
        h = self.raw(x)
        x = x + self.left(h)
        return self.fc(torch.tanh(x + self.right(h)))
