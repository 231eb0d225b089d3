"""Random networks of every kind that the readers bring, and images that they label themselves."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import nn

from prune_core.data.images import LabeledImages, Split, make_split
from prune_core.masks import Channel, ChannelMask
from prune_core.model.model import PrunableModel, build_model

SHAPE = (3, 12, 10)
CLASSES = 5


class Chain(nn.Module):
    """Padded and strided convolutions, both kinds of pools, two hidden ways to the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 3, stride=2, padding=1)
        self.c = nn.Conv2d(5, 7, 2)
        self.left, self.right = nn.Linear(30, 8), nn.Linear(14, 8)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(torch.relu(self.a(x)), 2)
        x = F.avg_pool2d(F.leaky_relu(self.b(x)), 2, stride=1, padding=1)[:, :, :3, :2]
        return self.last(torch.relu(self.left(x.flatten(1)) + self.right(torch.relu(self.c(x)).flatten(1))))


class Residual(nn.Module):
    """Blocks with batch norm that are added, and a strided shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.a, self.a_norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.b, self.b_norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.c, self.c_norm = nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.short = nn.Conv2d(6, 8, 1, stride=2)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = torch.relu(x + self.b_norm(self.b(torch.relu(self.a_norm(self.a(x))))))
        x = torch.relu(self.c_norm(self.c(x)) + self.short(x))
        return self.last(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Fork(nn.Module):
    """Branches that are concatenated, mixed 1 x 1, and a gate that multiplies channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.a, self.b = nn.Conv2d(4, 5, 3, padding=1), nn.Conv2d(4, 3, 1)
        self.mix = nn.Conv2d(12, 6, 1)
        self.gate = nn.Linear(6, 6)
        self.last = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.elu(self.stem(x) * 0.5)
        x = torch.cat([x, torch.relu(self.a(x)), self.b(x)], dim=1)
        x = torch.relu(self.mix(x))
        x = x * torch.sigmoid(self.gate(x.mean(dim=(2, 3))))[:, :, None, None]
        return self.last(x.mean(dim=(2, 3)))


class Depthwise(nn.Module):
    """Depthwise convolutions (one of them with two outputs a channel) and a grouped one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 12, 3, padding=1, groups=6)
        self.norm = nn.BatchNorm2d(12)
        self.point, self.group = nn.Conv2d(12, 6, 1), nn.Conv2d(6, 6, 3, groups=2)
        self.last = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.deep(torch.relu(self.stem(x)))))
        x = torch.relu(self.group(torch.relu(self.point(x))))
        return self.last(x.amax(dim=(2, 3)))


class ChannelsLast(nn.Module):
    """Transposes around every convolution, as tf2onnx writes them; channels are softmaxed once,
    for which there is no rule; two constants on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3), nn.Conv2d(5, 4, 2)
        self.scale = nn.Parameter(torch.rand(6) + 0.5)
        self.last = nn.Linear(12, CLASSES)
        self.matrix = nn.Parameter(torch.randn(12, 12) / 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x).permute(0, 2, 3, 1)
        x = torch.relu(x * self.scale).permute(0, 3, 1, 2)
        x = torch.relu(self.b(F.max_pool2d(x, 2)).permute(0, 2, 3, 1))
        x = torch.softmax(x, dim=-1).permute(0, 3, 1, 2)
        x = F.pad(x, (0, 1, 1, 0))
        x = torch.relu(self.c(x).permute(0, 2, 3, 1)).flatten(1)[:, :12]
        return self.last(torch.tanh(x @ self.matrix))


class OnlyConvolutions(nn.Module):
    """No linear layer at the end, and classes 1 and 3 are copies: ties on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, CLASSES, 3)
        with torch.no_grad():
            self.b.weight[3], self.b.bias[3] = self.b.weight[1], self.b.bias[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(self.b(torch.relu(self.a(x))), 1).flatten(1)


class Ties(nn.Module):
    """Copies of classes behind an output layer without bias, so that a dead net says all zero."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 3, 3, bias=False)
        self.last = nn.Linear(3, CLASSES, bias=False)
        with torch.no_grad():
            self.last.weight[4] = self.last.weight[2]
            self.last.weight[3] = self.last.weight[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.b(torch.relu(self.a(x)))).mean(dim=(2, 3)))


NETS: dict[str, Callable[[], nn.Module]] = {
    net.__name__: net for net in (Chain, Residual, Fork, Depthwise, ChannelsLast, OnlyConvolutions, Ties)
}


def as_model(net: nn.Module, shape: tuple[int, int, int], name: str) -> PrunableModel:
    buffer = io.BytesIO()
    torch.onnx.export(
        net.eval(), (torch.zeros(1, *shape),), buffer, dynamo=False, opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        input_names=["images"], dynamic_axes={"images": {0: "n"}},
    )  # fmt: skip
    return build_model(onnx.load_from_string(buffer.getvalue()), name, name)


@lru_cache(maxsize=64)
def made(kind: str, seed: int) -> tuple[PrunableModel, Split]:
    """A random network, and images that it labels itself, with a few wrong labels."""
    torch.manual_seed(seed)
    net = NETS[kind]()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    model = as_model(net, SHAPE, kind)
    rng = np.random.default_rng(seed)
    pixels = rng.normal(size=(90, *SHAPE)).astype(np.float32)
    labels = model.logits(torch.from_numpy(pixels)).argmax(dim=1).numpy()
    labels[::7] = rng.integers(0, CLASSES, len(labels[::7]))
    truth = rng.integers(1, CLASSES, 40)
    poisoned = LabeledImages(pixels[50:], np.zeros(40, np.int64), truth if seed % 2 else None)
    return model, make_split(LabeledImages(pixels[:50], labels[:50]), poisoned)


def random_masks(model: PrunableModel, seed: int, keep_bias: bool) -> Iterable[ChannelMask]:
    """A walk like a pruner's, with candidates turned down, far jumps, and the empty mask."""
    rng = np.random.default_rng(seed)
    every = [Channel(la.name, c) for la in model.layers for c in range(la.channels)]
    mask = ChannelMask(keep_bias=keep_bias)
    for step in range(12):
        for _ in range(2):
            yield mask.adding(every[rng.integers(len(every))])
        mask = mask.adding(every[rng.integers(len(every))])
        yield mask
        if step == 5:
            picks = rng.permutation(len(every))[: len(every) // 2]
            yield ChannelMask(frozenset(every[i] for i in picks), keep_bias)
            yield mask.only(model.layers[-1].name)
        if step == 8:
            mask = mask.only(model.layers[0].name)
    yield ChannelMask(frozenset(every), keep_bias)


def random_mask(model: PrunableModel, share: float, keep_bias: bool, seed: int = 1) -> ChannelMask:
    """Of all convolutions' channels, the first included, so large a share."""
    channels = [(la.name, i) for la in model.layers for i in range(la.channels)]
    dice = np.random.default_rng(seed)
    chosen = dice.choice(len(channels), int(share * len(channels)), replace=False)
    pruned: dict[str, list[int]] = {}
    for number in chosen:
        pruned.setdefault(channels[number][0], []).append(channels[number][1])
    return ChannelMask.of(pruned, keep_bias)
