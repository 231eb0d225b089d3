"""Ask a net what it says: predictions and target margins under a channel mask, counted on a split.

``PlainEvaluator`` runs the whole network on every image. Any other evaluator must return the same
counts; tests compare them with it.

What "the same" means is pinned down here, in one place: a class is the one that the network has in
float64 wherever float32 cannot tell (two logits within ``TIE`` of each other, relative to the
largest), and a mean margin is rounded to ``margin_unit``, again by float64 where float32 cannot
tell. Logits that are equal even in float64 (``EXACT_TIE``) go to the class of the lowest index.
So batch sizes, threads and devices do not change a count.
"""

from __future__ import annotations

import numpy as np
import torch

from prune_core.counts import Ask, Counts
from prune_core.data.images import LabeledImages, Split
from prune_core.errors import InputError
from prune_core.evaluation.evaluator import EVERYTHING
from prune_core.evaluation.numerics import (
    MARGIN_TIE,
    TIE,
    ExactNet,
    Reply,
    decided,
    margin_unit,
    rounded_margin,
    target_margins,
)
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel


class PlainEvaluator:
    """Whole forward passes in batches: slow, and right by its looks.

    ``badnet_classes`` (poisoned images,) is what the unpruned net says, ``margin_unit`` what mean
    margins are rounded to.
    """

    def __init__(self, model: PrunableModel, split: Split, batch: int = 128) -> None:
        """Raises InputError when images and network, or labels and classes, do not fit."""
        self.model, self.split, self.batch = model, split, batch
        classes = model.check_images(split.clean.shape, split.clean.name)
        for images in (split.clean, split.poisoned):
            check_labels(images, classes, model.name)
        self.exact = ExactNet(model)
        empty = ChannelMask()
        clean, poisoned = self.reply(split.clean, empty), self.reply(split.poisoned, empty)
        if not np.isfinite(poisoned.margins).all():
            raise InputError(f"{model.name}: its logits are not finite on {split.poisoned.name}")
        self.badnet_classes = poisoned.classes
        self.margin_unit = margin_unit(poisoned.margins)
        self.badnet = self._counted(clean, poisoned, empty, margin=True)
        self._last: tuple[ChannelMask, bool, Counts] | None = None

    def counts(self, mask: ChannelMask, ask: Ask = EVERYTHING) -> Counts:
        """The counts of the network with ``mask`` pruned, or as much of them as ``ask`` is told."""
        if self._last is not None and self._last[:2] == (mask, ask.margin):
            return ask.told(self._last[2])
        clean = self.reply(self.split.clean, mask)
        counts = self._counted(clean, self.reply(self.split.poisoned, mask), mask, ask.margin)
        self._last = (mask, ask.margin, counts)
        return ask.told(counts)

    def expect(self, mask: ChannelMask) -> None:
        """Nothing to prepare."""

    def reply(self, images: LabeledImages, mask: ChannelMask) -> Reply:
        """Class and target margin of every image, with ``mask`` pruned."""
        target = self.split.target
        classes = np.empty(len(images), np.int64)
        margins = np.empty(len(images), np.float64)
        unsure = np.empty(len(images), bool)
        with self.model.pruned(mask) as model:
            for start in range(0, len(images), self.batch):
                rows = slice(start, min(start + self.batch, len(images)))
                pixels = torch.from_numpy(images.floats(rows.start, rows.stop)).to(model.device)
                logits = model.logits(pixels)
                classes[rows], unsure[rows] = decided(logits, TIE)
                margins[rows] = target_margins(logits, target)
        if unsure.any():
            classes[unsure] = self.exact.reply(images.keeping(unsure), mask, target).classes
        return Reply(classes, margins)

    def _counted(self, clean: Reply, poisoned: Reply, mask: ChannelMask, margin: bool) -> Counts:
        def exactly() -> float:
            images = self.split.poisoned
            return float(self.exact.reply(images, mask, self.split.target).margins.mean())

        mean = float(poisoned.margins.mean())
        rounded = rounded_margin(mean, self.margin_unit, MARGIN_TIE, exactly) if margin else None
        return count(self.split, clean.classes, poisoned.classes, self.badnet_classes, rounded)


def count(
    split: Split,
    clean: np.ndarray,
    poisoned: np.ndarray,
    badnet: np.ndarray,
    margin: float | None,
) -> Counts:
    """From predicted classes ((N,) each; ``badnet``: the BadNet's on the poisoned images)."""
    attacked = poisoned == split.target
    truth = split.poisoned.true_labels
    return Counts(
        clean_correct=int((clean == split.clean.labels).sum()),
        clean_total=len(split.clean),
        attacked=int(attacked.sum()),
        attacked_agreeing=int((attacked & (badnet == poisoned)).sum()),
        poisoned_total=len(split.poisoned),
        margin=margin,
        recovered=None if truth is None else int((poisoned == truth).sum()),
    )


def check_labels(images: LabeledImages, classes: int, model: str) -> None:
    """Raises InputError when a label is not one of the network's classes."""
    highest = int(images.labels.max())
    if highest >= classes:
        raise InputError(
            f"{images.name}: field 'label' holds {highest}, but {model} has {classes} classes "
            f"(0 to {classes - 1})"
        )
