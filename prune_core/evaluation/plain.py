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

from collections.abc import Sequence

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
    target_margins,
)
from prune_core.evaluation.tally import counted, margin_units, mean_margins
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel


class PlainEvaluator:
    """Whole forward passes in batches: slow, and right by its looks.

    ``badnet_classes`` (poisoned images,) is what the unpruned net says, ``margin_units`` what mean
    margins are rounded to, a unit for each trigger.
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
        self.margin_units = margin_units(split, poisoned.margins)
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
        """Class of every image and margin of its label, with ``mask`` pruned."""
        classes = np.empty(len(images), np.int64)
        margins = np.empty(len(images), np.float64)
        unsure = np.empty(len(images), bool)
        with self.model.pruned(mask) as model:
            for start in range(0, len(images), self.batch):
                rows = slice(start, min(start + self.batch, len(images)))
                pixels = torch.from_numpy(images.floats(rows.start, rows.stop)).to(model.device)
                logits = model.logits(pixels)
                classes[rows], unsure[rows] = decided(logits, TIE)
                margins[rows] = target_margins(logits, images.labels[rows])
        if unsure.any():
            classes[unsure] = self.exact.reply(images.keeping(unsure), mask).classes
        return Reply(classes, margins)

    def _counted(self, clean: Reply, poisoned: Reply, mask: ChannelMask, margin: bool) -> Counts:
        means = None
        if margin:
            means = mean_margins(
                self.split,
                poisoned.margins,
                self.margin_units,
                lambda images: MARGIN_TIE,
                lambda rows: self.exact.reply(self.split.poisoned.keeping(rows), mask).margins,
            )
        return count(self.split, clean.classes, poisoned.classes, self.badnet_classes, means)


def count(
    split: Split,
    clean: np.ndarray,
    poisoned: np.ndarray,
    badnet: np.ndarray,
    margins: Sequence[float] | None,
) -> Counts:
    """From predicted classes ((N,) each; ``badnet``: the BadNet's on the poisoned images) and the mean
    margin of each trigger."""
    attacked = poisoned == split.targets
    truth = split.poisoned.true_labels
    return counted(
        split,
        int((clean == split.clean.labels).sum()),
        attacked,
        attacked & (badnet == poisoned),
        None if truth is None else poisoned == truth,
        margins,
    )


def check_labels(images: LabeledImages, classes: int, model: str) -> None:
    """Raises InputError when a label is not one of the network's classes."""
    highest = int(images.labels.max())
    if highest >= classes:
        raise InputError(
            f"{images.name}: field 'label' holds {highest}, but {model} has {classes} classes "
            f"(0 to {classes - 1})"
        )
