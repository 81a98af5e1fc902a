"""Recurrent networks, parametrized layers, mixers and other shapes a stranger may bring, small."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm


class Projected(nn.Module):
    """A bidirectional LSTM with projection, then one of a single direction; both states are used."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 5)
        self.both = nn.LSTM(5, 8, 1, batch_first=True, bidirectional=True, proj_size=4)
        self.one = nn.LSTM(8, 6, 2, batch_first=True)
        self.fc = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.both(self.embed(x))
        y, (h, c) = self.one(y)
        return self.fc(torch.cat([h[-1], c[-1]], -1)) + self.fc(torch.cat([y[:, -1], y[:, 0]], -1))


class Elman(nn.Module):
    """Elman RNN, GRU cell and RNN cell, positions first."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(3, 6, 2, nonlinearity="relu", bidirectional=True)
        self.cell, self.plain = nn.GRUCell(12, 5), nn.RNNCell(5, 4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x.transpose(0, 1))
        h, s = torch.zeros(len(x), self.cell.hidden_size, dtype=x.dtype), x.new_zeros(len(x), self.plain.hidden_size)
        for step in y.unbind(0):
            h = self.cell(step, h)
            s = self.plain(h, s)
        return self.fc(s)


class Seq2Seq(nn.Module):
    """A GRU encoder hands its state to a GRU decoder of the same size."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.GRU(3, 6, batch_first=True), nn.GRU(2, 6, batch_first=True)
        self.fc = nn.Linear(6, 2)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        _, state = self.encoder(source)
        return self.fc(self.decoder(target, state)[0])


class WeightNormed(nn.Module):
    """weight_norm on linear and convolutional layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = weight_norm(nn.Conv1d(2, 6, 3)), weight_norm(nn.Conv1d(6, 5, 3))
        self.fc1, self.fc2 = weight_norm(nn.Linear(5, 7)), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x)))).mean(-1)
        return self.fc2(torch.tanh(self.fc1(x)))


class SpectralNormed(nn.Module):
    """spectral_norm and orthogonal parametrizations between plain layers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(5, 6), spectral_norm(nn.Linear(6, 7))
        self.fc3, self.fc4 = nn.Linear(7, 8), orthogonal(nn.Linear(8, 8))
        self.fc5, self.fc6 = nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc3(F.relu(self.fc2(F.relu(self.fc1(x))))))
        return self.fc6(F.relu(self.fc5(F.relu(self.fc4(x)))))


class Halved(nn.Module):
    """A user's own parametrization, element by element: the weight is a product of two tensors."""

    class Masked(nn.Module):
        def __init__(self, shape: torch.Size) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.rand(shape) + 0.5)

        def forward(self, weight: Tensor) -> Tensor:
            return weight * self.scale.sigmoid()

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.conv = nn.Linear(4, 8), nn.Conv1d(8, 6, 1)
        self.fc2 = nn.Linear(6, 2)
        for layer in (self.fc1, self.conv):
            torch.nn.utils.parametrize.register_parametrization(layer, "weight", Halved.Masked(layer.weight.shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.conv(F.relu(self.fc1(x)).unsqueeze(-1))).flatten(1))


class Mixer(nn.Module):
    """MLP-Mixer: one MLP over channels, one over positions through transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.norm1, self.norm2, self.norm = nn.LayerNorm(8), nn.LayerNorm(8), nn.LayerNorm(8)
        self.tokens = nn.Sequential(nn.Linear(6, 10), nn.GELU(), nn.Linear(10, 6))
        self.channels = nn.Sequential(nn.Linear(8, 14), nn.GELU(), nn.Dropout(0.1), nn.Linear(14, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return self.head(self.norm(x + self.channels(self.norm2(x))).mean(1))


class Experts(nn.Module):
    """A soft mixture of experts, stacked; a router; a bilinear layer; an MLP on the raw input's residual."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 9), nn.SiLU(), nn.Linear(9, 6)) for _ in range(3))
        self.pair = nn.Bilinear(6, 6, 5)
        self.fc = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.router(x).softmax(-1)
        y = torch.stack([expert(x) for expert in self.experts], 1)
        return self.fc(F.relu(self.pair(x + (weights[..., None] * y).sum(1), x)))


class Autoencoder(nn.Module):
    """Variational: two heads, sampling replaced by a fixed offset, the decoder's weight is the encoder's transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.mean, self.spread = nn.Linear(10, 12), nn.Linear(12, 4), nn.Linear(12, 4)
        self.fc3, self.bias = nn.Linear(4, 12), nn.Parameter(torch.zeros(10))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        h = F.relu(self.fc1(x))
        mean, spread = self.mean(h), self.spread(h)
        z = mean + 0.3 * torch.exp(0.5 * spread)
        return F.linear(F.relu(self.fc3(z)), self.fc1.weight.t(), self.bias), [mean, spread]


class Mamba(nn.Module):
    """A selective state-space block: causal depthwise convolution, input-dependent decay, a scan written as a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.state = 3
        self.in_proj, self.out_proj = nn.Linear(5, 16, bias=False), nn.Linear(8, 5, bias=False)
        self.conv = nn.Conv1d(8, 8, 3, groups=8, padding=2)
        self.x_proj, self.dt_proj = nn.Linear(8, 2 + 2 * 3, bias=False), nn.Linear(2, 8)
        self.log_a, self.d = nn.Parameter(torch.rand(8, 3)), nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        u, gate = self.in_proj(x).chunk(2, -1)
        u = F.silu(self.conv(u.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        dt, b, c = self.x_proj(u).split([2, self.state, self.state], -1)
        dt = F.softplus(self.dt_proj(dt))
        h, ys = u.new_zeros(len(u), u.shape[-1], self.state), []
        for t in range(u.shape[1]):
            decay = torch.exp(-dt[:, t, :, None] * self.log_a.exp())
            h = decay * h + (dt[:, t] * u[:, t])[..., None] * b[:, t, None, :]
            ys.append((h * c[:, t, None, :]).sum(-1))
        y = torch.stack(ys, 1) + u * self.d
        return x + self.out_proj(y * F.silu(gate))


class DeepSets(nn.Module):
    """Keyword and nested inputs, pooling over a masked set, where, topk-free max, a dictionary comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.phi, self.side = nn.Linear(4, 9), nn.Linear(2, 9)
        self.rho, self.out = nn.Linear(18, 6), nn.Linear(6, 2)

    def forward(self, items: Tensor, extra: dict[str, Tensor]) -> dict[str, Tensor]:
        h = F.relu(self.phi(items))
        h = torch.where(extra["present"][..., None], h, torch.zeros_like(h))
        pooled = torch.cat([h.sum(1), h.max(dim=1).values + self.side(extra["side"])], -1)
        hidden = torch.relu(self.rho(pooled))
        return {"logits": self.out(hidden), "norm": hidden.sum()[None]}
