"""Small networks with one odd thing between two convolutions, and how torch writes them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

SIDE = 10
RNG = np.random.default_rng(0)
IMAGES = (RNG.normal(size=(16, 3, SIDE, SIDE)) + RNG.normal(size=(16, 3, 1, 1))).astype(np.float32)


class Net(nn.Module):
    """Two convolutions with something between them."""

    def __init__(self, middle: Callable[[torch.Tensor], torch.Tensor], channels: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(channels, 6, 3, padding=1)
        self.middle, self.last = middle, nn.Linear(6, 3)
        self.before: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
        self.pool: Callable[[torch.Tensor], torch.Tensor] = lambda x: x.mean((2, 3))
        self.after: Callable[[torch.Tensor], Any] = lambda x: x

    def forward(self, x: torch.Tensor) -> Any:
        x = self.middle(self.first(self.before(x)))
        return self.after(self.last(self.pool(torch.relu(self.second(x)))))


def made(middle: Any, **parts: Any) -> Net:
    torch.manual_seed(3)
    with torch.no_grad():
        channels = middle(torch.rand(2, 4, SIDE, SIDE)).shape[1]
    net = Net(middle, channels).eval().requires_grad_(False)
    for name, part in parts.items():
        setattr(net, name, part)
    generator = torch.Generator().manual_seed(5)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    with torch.no_grad():  # so that there are several classes
        logits = net(torch.from_numpy(IMAGES))
        logits = logits[0] if isinstance(logits, tuple) else logits
        if logits.shape == (16, 3):
            net.last.weight /= logits.std(0)[:, None]
            net.last.bias.copy_((net.last.bias - logits.mean(0)) / logits.std(0))
    return net


def exported(net: nn.Module, path: Path, opset: int = 17, example: Any = None, **options: Any) -> Path:
    buffer = io.BytesIO()
    names: dict[str, Any] = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}, **options}
    given = torch.from_numpy(IMAGES[:2]) if example is None else example
    torch.onnx.export(net, (given,), buffer, dynamo=False, opset_version=opset, **names)
    path.write_bytes(buffer.getvalue())
    return path


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.query, self.out = nn.LayerNorm(4), nn.Linear(4, 8), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        query, key = self.query(self.norm(tokens)).chunk(2, dim=-1)
        weights = (query @ key.transpose(1, 2) / 2).softmax(-1)
        return (tokens + self.out(weights @ tokens)).transpose(1, 2).reshape(x.shape)


class OwnKernel(nn.Conv2d):
    """Weight standardisation: the kernel is computed."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        kernel = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        kernel = kernel / (kernel.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(input, kernel, self.bias, 1, 1)


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(SIDE, SIDE, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.flatten(1, 2))[0].view(x.shape)


class Volume(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.unsqueeze(1)).squeeze(1)


def shuffled(x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def grid(x: torch.Tensor) -> torch.Tensor:
    rows = torch.linspace(-1, 1, SIDE).view(1, 1, SIDE, 1).expand(x.shape[0], 1, SIDE, SIDE)
    return torch.cat([x, rows], 1)
