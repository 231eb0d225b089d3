"""The images of a split as one row of numbers, clean ones first, handed out in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from prune_core.data.images import Split
from prune_core.incremental.base_values import Rows
from prune_core.model.memory import free_memory
from prune_core.model.model import PrunableModel

FIRST_BLOCK = 128  # images at a time where every activation of the network is needed
BLOCK = 512  # images at a time where kept values are
MOST_TIMES = 16  # as many on a GPU: more than that fill none of today's
BLOCK_SHARE = 3  # a block's values take at most this part, one third, of a GPU's free memory


def times_a_block(free: int | None, image_bytes: int) -> int:
    """How many times as large blocks are as on a CPU; ``free``: bytes of a GPU's memory, None without one.

    A GPU is filled by many images at once; on a CPU, blocks beyond a cache gain nothing, nor do several
    candidates at once (four times the rows: within 5 % of the same CPU time).
    """
    if free is None:
        return 1
    return max(1, min(MOST_TIMES, free // (BLOCK_SHARE * BLOCK * max(1, image_bytes))))


class ImageBlocks:
    """Rows 0 to ``first_poisoned`` are clean images, the rest up to ``total`` poisoned ones."""

    def __init__(self, model: PrunableModel, split: Split, image_bytes: int) -> None:
        """``image_bytes``: of all values of the network for one image."""
        self.model, self.sets = model, (split.clean, split.poisoned)
        self.first_poisoned = len(split.clean)
        self.total = self.first_poisoned + len(split.poisoned)
        self.times = times_a_block(free_memory(model.device), image_bytes)

    def slices(self, block: int, start: int = 0, stop: int | None = None) -> Iterator[slice]:
        """Blocks of images, each all clean or all poisoned; ``block`` is their size on a CPU."""
        block *= self.times
        for low, high in ((0, self.first_poisoned), (self.first_poisoned, self.total)):
            low, high = max(low, start), min(high, self.total if stop is None else stop)
            for begin in range(low, high, block):
                yield slice(begin, min(begin + block, high))

    def pixels(self, rows: Rows) -> torch.Tensor:
        """(n, ...) float32 as the graph wants them, on the model's device."""
        if isinstance(rows, slice):
            poisoned = rows.start >= self.first_poisoned
            offset = self.first_poisoned if poisoned else 0
            floats = self.sets[poisoned].floats(rows.start - offset, rows.stop - offset)
        else:
            wanted = rows.cpu().numpy()
            clean = wanted[wanted < self.first_poisoned]
            rest = wanted[wanted >= self.first_poisoned] - self.first_poisoned
            parts = [
                images.keeping(part).floats(0, len(part))
                for images, part in zip(self.sets, (clean, rest), strict=True)
                if len(part)
            ]
            floats = np.concatenate(parts)
        return self.model.arranged(torch.from_numpy(floats).to(self.model.device))

    def chosen(self, todo: torch.Tensor, block: int, offset: int = 0) -> Iterator[Rows]:
        """Blocks that cover the images marked in ``todo`` (bool, on the CPU; the first is image
        ``offset``): whole blocks, which need no gathering, or only those where they are few."""
        if int(todo.sum()) > 0.6 * len(todo):
            for rows in self.slices(block, offset, offset + len(todo)):
                if todo[rows.start - offset : rows.stop - offset].any():
                    yield rows
            return
        for some in (todo.nonzero().flatten() + offset).split(block * self.times):
            if len(some):
                yield some.to(self.model.device)
