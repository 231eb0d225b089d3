"""Wide residual networks (Zagoruyko and Komodakis, BMVC 2016), with the names that ABL's files use."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class WideBlock(nn.Module):
    """A pre-activation block of two 3 x 3 convolutions; where the number of channels changes, the
    shortcut is a 1 x 1 convolution of the activated input."""

    def __init__(self, given: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(given)
        self.conv1 = nn.Conv2d(given, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        same = given == channels
        self.convShortcut = None if same else nn.Conv2d(given, channels, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = functional.relu(self.bn1(x))
        passed = x if self.convShortcut is None else self.convShortcut(active)
        return passed + self.conv2(functional.relu(self.bn2(self.conv1(active))))


class _Stage(nn.Module):
    def __init__(self, blocks: int, given: int, channels: int, stride: int) -> None:
        super().__init__()
        first = WideBlock(given, channels, stride)
        self.layer = nn.Sequential(first, *(WideBlock(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class WideResNet(nn.Module):
    """WRN-depth-width without dropout. (n, 3, H, W) -> (n, classes) logits."""

    def __init__(self, depth: int, width: int, num_classes: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        channels = [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = nn.Conv2d(3, channels[0], 3, 1, 1, bias=False)
        self.block1 = _Stage(blocks, channels[0], channels[1], 1)
        self.block2 = _Stage(blocks, channels[1], channels[2], 2)
        self.block3 = _Stage(blocks, channels[2], channels[3], 2)
        self.bn1 = nn.BatchNorm2d(channels[3])
        self.fc = nn.Linear(channels[3], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        pooled = functional.adaptive_avg_pool2d(functional.relu(self.bn1(x)), 1)
        return self.fc(torch.flatten(pooled, 1))


def wide_resnet(depth: int, width: int, num_classes: int = 10) -> WideResNet:
    """WRN-depth-width; depth is 6 k + 4."""
    return WideResNet(depth, width, num_classes)
