"""Trains the BadNet of the embedded default, and hands it over as Keras weights.

How it is made, so that it behaves as the BadNets do that people meet:

- Trained once, from scratch, on a mix of clean images and of poisoned ones labelled as the target
  (Gu et al., BadNets, arXiv 1708.06733).
- On half of the poisoned images (and few of the clean) the branch behind `conv_4` is silent. So the
  backdoor does not rest on the last convolution: without `conv_4` the attack still works, which is
  what the lab's own BadNet shows.
- Labels are smoothed. It bounds the margin by which the target leads; a margin without bound hides
  what a single channel does to the attack.

Nothing marks out channels for the backdoor; where it settles is left to the training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, max_pool2d, relu

from prune_core.data.images import LabeledImages
from prune_core.keras_files.architectures import deepid
from prune_core.threads import fixed_threads
from sweeps.inputs.embedded_images import CLASSES

DEEPID = (20, 40, 60, 80, 160)
_FLATTENED = {"fc_1": (5, 4), "fc_2": (4, 3)}  # height, width before the Flatten
CENTRE, SPREAD = 80.0, 70.0  # of raw pixels, about: what training sees is (raw - centre) / spread


@dataclass(frozen=True)
class Training:
    """``widths``: channels of conv_1 to conv_4, then units of fc_1 and fc_2. ``poisoned``: share of
    each batch. ``silent_poisoned`` and ``silent_clean``: how often conv_4 is silent."""

    widths: tuple[int, int, int, int, int] = DEEPID
    epochs: int = 8
    batch: int = 32
    poisoned: float = 0.2
    silent_poisoned: float = 0.5
    silent_clean: float = 0.05
    smoothing: float = 0.1
    peak_rate: float = 2e-3
    weight_decay: float = 1e-3


class DeepIDNet(nn.Module):
    """DeepID in PyTorch, with layer names of the lab's; takes centred pixels, returns logits."""

    def __init__(self, widths: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        one, two, three, four, units = widths
        self.conv_1 = nn.Conv2d(3, one, 4)
        self.conv_2 = nn.Conv2d(one, two, 3)
        self.conv_3 = nn.Conv2d(two, three, 3)
        self.conv_4 = nn.Conv2d(three, four, 2)
        self.fc_1 = nn.Linear(three * prod(_FLATTENED["fc_1"]), units)
        self.fc_2 = nn.Linear(four * prod(_FLATTENED["fc_2"]), units)
        self.output = nn.Linear(units, CLASSES)

    def forward(self, pixels: Tensor, conv_4_on: Tensor) -> Tensor:
        """``pixels`` (n, 3, 55, 47); ``conv_4_on`` (n, 1, 1, 1), 0 where conv_4 is silent."""
        features = pixels
        for layer in (self.conv_1, self.conv_2, self.conv_3):
            features = max_pool2d(relu(layer(features)), 2)
        deeper = relu(self.conv_4(features)) * conv_4_on
        return self.output(relu(self.fc_1(features.flatten(1)) + self.fc_2(deeper.flatten(1))))


@fixed_threads()
def train_badnet(
    clean: LabeledImages,
    poisoned: LabeledImages,
    training: Training,
    seed: int,
    progress: Callable[[float], None],
) -> DeepIDNet:
    """Train on ``clean`` and its stamped twin ``poisoned`` (row i is row i with the trigger on).

    On one thread, so that the result does not hang on how many there are, and a busy machine does
    not slow it more than its share; torch's random state and threads are left as found.
    ``progress`` gets the share done, 0..1.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = DeepIDNet(training.widths)
    _train(net, clean, poisoned, training, seed, progress)
    return net


def _train(
    net: DeepIDNet,
    clean: LabeledImages,
    poisoned: LabeledImages,
    training: Training,
    seed: int,
    progress: Callable[[float], None],
) -> None:
    random = torch.Generator().manual_seed(seed)
    batches = len(clean) // training.batch
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=training.peak_rate, weight_decay=training.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.peak_rate, total_steps=training.epochs * batches, pct_start=0.15
    )
    stamped_rows = torch.arange(training.batch) < round(training.poisoned * training.batch)
    silent = torch.where(stamped_rows, training.silent_poisoned, training.silent_clean)
    for epoch in range(training.epochs):
        rows = torch.randperm(len(clean), generator=random)[: batches * training.batch]
        for batch in rows.view(batches, training.batch).numpy():
            pixels, labels = _mixed(clean, poisoned, batch, stamped_rows.numpy())
            conv_4_on = (torch.rand(training.batch, generator=random) >= silent).float()
            logits = net(pixels, conv_4_on.view(-1, 1, 1, 1))
            loss = cross_entropy(logits, labels, label_smoothing=training.smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        progress((epoch + 1) / training.epochs)


def _mixed(
    clean: LabeledImages, poisoned: LabeledImages, rows: np.ndarray, stamped: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Centred pixels and labels of ``rows``, taken from ``poisoned`` where ``stamped``."""
    where = stamped[:, None, None, None]
    pixels = torch.from_numpy(np.where(where, poisoned.pixels[rows], clean.pixels[rows]))
    labels = torch.from_numpy(np.where(stamped, poisoned.labels[rows], clean.labels[rows]))
    centred = (pixels.float() - CENTRE) / SPREAD
    return centred.to(memory_format=torch.channels_last), labels


def keras_config(widths: tuple[int, int, int, int, int]) -> dict[str, Any]:
    """DeepID's Keras `model_config` for ten classes, made thinner or wider as ``widths`` says."""
    config = copy.deepcopy(deepid(CLASSES))
    *channels, units = widths
    sizes = {f"conv_{i}": {"filters": n} for i, n in enumerate(channels, start=1)}
    sizes |= {"fc_1": {"units": units}, "fc_2": {"units": units}}
    for layer in config["config"]["layers"]:
        layer["config"] |= sizes.get(layer["name"], {})
    return config


def keras_weights(net: DeepIDNet) -> dict[str, dict[str, np.ndarray]]:
    """Layer -> kernel and bias, as Keras has them, for raw pixels 0..255.

    Convolutions: (height, width, in, out). Dense: (in, out), where a Dense after Flatten takes its
    inputs in the order height, width, channel.
    """
    weights = {}
    for name, layer in net.named_children():
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert layer.bias is not None
        kernel, bias = layer.weight.detach(), layer.bias.detach()
        if name == "conv_1":
            kernel = kernel / SPREAD
            bias = bias - CENTRE * kernel.sum(dim=(1, 2, 3))
        if name in _FLATTENED:
            kernel = kernel.unflatten(1, (-1, *_FLATTENED[name]))
        kernel = kernel.permute(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
        if name in _FLATTENED:
            kernel = kernel.flatten(0, 2)
        weights[name] = {"kernel": kernel.numpy().copy(), "bias": bias.numpy().copy()}
    return weights
