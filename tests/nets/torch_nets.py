"""A small residual network as a user would write it, and files of its weights."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

# What the user has in their working folder. The names are those of the nets in shared/data/zoo.
CODE = """
import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, given, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(given, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or given != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(given, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Net(nn.Module):
    def __init__(self, num_classes=43, widths=(16, 32, 64)):
        super().__init__()
        first, second, third = widths
        self.conv1 = nn.Conv2d(3, first, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.layers = nn.Sequential(
            Block(first, first, 1), Block(first, second, 2), Block(second, third, 2)
        )
        self.fc = nn.Linear(third, num_classes)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x / 255)))
        return self.fc(functional.adaptive_avg_pool2d(self.layers(x), 1).flatten(1))


def build(num_classes=43, widths=(16, 32, 64)):
    return Net(num_classes, tuple(widths))
"""
SMALL = {"num_classes": 5, "widths": [4, 6, 8]}


def in_working_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: str = CODE, name: str = "users_net"
) -> str:
    """Write ``code`` as a module of that name, work in its folder, and let nothing be left of it."""
    (folder / f"{name}.py").write_text(code)
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(folder))])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return name


def module_of(folder: Path, name: str = "users_net") -> ModuleType:
    """The module, imported apart from what goodnet imports."""
    spec = importlib.util.spec_from_file_location(f"{name}_again", folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shaken(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and statistics that tell images apart, in evaluation mode."""
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=numbers)
            elif tensor.is_floating_point():
                tensor.copy_(0.5 * torch.randn(tensor.shape, generator=numbers))
    return net.eval()


def images_of(count: int, side: int = 16, seed: int = 0) -> np.ndarray:
    """(count, 3, side, side) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
