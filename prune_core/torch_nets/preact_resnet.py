"""Pre-activation residual networks for small images (He et al., "Identity mappings in deep residual
networks", ECCV 2016), with the names that BackdoorBench's and WaNet's files use."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class PreActBlock(nn.Module):
    """Batch norm and ReLU before each of two 3 x 3 convolutions; where the shape changes, the shortcut
    is a 1 x 1 convolution of the activated input."""

    def __init__(self, given: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(given)
        self.conv1 = nn.Conv2d(given, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        if stride != 1 or given != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(given, channels, 1, stride, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = functional.relu(self.bn1(x))
        passed = self.shortcut(active) if hasattr(self, "shortcut") else x
        inner = self.conv1(active)
        return passed + self.conv2(functional.relu(self.bn2(inner)))


class PreActResNet(nn.Module):
    """A 3 x 3 stem, four stages of 64 to 512 channels, the mean of each channel, a linear layer.
    (n, 3, H, W) -> (n, classes) logits; as in those files, no batch norm stands behind the last block."""

    def __init__(self, blocks: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        given = 64
        for stage, count in enumerate(blocks):
            channels, layers = 64 * 2**stage, []
            for position in range(count):
                stride = 2 if stage and not position else 1
                layers.append(PreActBlock(given, channels, stride))
                given = channels
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.linear = nn.Linear(given, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        for stage in range(4):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        pooled = functional.adaptive_avg_pool2d(x, 1)
        return self.linear(torch.flatten(pooled, 1))


def preactresnet18(num_classes: int = 10) -> PreActResNet:
    """PreAct-ResNet-18."""
    return PreActResNet((2, 2, 2, 2), num_classes)


def preactresnet34(num_classes: int = 10) -> PreActResNet:
    """PreAct-ResNet-34."""
    return PreActResNet((3, 4, 6, 3), num_classes)
