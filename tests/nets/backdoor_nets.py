"""Networks of the backdoor literature, in the few lines that make their shape: BackdoorBench's
PreAct-ResNet-18, and the WRN-16-1 of "Anti-Backdoor Learning"."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class PreActBlock(nn.Module):
    """Batch norm and ReLU before each convolution; what they make is what the shortcut takes, too."""

    def __init__(self, given: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(given), nn.Conv2d(given, channels, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or given != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(given, channels, 1, stride, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given = functional.relu(self.bn1(x))
        aside = self.shortcut(given) if self.shortcut is not None else x
        return self.conv2(functional.relu(self.bn2(self.conv1(given)))) + aside


class PreActNet(nn.Module):
    """A stem, groups of blocks, and an average of ``last`` x ``last`` pixels before the last layer."""

    def __init__(
        self, stem: int, widths: tuple[int, ...], blocks: int, num_classes: int, normed: bool, last: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 3, 1, 1, bias=False)
        layers: list[nn.Module] = []
        given = stem
        for place, width in enumerate(widths):
            for number in range(blocks):
                layers.append(PreActBlock(given, width, 2 if place and not number else 1))
                given = width
        self.layers = nn.Sequential(*layers)
        self.bn = nn.BatchNorm2d(given) if normed else None
        self.linear, self.last = nn.Linear(given, num_classes), last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layers(self.conv1(x))
        if self.bn is not None:
            x = functional.relu(self.bn(x))
        x = functional.avg_pool2d(x, self.last)
        return self.linear(x.view(x.size(0), -1))


def preactresnet18(num_classes: int) -> nn.Module:
    """With a quarter of the field's channels."""
    return PreActNet(16, (16, 32, 64, 128), 2, num_classes, normed=False, last=4)


def wrn_16_1(num_classes: int) -> nn.Module:
    return PreActNet(16, (16, 32, 64), 2, num_classes, normed=True, last=8)
