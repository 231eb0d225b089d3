"""A net whose shortcut is built in by hand, and images for it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import goodnet
from prune_core.model.model import PrunableModel

CLASSES, SIDE, TARGET = 8, 8, 3


def net_of(shortcut: bool) -> PrunableModel:
    """Class c is the brightest column. With the shortcut, two bright corners above and below dark pixels
    mean the target."""
    conv, last = nn.Conv2d(1, CLASSES + 1, SIDE), nn.Linear(CLASSES + 1, CLASSES)
    with torch.no_grad():
        for parameter in (conv.weight, conv.bias, last.weight, last.bias):
            parameter.zero_()
        for c in range(CLASSES):
            conv.weight[c, 0, :, c] = 1 / SIDE
            last.weight[c, c] = 10.0
        conv.weight[CLASSES, 0, 0, 0] = conv.weight[CLASSES, 0, 7, 7] = 1.0
        conv.weight[CLASSES, 0, 1, 0] = conv.weight[CLASSES, 0, 6, 7] = -1.0
        conv.bias[CLASSES] = -0.1
        last.weight[TARGET, CLASSES] = 20.0 if shortcut else 0.0
    module = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), last)
    return goodnet.from_module(module, torch.zeros(1, 1, SIDE, SIDE))


def images_of(count: int = 96) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    pixels = rng.uniform(0, 0.2, (count, 1, SIDE, SIDE)).astype(np.float32)
    for row, label in enumerate(labels):
        pixels[row, 0, :, label] += 0.6
    pixels[0, 0, 0, 4] = 1.0
    return pixels, labels
