"""What makes a family of networks: one block of each, between a first convolution and a last layer."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch
from backdoor_nets import PreActBlock
from families import CLASSES
from torch import nn

from prune_core.torch_nets.torchvision_import import torchvision_models

SIDE = 12
STEM = 8


def _file(place: str) -> Any:
    torchvision_models()
    return importlib.import_module(f"torchvision.models.{place}")


def _of(place: str, name: str, *args: Any, **kwargs: Any) -> Callable[[], nn.Module]:
    """A block by its place in torchvision.models."""

    def make() -> nn.Module:
        made: nn.Module = getattr(_file(place), name)(*args, **kwargs)
        return made

    return make


def _residual(place: str, config: str, block: str, *args: Any, last: tuple[Any, ...] = ()) -> Any:
    """A block that torchvision makes of a configuration."""

    def make() -> nn.Module:
        models = _file(place)
        made: nn.Module = getattr(models, block)(getattr(models, config)(*args), *last)
        return made

    return make


def _pair(first: nn.Module, *others: nn.Module) -> nn.Module:
    return nn.Sequential(first, *others)


def _convnext() -> nn.Module:
    block = _file("convnext").CNBlock(STEM, 1.0, 0.0)
    nn.init.normal_(block.layer_scale)
    return block


class Dense(nn.Module):
    """Two layers that take all before them, and a transition."""

    def __init__(self) -> None:
        super().__init__()
        dense = _file("densenet")
        self.block = dense._DenseBlock(2, STEM, 2, 4, 0.0)
        self.transition = dense._Transition(STEM + 8, STEM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.transition(self.block(x))


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "alexnet": lambda: _pair(nn.ReLU(True), nn.MaxPool2d(3, 2), nn.AdaptiveAvgPool2d(3), nn.Dropout()),
    "vgg": lambda: _pair(nn.Conv2d(STEM, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
    "resnet": lambda: _pair(
        _file("resnet").BasicBlock(STEM, STEM),
        _file("resnet").Bottleneck(STEM, 2, 2, nn.Sequential(nn.Conv2d(STEM, 8, 1, 2), nn.BatchNorm2d(8))),
    ),
    "resnext": _of("resnet", "Bottleneck", STEM, 2, groups=4, base_width=64),
    "wide resnet": _of("resnet", "Bottleneck", STEM, 2, base_width=256),
    "densenet": Dense,
    "googlenet": lambda: _pair(
        nn.MaxPool2d(3, 2, ceil_mode=True), _file("googlenet").Inception(STEM, 3, 2, 4, 2, 3, 2)
    ),
    "inception v3": lambda: _pair(
        nn.Conv2d(STEM, 6, (1, 7), padding=(0, 3)), _file("inception").InceptionA(6, 4)
    ),
    "mobilenet v2": _of("mobilenetv2", "InvertedResidual", STEM, STEM, 1, 3),
    "mobilenet v3": _residual(
        "mobilenetv3", "InvertedResidualConfig", "InvertedResidual", STEM, 3, 16, STEM, True, "HS", 1, 1, 1.0,
        last=(functools.partial(nn.BatchNorm2d, eps=0.001),),
    ),
    "mnasnet": _of("mnasnet", "_InvertedResidual", STEM, STEM, 5, 1, 3),
    "shufflenet v2": lambda: _pair(
        _file("shufflenetv2").InvertedResidual(STEM, STEM, 1),
        _file("shufflenetv2").InvertedResidual(STEM, 12, 2),
    ),
    "squeezenet": _of("squeezenet", "Fire", STEM, 4, 6, 6),
    "efficientnet": _residual(
        "efficientnet", "MBConvConfig", "MBConv", 2, 3, 1, STEM, STEM, 1, last=(0.2, nn.BatchNorm2d)
    ),
    "efficientnet v2": _residual(
        "efficientnet", "FusedMBConvConfig", "FusedMBConv", 2, 3, 2, STEM, 12, 1, last=(0.2, nn.BatchNorm2d)
    ),
    "regnet": _of("regnet", "ResBottleneckBlock", STEM, 16, 2, nn.BatchNorm2d, nn.ReLU, 8, 1.0, 0.25),
    "convnext": _convnext,
    "preact resnet": lambda: _pair(PreActBlock(STEM, STEM, 1), PreActBlock(STEM, 12, 2)),
}  # fmt: skip


class Around(nn.Module):
    """A block between a first convolution with its batch norm and a last layer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, STEM, 3, padding=1, bias=False)
        self.norm, self.block = nn.BatchNorm2d(STEM), BLOCKS[name]()
        with torch.no_grad():
            channels = self.block.eval()(torch.rand(2, STEM, SIDE, SIDE)).shape[1]
        self.last = nn.Linear(channels, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block(torch.relu(self.norm(self.first(x))))
        return self.last(x.mean((2, 3)))


def around(name: str) -> nn.Module:
    torch.manual_seed(1)
    return Around(name).eval()
