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

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch

from prune_core.counts import Ask, Counts
from prune_core.data.images import LabeledImages, Split
from prune_core.errors import InputError
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel

# Twenty times the relative error seen in float32 logits of the networks at hand.
TIE = 2e-5
# Relative error of a *mean* margin: errors of single images cancel in it.
MARGIN_TIE = 2e-6
# Two logits this near each other in float64 are equal, say of two copies of one output unit.
EXACT_TIE = 1e-11


EVERYTHING = Ask()


class Evaluator(Protocol):
    """Counts what a split's images become under a mask. ``badnet`` is the empty mask's result."""

    split: Split

    @property
    def badnet(self) -> Counts: ...

    def counts(self, mask: ChannelMask, ask: Ask = EVERYTHING) -> Counts:
        """``Ask.told`` of the counts of the network with ``mask`` pruned."""
        ...

    def expect(self, mask: ChannelMask) -> None:
        """A hint: questions about masks near this one come next."""
        ...


def make_evaluator(
    model: PrunableModel, split: Split, kind: str = "incremental", memory_gb: float = 4.0
) -> Evaluator:
    """The evaluator of a kind, ``incremental`` or ``plain``; both count the same.

    Args:
        memory_gb: GiB that the process may take, images included (``incremental`` only).

    Raises:
        InputError: unknown kind, or model and images do not fit.
    """
    if kind == "plain":
        return PlainEvaluator(model, split)
    if kind == "incremental":
        from prune_core.incremental.evaluator import IncrementalEvaluator  # it builds on this module

        return IncrementalEvaluator(model, split, memory_gb)
    raise InputError(f"evaluator {kind!r} is unknown; there are incremental, plain")


@dataclass(frozen=True)
class Reply:
    """What a net says about one set of images.

    Attributes:
        classes: (N,) int64, the class of the largest logit.
        margins: (N,) float64, target logit minus best other logit (poisoned images only).
    """

    classes: np.ndarray
    margins: np.ndarray


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


class ExactNet:
    """The network in float64, for the few images on which float32 cannot decide."""

    def __init__(self, model: PrunableModel, batch: int = 128) -> None:
        self._model, self.batch = model, batch

    @cached_property
    def model(self) -> PrunableModel:
        """Made at the first doubt; on the CPU, where float64 is at home."""
        from dataclasses import replace

        graph = copy.deepcopy(self._model.graph).to("cpu").double()
        return replace(self._model, graph=graph)

    def reply(self, images: LabeledImages, mask: ChannelMask, target: int) -> Reply:
        classes, margins = [], []
        with self.model.pruned(mask) as model:
            for start in range(0, len(images), self.batch):
                stop = min(start + self.batch, len(images))
                logits = model.logits(torch.from_numpy(images.floats(start, stop)).double())
                tied = logits >= (logits.amax(dim=1) - EXACT_TIE * logits.abs().amax(dim=1))[:, None]
                classes.append(tied.to(torch.uint8).argmax(dim=1).numpy())
                margins.append(target_margins(logits, target))
        return Reply(np.concatenate(classes), np.concatenate(margins))


def decided(logits: torch.Tensor, tie: float) -> tuple[np.ndarray, np.ndarray]:
    """Per row: the class of the largest logit, and whether the runner-up is within ``tie`` of it,
    relative to the largest absolute logit of the row. (n, classes) -> (n,) int64, (n,) bool.

    A row with a NaN or an infinity is not near a tie: its class is what argmax says.
    """
    top = logits.topk(2, dim=1)
    gap = top.values[:, 0] - top.values[:, 1]
    unsure = gap <= tie * logits.abs().amax(dim=1)
    return top.indices[:, 0].cpu().numpy(), unsure.cpu().numpy()


def target_margins(logits: torch.Tensor, target: int) -> np.ndarray:
    """(n, classes) -> (n,) float64: logit of the target minus the best of the others."""
    others = logits.clone()
    others[:, target] = -torch.inf
    return (logits[:, target] - others.amax(dim=1)).double().cpu().numpy()


def margin_unit(badnet_margins: np.ndarray) -> float:
    """The unit in which mean margins are told: a power of two, about a thousandth of the BadNet's
    mean absolute margin. A fall of less is none."""
    scale = float(np.abs(badnet_margins).mean())
    if not np.isfinite(scale) or scale == 0.0:
        return 2.0**-10
    return float(2.0 ** (np.floor(np.log2(scale)) - 10))


def rounded_margin(mean: float, unit: float, tie: float, exactly: Callable[[], float]) -> float:
    """``mean`` in whole ``unit``s; ``exactly`` is asked when ``mean`` is so near the border between
    two units that its error (``tie``, relative to the BadNet's margin) could decide."""
    if not np.isfinite(mean):
        return mean
    position = mean / unit
    if abs(position - np.floor(position) - 0.5) <= tie * 2.0**11:
        position = exactly() / unit
    return float(np.floor(position + 0.5) * unit)


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
