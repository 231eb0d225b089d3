"""What training after pruning works with: tensors of a split, batches, losses in logits."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from prune_core.data.images import LabeledImages
from prune_core.evaluation.numerics import target_margin
from prune_core.model.model import PrunableModel

Batch = torch.Tensor


def image_tensor(images: LabeledImages, device: torch.device) -> torch.Tensor:
    """(N, C, H, W) float32 as the network takes them."""
    return torch.from_numpy(images.floats(0, len(images))).to(device)


@torch.no_grad()
def logits_of(model: PrunableModel, pixels: torch.Tensor, batch: int = 256) -> torch.Tensor:
    """(N, C, H, W) -> (N, classes), no gradient kept."""
    return torch.cat([model.graph(model.arranged(part)) for part in pixels.split(batch)])


def target_tensor(images: LabeledImages, device: torch.device) -> torch.Tensor:
    """(N,) int64, what the attacker wants of each poisoned image."""
    return torch.tensor(images.labels, device=device)  # a copy: labels may be read-only


def shuffled_batches(
    count: int, size: int, generator: torch.Generator, device: torch.device
) -> Iterator[torch.Tensor]:
    """Row numbers 0 .. count - 1 in a new order, ``size`` at a time. The order is drawn on the CPU,
    so it is the same on every device."""
    yield from torch.randperm(count, generator=generator).to(device).split(size)


def distillation(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of the wanted (the BadNet's) class distribution from ours, mean
    over images, in nats. Needs no labels. Source: Hinton et al., arXiv 1503.02531, temperature 1."""
    return functional.kl_div(
        logits.log_softmax(1), wanted.log_softmax(1), log_target=True, reduction="batchmean"
    )


def agreement(logits: torch.Tensor, others: torch.Tensor) -> float:
    """How alike two nets' class distributions are, mean over images, in [0, 1]: 1 minus their total
    variation distance, the probability that both can be made to say the same."""
    return float(torch.minimum(logits.softmax(1), others.softmax(1)).sum(1).mean())


def attack_hinge(logits: torch.Tensor, target: int | torch.Tensor, clearance: float) -> torch.Tensor:
    """Mean softplus of how far poisoned images are from losing to another class by ``clearance``
    logits. ``target`` as of ``target_margin``. Says nothing of which class it should be: true labels are
    not needed."""
    return functional.softplus(target_margin(logits, target) + clearance).mean()
