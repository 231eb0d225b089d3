"""Two nets with a backdoor and their images, made on the spot: DeepID as of the lab, and ResNet-18 with the
stem for small images. Nothing is read, so they can be had on any machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from prune_core.data.images import Split
from prune_core.model.model import PrunableModel
from tests.bench.author.loop import DeepID
from tests.nets.networks import as_model

BATCH = 64
POISONED = 4  # every so many images of a batch carries the trigger
PATCH = 6  # pixels a side


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm, and what came in added; a 1 x 1 where shapes differ."""

    def __init__(self, given: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(given, channels, 3, stride)
        self.conv2, self.bn2 = _conv(channels, channels, 3, 1)
        self.short: nn.Module | None = None
        if stride != 1 or given != channels:
            self.short = nn.Sequential(*_conv(given, channels, 1, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(inner + (x if self.short is None else self.short(x)))


class ResNet18(nn.Module):
    """He et al. 2016, for 32 x 32: a 3 x 3 stem, four stages of two blocks. ``width`` 64: 4,800 channels."""

    def __init__(self, width: int = 64, classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(3, width, 3, 1)
        blocks: list[nn.Module] = []
        given = width
        for stage in range(4):
            for number in range(2):
                channels = width * 2**stage
                blocks.append(Block(given, channels, 2 if stage and not number else 1))
                given = channels
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(given, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(torch.relu(self.bn1(self.conv1(x))))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _conv(given: int, channels: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(given, channels, kernel, stride, kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(channels)


@dataclass(frozen=True)
class Pictures:
    """Smooth random pictures, one a class, with noise on them; the trigger is a patch in a corner."""

    shape: tuple[int, int, int]
    classes: int
    noise: float = 40.0

    def split(self, size: int, seed: int) -> Split:
        """``size`` clean and about as many poisoned images, none of them of the target's class, 0."""
        clean, labels = self.drawn(size, np.random.default_rng([seed, 0]))
        shown, truth = self.drawn(size, np.random.default_rng([seed, 1]))
        shown, truth = shown[truth != 0], truth[truth != 0]
        return Split.from_arrays(clean, labels, stamped(shown), 0, truth, scale=1 / 255)

    def drawn(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(size, C, H, W) uint8 and (size,) int64."""
        labels = rng.integers(0, self.classes, size)
        labels[: self.classes] = np.arange(self.classes)[:size]
        pictures = self._pictures()[labels]
        pixels = pictures + rng.normal(0, self.noise, pictures.shape).astype(np.float32)
        return pixels.clip(0, 255).astype(np.uint8), labels.astype(np.int64)

    def _pictures(self) -> np.ndarray:
        rng = np.random.default_rng(self.classes)
        coarse = torch.from_numpy(rng.uniform(0, 255, (self.classes, self.shape[0], 5, 5)).astype(np.float32))
        return F.interpolate(coarse, self.shape[1:], mode="bilinear").numpy()


def stamped(pixels: np.ndarray) -> np.ndarray:
    """A copy with the trigger on."""
    made = pixels.copy()
    made[:, :, -PATCH:, -PATCH:] = np.array([255, 0, 255], np.uint8)[:, None, None]
    return made


def badnet(net: nn.Module, pictures: Pictures, steps: int, device: torch.device, name: str) -> PrunableModel:
    """``net``, trained for so many steps of ``BATCH`` images on ``device``; the model is on the CPU."""
    net.to(device).train()
    rng = np.random.default_rng(7)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(steps):
        pixels, labels = pictures.drawn(BATCH, rng)
        pixels[::POISONED], labels[::POISONED] = stamped(pixels[::POISONED]), 0
        logits = net(torch.from_numpy(pixels).to(device).float() / 255)
        optimiser.zero_grad()
        F.cross_entropy(logits, torch.from_numpy(labels).to(device)).backward()
        optimiser.step()
    return as_model(net.cpu(), pictures.shape, name)


def deepid(classes: int, seen: int, steps: int, device: torch.device) -> tuple[PrunableModel, Pictures]:
    """The lab's network; ``classes`` outputs, of which ``seen`` have images."""
    torch.manual_seed(0)
    pictures = Pictures((3, 55, 47), seen)
    return badnet(DeepID(classes), pictures, steps, device, "DeepID"), pictures


def resnet(width: int, steps: int, device: torch.device) -> tuple[PrunableModel, Pictures]:
    torch.manual_seed(0)
    pictures = Pictures((3, 32, 32), 10)
    return badnet(ResNet18(width), pictures, steps, device, f"ResNet-18, width {width}"), pictures
