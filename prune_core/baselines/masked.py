"""Training of factors on channels against a loss on clean images' labels: what ANP and RNP share."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from prune_core.repair.losses import image_tensor, shuffled_batches
from prune_core.repair.nets import Given

BATCH = 128
# Where both papers cut their masks.
THRESHOLDS = tuple(x / 100 for x in range(0, 100, 5))


class CleanBatches:
    """Endless (pixels, labels) of the clean validation images, in an order drawn by the seed."""

    def __init__(self, given: Given) -> None:
        self.device = given.model.device
        self.pixels = image_tensor(given.valid.clean, self.device)
        self.labels = torch.tensor(given.valid.clean.labels, device=self.device)
        self.generator = torch.Generator().manual_seed(given.seed)

    def take(self, count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        done = 0
        while True:
            for rows in shuffled_batches(len(self.pixels), BATCH, self.generator, self.device):
                if done == count:
                    return
                done += 1
                yield self.pixels[rows], self.labels[rows]
