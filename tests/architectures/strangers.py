"""Networks as strangers write them: sizes kept under names of their own, states made by hand, messages between nodes. Small."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from einops.layers.torch import Rearrange, Reduce
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


class CrossStage(nn.Module):
    """YOLO's C2f: two halves cut by a width that the module keeps, every block's output concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.c = 4
        self.cv1, self.cv2 = nn.Conv2d(3, 2 * self.c, 1), nn.Conv2d(4 * self.c, 7, 1)
        self.m = nn.ModuleList(nn.Conv2d(self.c, self.c, 3, padding=1) for _ in range(2))
        self.head = nn.Conv2d(7, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).split((self.c, self.c), 1))
        y.extend(F.silu(m(y[-1])) for m in self.m)
        return self.head(F.silu(self.cv2(torch.cat(y, 1)))).flatten(2)


class Res2Net(nn.Module):
    """A hierarchy of convolutions over pieces of `width` channels."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.scale = 5, 3
        self.conv1, self.conv3, self.short = nn.Conv2d(3, 15, 1), nn.Conv2d(15, 6, 1), nn.Conv2d(3, 6, 1)
        self.convs = nn.ModuleList(nn.Conv2d(5, 5, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(5) for _ in range(2))
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(F.relu(self.conv1(x)), self.width, 1)
        pieces = [parts[0]]
        for part, conv, norm in zip(parts[1:], self.convs, self.norms, strict=True):
            pieces.append(F.relu(norm(conv(part + pieces[-1]))))
        return self.fc(F.relu(self.conv3(torch.cat(pieces, 1)) + self.short(x)).mean((2, 3)))


@dataclass(frozen=True)
class Sizes:
    """The sizes of `Configured`."""

    width: int = 12
    heads: int = 3


class Configured(nn.Module):
    """Attention whose numbers stand in a configuration; a tuple, a list and a dict of sizes behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.cfg, self.grid, self.ways, self.options = Sizes(), (4, 5), [6], {"pieces": 5, "mode": 1}
        self.lift, self.qkv, self.proj = nn.Linear(6, 12), nn.Linear(12, 36), nn.Linear(12, 20)
        self.spread, self.pool, self.out = nn.Linear(20, 18), nn.Linear(6, 10), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        c, (b, t, _) = self.cfg, x.shape
        q, k, v = self.qkv(torch.tanh(self.lift(x))).view(b, t, 3, c.heads, c.width // c.heads).permute(2, 0, 3, 1, 4)
        y = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
        y = self.proj(y.transpose(1, 2).reshape(b, t, c.width)).view(b, t, *self.grid).tanh().flatten(2)
        y = self.spread(y).view(b, t, self.ways[0], 3).amax(-1)
        return self.out(self.pool(y).view(b, t, self.options["pieces"], 2).prod(-1))


class Directions(nn.Module):
    """A bidirectional GRU with a first state made by hand, its directions taken apart by `hidden`."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.layers = 5, 2
        self.gru = nn.GRU(3, self.hidden, self.layers, batch_first=True, bidirectional=True)
        self.last, self.both = nn.Linear(2 * self.hidden, 3), nn.Linear(self.hidden, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        start = torch.zeros(2 * self.layers, len(x), self.hidden, dtype=x.dtype)
        y, state = self.gru(x, start)
        state = state.view(self.layers, 2, len(x), self.hidden)[-1]
        last = state.transpose(0, 1).reshape(-1, 2 * self.hidden)
        return self.last(last), self.both(y[..., : self.hidden] * y[..., self.hidden :])


class ConvLSTM(nn.Module):
    """A convolutional LSTM cell: input and state concatenated, gates cut by `channels`, the first state zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = 5
        self.gates, self.out = nn.Conv2d(2 + 5, 4 * 5, 3, padding=1), nn.Conv2d(5, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, steps, _, height, width = x.shape
        h = c = torch.zeros(b, self.channels, height, width, dtype=x.dtype)
        for t in range(steps):
            i, f, o, g = torch.split(self.gates(torch.cat([x[:, t], h], 1)), self.channels, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return self.out(h)


class SpatialGating(nn.Module):
    """gMLP: a convolution of width one over positions gates one half of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.up, self.mix, self.down = nn.Linear(5, 6), nn.Linear(6, 14), nn.Conv1d(9, 9, 1), nn.Linear(7, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lift(x)
        u, v = F.gelu(self.up(h)).chunk(2, -1)
        return self.head((h + self.down(u * self.mix(v))).mean(1))


class Perceiver(nn.Module):
    """Learned latents attend to the data; heads folded into the batch, their number kept as `h`."""

    def __init__(self) -> None:
        super().__init__()
        self.h, self.scale = 2, 0.5
        self.latents = nn.Parameter(torch.randn(4, 8))
        self.q, self.kv, self.out = nn.Linear(8, 6, bias=False), nn.Linear(5, 12, bias=False), nn.Linear(6, 8)
        self.up, self.down, self.head = nn.Linear(8, 11), nn.Linear(11, 8), nn.Linear(8, 3)

    def fold(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        return x.reshape(b, n, self.h, -1).permute(0, 2, 1, 3).reshape(b * self.h, n, -1)

    def forward(self, x: Tensor) -> Tensor:
        latents = self.latents.unsqueeze(0).repeat(len(x), 1, 1)
        q, k, v = map(self.fold, (self.q(latents), *self.kv(x).chunk(2, -1)))
        y = torch.einsum("b i j, b j d -> b i d", (torch.einsum("b i d, b j d -> b i j", q, k) * self.scale).softmax(-1), v)
        y = y.reshape(len(x), self.h, y.shape[1], -1).permute(0, 2, 1, 3).flatten(2)
        z = latents + self.out(y)
        return self.head((z + self.down(F.gelu(self.up(z)))).mean(1))


class WaveNet(nn.Module):
    """Dilated gated convolutions; every layer shortens the signal, and the last residual is computed for nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Conv1d(1, 5, 1)
        self.filters, self.gates = (nn.ModuleList(nn.Conv1d(5, 6, 2, dilation=2**k) for k in range(2)) for _ in range(2))
        self.residuals, self.skips = (nn.ModuleList(nn.Conv1d(6, width, 1) for _ in range(2)) for width in (5, 7))
        self.end = nn.Conv1d(7, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.start(x), []
        for f, g, residual, skip in zip(self.filters, self.gates, self.residuals, self.skips, strict=True):
            h = torch.tanh(f(x)) * torch.sigmoid(g(x))
            total.append(skip(h))
            x = residual(h) + x[..., -h.shape[-1] :]
        length = total[-1].shape[-1]
        return self.end(F.relu(sum(part[..., -length:] for part in total)))


class Messages(nn.Module):
    """A graph network: messages along edges, summed up at nodes by `index_add` and `scatter_add_`, attention cut from one vector."""

    def __init__(self) -> None:
        super().__init__()
        self.out_features = 6
        self.lift, self.message = nn.Linear(4, 6), nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 7))
        self.a = nn.Parameter(torch.randn(12, 1))
        self.update, self.out = nn.GRUCell(7, 6), nn.Linear(13, 2)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        h = self.lift(x)
        scores = h @ self.a[: self.out_features] + (h @ self.a[self.out_features :]).T
        h = scores.softmax(1) @ h
        m = self.message(torch.cat([h[edges[0]], h[edges[1]]], -1))
        first = torch.zeros(len(x), m.shape[1], dtype=m.dtype).index_add(0, edges[1], m)
        second = torch.zeros(len(x), m.shape[1], dtype=m.dtype)
        second.scatter_add_(0, edges[0].unsqueeze(-1).expand(-1, m.shape[1]), m.square())
        return self.out(torch.cat([self.update(first, h), second], -1))


class RelativeBias(nn.Module):
    """T5: a table of biases per head by distance, sizes kept as `nh` and `dk`, a home-made norm, tied embedding and head."""

    def __init__(self) -> None:
        super().__init__()
        self.nh, self.dk = 3, 4
        self.embed, self.distance = nn.Embedding(11, 10), nn.Embedding(7, 3)
        self.q, self.k, self.v = (nn.Linear(10, 12, bias=False) for _ in range(3))
        self.o, self.gain = nn.Linear(12, 10, bias=False), nn.Parameter(torch.ones(10))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        b, n, _ = x.shape
        h = self.gain * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        q, k, v = (f(h).view(b, n, self.nh, self.dk).transpose(1, 2) for f in (self.q, self.k, self.v))
        position = torch.arange(n)
        bias = self.distance((position[None] - position[:, None]).clamp(-3, 3) + 3).permute(2, 0, 1).unsqueeze(0)
        y = (q @ k.transpose(3, 2) + bias).softmax(-1) @ v
        return F.linear(x + self.o(y.transpose(1, 2).contiguous().view(b, -1, self.nh * self.dk)), self.embed.weight)


class Selective(nn.Module):
    """SKNet: branches stacked by a view with sizes of the module, weighted by a softmax over branches."""

    def __init__(self) -> None:
        super().__init__()
        self.branches, self.features = 2, 6
        self.convs = nn.ModuleList(nn.Conv2d(3, 6, 3, padding=1 + k, dilation=1 + k) for k in range(2))
        self.squeeze, self.weights = nn.Linear(6, 5), nn.ModuleList(nn.Linear(5, 6) for _ in range(2))
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        f = torch.cat([conv(x) for conv in self.convs], 1)
        f = f.view(len(x), self.branches, self.features, *f.shape[2:])
        z = F.relu(self.squeeze(f.sum(1).mean((2, 3))))
        a = torch.cat([fc(z) for fc in self.weights], 1).view(len(x), self.branches, self.features, 1, 1).softmax(1)
        return self.out((f * a).sum(1))


class Generator(nn.Module):
    """A decoder: `Unflatten`, transposed convolution, a norm without weights styled from outside (AdaIN)."""

    def __init__(self) -> None:
        super().__init__()
        self.style = nn.Linear(4, 10)
        self.body = nn.Sequential(nn.Linear(7, 6 * 4), nn.Unflatten(1, (6, 2, 2)), nn.ReLU(), nn.ConvTranspose2d(6, 5, 4, 2, 1))
        self.norm, self.out = nn.InstanceNorm2d(5), nn.Conv2d(5, 1, 3, padding=1)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        gain, offset = self.style(style)[:, :, None, None].chunk(2, 1)
        return self.out(torch.tanh((1 + gain) * self.norm(self.body(x)) + offset))


class Routed(nn.Module):
    """A mixture of experts: two of four chosen per token, weights written back by `scatter`, experts' weights stacked."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.gate, self.head = nn.Linear(4, 6), nn.Linear(6, 4, bias=False), nn.Linear(6, 3)
        self.up, self.down = nn.Parameter(torch.randn(4, 6, 9) / 3), nn.Parameter(torch.randn(4, 9, 6) / 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        scores = self.gate(x).softmax(-1)
        value, chosen = scores.topk(2, -1)
        weights = torch.zeros_like(scores).scatter(-1, chosen, value / math.sqrt(2))
        y = torch.einsum("btef,efd->bted", F.gelu(torch.einsum("btd,edf->btef", x, self.up)), self.down)
        return self.head(x + (y * weights.unsqueeze(-1)).sum(2))


class Dispatched(nn.Module):
    """A mixture of experts that are modules: each sees the tokens that chose it, and its answers are added in their places."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.gate, self.head = nn.Linear(4, 6), nn.Linear(6, 3, bias=False), nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 6)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        value, chosen = self.gate(x).softmax(-1).topk(2, -1)
        y = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            token, place = torch.where(chosen == number)
            y[token] += torch.tensor(0.7) * value[token, place, None] * expert(x[token])
        return self.head(x + y)


class Tokens(nn.Module):
    """A stream that one layer reads as [batch, tokens, channels] and another as [batch · tokens, channels], as routers do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.back = nn.Linear(4, 6), nn.Linear(6, 7), nn.Linear(7, 6)
        self.each, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.back(F.gelu(self.mix(x)))
        tokens = F.gelu(self.each(x.reshape(-1, x.shape[-1])))
        return self.head(x + tokens.view(x.shape))


class Loops(nn.Module):
    """Graph convolution with self-loops, as PyTorch Geometric's: loops leave the edges and every node gets one, however many there were."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        proper = edges[0] != edges[1]
        weights = x.new_ones(edges.shape[1])
        nodes = torch.arange(x.shape[0])
        edges = torch.cat([edges[:, proper], torch.stack([nodes, nodes])], dim=1)
        weights = torch.cat([weights[proper], weights.new_ones(x.shape[0])])
        source, target = edges[0], edges[1]
        degree = x.new_zeros(x.shape[0]).index_add(0, target, weights)
        weights = weights * (degree[source] * degree[target]).rsqrt()
        for layer in (self.lift, self.head):
            x = layer(x)
            x = torch.zeros_like(x).index_add(0, target, x.index_select(0, source) * weights[:, None])
            x = torch.tanh(x)
        return x


class Checked(nn.Module):
    """A block of a diffusion network: it keeps the number of its channels to check what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.down, self.head = nn.Conv2d(3, 6, 3), Halved(6, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.down(torch.relu(self.lift(x)))))


class Halved(nn.Module):
    def __init__(self, channels: int, after: int) -> None:
        super().__init__()
        self.channels, self.after = channels, after
        self.conv = nn.Conv2d(channels, after, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == self.channels
        x = self.conv(x)
        if x.size(1) != self.after:
            raise ValueError(f"{self.after} channels expected, got {x.size(1)}")
        return x


class Spectrum(nn.Module):
    """Fourier layers: complex weights mix the channels of the lowest frequencies, the higher ones are cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.modes = 3
        self.lift, self.read, self.head = nn.Conv1d(2, 6, 1), nn.Conv1d(6, 9, 1), nn.Conv1d(9, 1, 1)
        self.mix = nn.ParameterList(nn.Parameter(torch.randn(6, 6, 3, dtype=torch.cfloat) / 6) for _ in range(2))
        self.pass_by = nn.ModuleList(nn.Conv1d(6, 6, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        for mix, pass_by in zip(self.mix, self.pass_by, strict=True):
            spectrum = torch.fft.rfft(x)
            mixed = torch.zeros_like(spectrum)
            mixed[..., : self.modes] = torch.einsum("bim,iom->bom", spectrum[..., : self.modes], mix.to(spectrum.dtype))
            x = F.gelu(torch.fft.irfft(mixed, n=x.shape[-1]) + pass_by(x))
        return self.head(F.gelu(self.read(x)))


class Anchored(nn.Module):
    """A detector's head: a grid of places, made when the size of the images changes and kept at the module."""

    shape: torch.Size | None = None
    places = torch.empty(0)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.boxes, self.made = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 2, 1), {"times": 0}

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.conv(x))
        if self.shape != x.shape[2:]:
            self.shape, self.made["times"] = x.shape[2:], self.made["times"] + 1
            self.places = torch.stack(torch.meshgrid(*(torch.arange(size) + 0.5 for size in self.shape), indexing="ij"))
        return (self.boxes(x) + self.places.to(x)).flatten(2)


class Patterned(nn.Module):
    """Attention in the patterns of einops: layers that keep their numbers, and a function that is given one."""

    def __init__(self) -> None:
        super().__init__()
        self._heads = 3
        self.lift, self.qkv, self.proj, self.head = nn.Linear(6, 8), nn.Linear(8, 36), nn.Linear(12, 8), nn.Linear(8, 2)
        self.split = Rearrange("b n (three h d) -> three b h n d", three=3, h=self._heads)
        self.mean = Reduce("b (n two) c -> b n c", "mean", two=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        q, k, v = self.split(self.qkv(x))
        y = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
        y = rearrange(y, "b h n d -> b n (h d)", h=self._heads)
        return self.head(self.mean(x + self.proj(y)))


class ClassToken(nn.Module):
    """A learned token, laid before the others by patterns with axes of size 1, and read by a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 5, 8))
        self.lift, self.first, self.mix, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        first = repeat(self.first(self.token), "() n d -> b n d", b=len(x))
        x = torch.cat((first, self.lift(x)), 1) + self.places
        return self.head(rearrange(x + self.mix(x).tanh(), "b n d -> b n () d").mean((1, 2)))


class Packed(nn.Module):
    """A tagger of sentences of several lengths: a GRU on packed embeddings, its outputs padded again, its last state beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lift = nn.Embedding(11, 6), nn.Linear(6, 7)
        self.gru, self.back = nn.GRU(7, 5, num_layers=2, batch_first=True, bidirectional=True), nn.LSTM(10, 6)
        self.tag, self.whole = nn.Linear(6, 3), nn.Linear(10, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = torch.tanh(self.lift(self.embed(x)))
        packed, state = self.gru(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        packed = PackedSequence(torch.relu(packed.data), *packed[1:])
        assert sum(int(examples) for examples in packed.batch_sizes) == len(packed.data)
        y, _ = pad_packed_sequence(self.back(packed)[0], batch_first=True)
        return self.tag(y) + self.whole(torch.cat((state[-2], state[-1]), 1))[:, None]


class Lengths(nn.Module):
    """A mask of as many places as the longest example has."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.head = nn.Linear(4, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        most = int(lengths.max().item())
        outside = torch.arange(most).expand(len(x), most) >= lengths[:, None]
        return self.head(torch.relu(self.lift(x[:, :most])).masked_fill(outside[..., None], 0).sum(1))


class Sampled(nn.Module):
    """Positions looked up, none of them units: a spatial transformer, an unpooled maximum, windows, patches."""

    def __init__(self) -> None:
        super().__init__()
        self.place, self.lift = nn.Linear(16, 6), nn.Conv2d(2, 7, 3, padding=1)
        self.mix, self.out, self.head = nn.Conv2d(7, 5, 1), nn.Conv2d(5, 6, 1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        where = F.affine_grid(self.place(x[:, 0, :2].flatten(1)).view(-1, 2, 3), list(x.shape), align_corners=False)
        y = torch.relu(self.lift(F.grid_sample(x, where, align_corners=False)))
        y = y + F.max_unpool2d(*F.max_pool2d(y, 2, return_indices=True), 2)
        y = torch.tanh(self.mix(F.grid_sample(y, where, align_corners=False)))
        y = F.fold(F.unfold(y, 3, padding=1), (8, 8), 3, padding=1) + y.unfold(3, 3, 1).mean(-1).logsumexp(3, keepdim=True)
        waves = torch.complex(y.cos(), y.sin()) * torch.polar(y.abs(), y).conj()
        return self.head(self.out(waves.real + waves.imag).cummax(3).values.mean((2, 3)))


class Matrices(nn.Module):
    """Channels of small matrices: inverted, solved, factorised, each channel for itself; a codebook that distances are taken to."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.mix, self.out = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 4, 1), nn.Linear(4, 5)
        self.codes, self.head = nn.Parameter(torch.randn(9, 5)), nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.lift(x))
        steady = torch.linalg.inv(y + 6 * torch.eye(4, dtype=y.dtype)) + torch.linalg.solve(y.exp() + 6 * torch.eye(4, dtype=y.dtype), y)
        z = self.mix(steady.matrix_exp()) * torch.linalg.svdvals(self.mix(y))[..., None]
        return self.head(torch.cdist(self.out(z.mean((2, 3))), self.codes))


class Spline(nn.Module):
    """A layer of a Kolmogorov-Arnold network (efficient-kan): bases of B-splines by neighbouring sums, read flat by a weight made flat."""

    def __init__(self, features: int, outputs: int, intervals: int = 3, order: int = 2) -> None:
        super().__init__()
        self.features, self.outputs, self.order, self.bases = features, outputs, order, intervals + order
        knots = (torch.arange(-order, intervals + order + 1) * 2 / intervals - 1).expand(features, -1).contiguous()
        self.register_buffer("knots", knots)
        self.plain = nn.Parameter(torch.randn(outputs, features) / features)
        self.curves = nn.Parameter(torch.randn(outputs, features, self.bases) / features)
        self.scale = nn.Parameter(torch.rand(outputs, features) + 0.5)

    def values(self, x: Tensor) -> Tensor:
        assert x.size(1) == self.features
        knots, x = self.knots, x.unsqueeze(-1)
        found = ((x >= knots[:, :-1]) & (x < knots[:, 1:])).to(x.dtype)
        for k in range(1, self.order + 1):
            left = (x - knots[:, : -(k + 1)]) / (knots[:, k:-1] - knots[:, : -(k + 1)])
            right = (knots[:, k + 1 :] - x) / (knots[:, k + 1 :] - knots[:, 1:-k])
            found = left * found[:, :, :-1] + right * found[:, :, 1:]
        assert found.size() == (x.size(0), self.features, self.bases)
        return found.contiguous()

    def forward(self, x: Tensor) -> Tensor:
        curves = (self.curves * self.scale.unsqueeze(-1)).view(self.outputs, -1)
        return F.linear(F.silu(x), self.plain) + F.linear(self.values(x).view(x.size(0), -1), curves)


class Splines(nn.Module):
    """A Kolmogorov-Arnold network."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = Spline(4, 7), Spline(7, 5), Spline(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.three(self.two(self.one(x)))
