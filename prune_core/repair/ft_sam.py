"""FT-SAM: fine-tuning by sharpness-aware minimisation. Zhu et al., ICCV 2023, arXiv 2304.11823."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from prune_core.files.constants import Weights
from prune_core.masks import ChannelMask
from prune_core.repair.nets import Given, MadeNet
from prune_core.repair.published import CleanBatches, check_trained, pixel_squares, zero
from prune_core.repair.training_copy import TrainingCopy, foldable, places_of
from prune_core.threads import steps_on_fixed_threads

TINY = 1e-12


@dataclass(frozen=True)
class FtSamSettings:
    """The authors', for CIFAR-10; for GTSRB they take a radius of 8. A state every ``every`` epochs."""

    radius: float = 2.0
    rate: float = 0.01
    momentum: float = 0.9
    decay: float = 5e-4
    epochs: int = 50
    batch: int = 256
    augmented: bool = True
    every: int = 10


PUBLISHED = FtSamSettings()


@steps_on_fixed_threads
def ft_sam(
    given: Given,
    mask: ChannelMask,
    weights: Weights,
    tell: Callable[[int, int, str], None] = lambda done, total, what: None,
    settings: FtSamSettings = PUBLISHED,
) -> Iterator[MadeNet]:
    """Train all weights against cross-entropy of clean images' labels at the worst point near them:
    w + e, e = radius w^2 g / |w g|, g the gradient at w. The ball is wider for large weights, and those of
    the neurons that serve a backdoor are large; plain fine-tuning leaves them as they are.

    In training mode, batch norm's statistics following the clean images; so batch norm that was folded is
    put back and folded again. A batch norm whose constants another one shares stays as it is. Pruned channels
    stay zero. Unlike our own repairs it trains the last
    layer, as published: where few clean images are of the target class, that alone may silence it. The
    published radius can ruin a small network. Raises InputError where weights are no longer finite.
    """
    start = given.model.with_weights(weights)
    batches = CleanBatches(given, settings.batch, settings.augmented)
    places = [place for place in places_of(start, start.by_name) if foldable(start, place)]
    copy = TrainingCopy(start, places, batches.pixels, others=False)
    held = list(copy.tensors_of(mask))
    zero(held)
    parameters = copy.trainable(written=True)
    squares = pixel_squares(copy.student.graph, copy.logits, batches.pixels[:256])
    groups = [{"params": [p], "lr": settings.rate / squares.get(id(p), 1.0)} for p in parameters]
    optimizer = torch.optim.SGD(groups, momentum=settings.momentum, weight_decay=settings.decay)
    rates = [group["lr"] for group in optimizer.param_groups]
    per_epoch = int(np.ceil(len(batches.pixels) / settings.batch))
    total, done = settings.epochs * per_epoch, 0
    for epoch in range(1, settings.epochs + 1):
        for pixels, labels in batches.epoch():
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * 0.5 * (1 + np.cos(np.pi * done / total))
            _step(copy, optimizer, parameters, pixels, labels, settings.radius)
            zero(held)
            done += 1
        tell(epoch, settings.epochs, "FT-SAM")
        note = f"FT-SAM, epoch {epoch} of {settings.epochs}"
        check_trained(parameters, note)
        if epoch % settings.every == 0 or epoch == settings.epochs:
            yield MadeNet(mask, {**weights, **copy.weights()}, note)


def _step(
    copy: TrainingCopy,
    optimizer: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    pixels: torch.Tensor,
    labels: torch.Tensor,
    radius: float,
) -> None:
    """Up to the worst point of the ball, back with the gradient there; running statistics follow the first
    pass alone."""
    copy.on_batch_statistics(True, track=True)
    gradients = torch.autograd.grad(_loss(copy, pixels, labels), parameters)
    copy.on_batch_statistics(True)
    with torch.no_grad():
        length = torch.stack([(p * g).norm() for p, g in zip(parameters, gradients, strict=True)]).norm()
        climbed = [
            p.square() * g * (radius / (length + TINY)) for p, g in zip(parameters, gradients, strict=True)
        ]
        for parameter, step in zip(parameters, climbed, strict=True):
            parameter.add_(step)
    optimizer.zero_grad()
    _loss(copy, pixels, labels).backward()
    with torch.no_grad():
        for parameter, step in zip(parameters, climbed, strict=True):
            parameter.sub_(step)
    optimizer.step()


def _loss(copy: TrainingCopy, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(copy.logits(pixels), labels)
