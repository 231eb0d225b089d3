"""The seed author's procedure as it is written, in torch: for each candidate a fresh copy of the
BadNet with the candidate zeroed, and three whole predictions in batches of 32, Keras's default:
the copy on clean images, the copy and the BadNet on poisoned ones."""

from __future__ import annotations

import copy
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from prune_core.data.images import LabeledImages, Split
from prune_core.masks import Channel
from prune_core.model.model import PrunableModel


class DeepID(nn.Module):
    """Logits from raw (n, 3, 55, 47) pixels."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv_1, self.conv_2 = nn.Conv2d(3, 20, 4), nn.Conv2d(20, 40, 3)
        self.conv_3, self.conv_4 = nn.Conv2d(40, 60, 3), nn.Conv2d(60, 80, 2)
        self.fc_1, self.fc_2 = nn.Linear(1200, 160), nn.Linear(960, 160)
        self.output = nn.Linear(160, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(torch.relu(self.conv_1(x)), 2)
        x = F.max_pool2d(torch.relu(self.conv_2(x)), 2)
        x = F.max_pool2d(torch.relu(self.conv_3(x)), 2)
        deep = torch.relu(self.conv_4(x)).flatten(1)
        return self.output(torch.relu(self.fc_1(x.flatten(1)) + self.fc_2(deep)))


def as_deepid(model: PrunableModel) -> DeepID:
    """The lab's network with its weights, as an author would write it."""
    kinds = (nn.Conv2d, nn.Linear)
    layers = [module for module in model.graph.modules() if isinstance(module, kinds)]
    net = DeepID(layers[-1].out_features)  # type: ignore[arg-type]
    with torch.no_grad():
        for mine, theirs in zip(net.children(), layers, strict=True):
            mine.weight.copy_(theirs.weight)  # type: ignore[union-attr, operator, arg-type]
            mine.bias.copy_(theirs.bias)  # type: ignore[union-attr, operator, arg-type]
    return net.eval()


@torch.inference_mode()
def predict(net: nn.Module, images: LabeledImages) -> np.ndarray:
    """(N,) classes."""
    parts = []
    for start in range(0, len(images), 32):
        pixels = torch.from_numpy(images.floats(start, min(start + 32, len(images))))
        parts.append(torch.softmax(net(pixels), dim=1).argmax(dim=1).numpy())
    return np.concatenate(parts)


def seconds_of(badnet: DeepID, split: Split, candidate: Channel) -> float:
    """What trying one candidate takes."""
    started = time.perf_counter()
    trial = copy.deepcopy(badnet)
    with torch.no_grad():
        getattr(trial, candidate.layer).weight[candidate.index] = 0
    (predict(trial, split.clean) == split.clean.labels).mean()
    said, before = predict(trial, split.poisoned), predict(badnet, split.poisoned)
    ((said == split.target) & (said == before)).mean()
    return time.perf_counter() - started
