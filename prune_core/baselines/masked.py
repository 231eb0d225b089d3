"""Clean images in batches, as the published defences draw them."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from prune_core.errors import InputError
from prune_core.repair.crops import cropped
from prune_core.repair.losses import image_tensor, shuffled_batches
from prune_core.repair.nets import Given

BATCH = 128


class CleanBatches:
    """(pixels, labels) of the clean validation images, by lots that the seed draws. ``augmented``: cropped
    at random and mirrored, as the authors of ANP and RNP do. Batches hold at least two images, without
    which there are no batch statistics. Raises InputError where there is only one."""

    def __init__(self, given: Given, size: int = BATCH, augmented: bool = False) -> None:
        self.device, self.size, self.augmented = given.model.device, size, augmented
        self.pixels = image_tensor(given.valid.clean, self.device)
        self.labels = torch.tensor(given.valid.clean.labels, device=self.device)
        self.generator = torch.Generator().manual_seed(given.seed)
        if len(self.pixels) < 2:
            raise InputError(
                f"{given.valid.clean.name}: one image cannot be trained on; expected 2 or more, some hundred"
            )

    def drawn(self, count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """``count`` batches, each image drawn anew from all."""
        for _ in range(count):
            yield self._batch(torch.randint(0, len(self.pixels), (self.size,), generator=self.generator))

    def epoch(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every image once; but for one that would be left over alone."""
        for rows in shuffled_batches(len(self.pixels), self.size, self.generator, self.device):
            if len(rows) > 1:
                yield self._batch(rows)

    def take(self, count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """``count`` batches, epoch after epoch."""
        done = 0
        while True:
            for batch in self.epoch():
                if done == count:
                    return
                done += 1
                yield batch

    def _batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = rows.to(self.device)
        pixels = self.pixels[rows]
        return cropped(pixels, self.generator) if self.augmented else pixels, self.labels[rows]
