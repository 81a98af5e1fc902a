"""Convolutional architectures as other libraries write them, small."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class UNet(nn.Module):
    """Encoder and decoder with skip concatenations, transposed convolution and interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = self.block(2, 4), self.block(4, 6)
        self.bottom = self.block(6, 8)
        self.up2, self.dec2 = nn.ConvTranspose2d(8, 6, 2, stride=2), self.block(12, 5)
        self.dec1 = self.block(9, 4)
        self.head = nn.Conv2d(4, 3, 1)

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        d = self.dec2(torch.cat([self.up2(c), b], 1))
        d = F.interpolate(d, scale_factor=2, mode="bilinear", align_corners=False)
        return self.head(self.dec1(torch.cat([d, a], 1)))


class ShuffleUnit(nn.Module):
    """ShuffleNet v2: split in halves, one transformed, concatenated, channels shuffled by view and transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.reduce, self.depth, self.expand = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).chunk(2, dim=1)
        right = F.relu(self.expand(self.norm(self.depth(F.relu(self.reduce(right))))))
        x = torch.cat((left, right), 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)
        return self.fc(x.mean([2, 3]))


class InvertedResidual(nn.Module):
    """MobileNet v3: expansion, depthwise, squeeze-and-excite by 1 × 1 convolutions, projection, residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.expand, self.bn1 = nn.Conv2d(6, 12, 1, bias=False), nn.BatchNorm2d(12)
        self.depth, self.bn2 = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False), nn.BatchNorm2d(12)
        self.squeeze, self.excite = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.project, self.bn3 = nn.Conv2d(12, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.stem(x))
        y = F.relu6(self.bn2(self.depth(F.relu6(self.bn1(self.expand(x))))))
        y = y * F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        x = x + self.bn3(self.project(y))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


class ResNeXt(nn.Module):
    """Bottleneck with a grouped convolution and a projection shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(8)
        self.conv3, self.bn3 = nn.Conv2d(8, 10, 1, bias=False), nn.BatchNorm2d(10)
        self.shortcut = nn.Sequential(nn.Conv2d(3, 10, 1, bias=False), nn.BatchNorm2d(10))
        self.fc = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        y += self.shortcut(x)
        return self.fc(F.avg_pool2d(F.relu_(y), y.shape[-2:]).squeeze(-1).squeeze(-1))


class Inception(nn.Module):
    """Four branches concatenated, with an auxiliary head; a dict comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.b1 = nn.Conv2d(3, 4, 1)
        self.b3r, self.b3 = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 5, 3, padding=1)
        self.b5r, self.b5 = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 3, (1, 5), padding=(0, 2))
        self.pool = nn.Conv2d(3, 2, 1)
        self.mix = nn.Conv2d(14, 6, 3)
        self.aux, self.fc = nn.Linear(14, 3), nn.Linear(6 * 3 * 5, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        pooled = F.max_pool2d(x, 3, stride=1, padding=1)
        y = torch.cat([self.b1(x), self.b3(F.relu(self.b3r(x))), self.b5(F.relu(self.b5r(x))), self.pool(pooled)], 1)
        y = F.elu(y)
        out = F.relu(self.mix(y))
        return {"logits": self.fc(out.reshape(out.size(0), -1)), "aux": self.aux(y.mean(-1).mean(-1))}


class SuperResolution(nn.Module):
    """ESPCN: pixel shuffle in the middle and at the end, PReLU, a residual onto the raw input's interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.act = nn.Conv2d(1, 6, 3, padding=1), nn.PReLU(6)
        self.wide = nn.Conv2d(6, 20, 3, padding=1)
        self.mid = nn.Conv2d(5, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.pixel_shuffle(self.wide(self.act(self.conv1(x))), 2)
        y = F.pixel_shuffle(self.last(torch.tanh(self.mid(y))), 2)
        return y + F.interpolate(x, scale_factor=4, mode="nearest")


class Volumes(nn.Module):
    """Conv3d, transposed and grouped convolutions in 1-D, instance norms with and without affine weights, group norm with one group."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3, self.norm3 = nn.Conv3d(2, 6, (1, 3, 3), padding=(0, 1, 1)), nn.InstanceNorm3d(6, affine=True)
        self.conv3b, self.plain = nn.Conv3d(6, 4, 1), nn.InstanceNorm3d(4, track_running_stats=True)
        self.wave, self.norm1 = nn.Conv1d(4, 6, 3, padding=1), nn.GroupNorm(1, 6)
        self.up = nn.ConvTranspose1d(6, 9, 4, stride=2, groups=3)
        self.fc = nn.Conv1d(9, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.norm3(self.conv3(x)))
        x = self.plain(self.conv3b(x)).amax((3, 4))
        return self.fc(F.relu(self.up(self.norm1(self.wave(x)))))


class ConvNeXt(nn.Module):
    """Channels last in the middle: depthwise 7 × 7, permute, LayerNorm, two linear layers, LayerScale, residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, stride=2)
        self.depth = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm, self.wide, self.narrow = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.gamma = nn.Parameter(torch.full((8,), 0.5))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depth(x).permute(0, 2, 3, 1))
        y = self.gamma * self.narrow(F.gelu(self.wide(y)))
        return self.head((x + y.permute(0, 3, 1, 2)).mean((-2, -1)))


class GhostTower(nn.Module):
    """One tower of convolutions run on two inputs (weight sharing), difference, in-place operators, flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 2), nn.Flatten())
        self.fc1, self.fc2 = nn.Linear(4 * 2 * 3, 7), nn.Linear(7, 2)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.tower(left), self.tower(right)
        a.mul_(0.5).add_(b, alpha=-1).clamp_(min=-2)
        return self.fc2(self.fc1(a).relu_()), self.fc2(self.fc1(b).tanh())


class Depthwise(nn.Module):
    """Depthwise with a multiplier, grouped 1 × 1 with shuffle by reshape, F.conv2d with own weights, unfold-free pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3)
        self.multiplied = nn.Conv2d(4, 8, 3, groups=4)
        self.kernel, self.bias = nn.Parameter(torch.randn(6, 8, 1, 1)), nn.Parameter(torch.zeros(6))
        self.bn = nn.BatchNorm2d(6, affine=False)
        self.head = nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.selu(self.multiplied(F.softplus(self.stem(x))))
        x = self.bn(F.conv2d(F.pad(x, (1, 1, 0, 0)), self.kernel, self.bias))
        return self.head(F.adaptive_max_pool2d(x, 2)).flatten(2).logsumexp(-1)
