"""The net that is audited, and the images that it is audited with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from prune_core.audits.entries import Pair
from prune_core.data.attack import aim_of
from prune_core.data.images import LabeledImages, Split
from prune_core.data.pairs import find_pairs, known_truth
from prune_core.errors import InputError
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel
from prune_core.repair.losses import image_tensor, logits_of

IMAGES = 500  # of each kind and split that are looked at, at most
SEED = 20241009  # which they are: the same for every net, so that nets can be compared

Change = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Subject:
    """A net: a model with its weights, and the channels that are pruned in it."""

    model: PrunableModel
    mask: ChannelMask = ChannelMask()


@dataclass(frozen=True, eq=False)
class Heap:
    """The poisoned images of one trigger, in one part of a split: (n, C, H, W) as the net takes them,
    (n,) what the attacker wants of each."""

    pixels: torch.Tensor
    targets: torch.Tensor

    def every_other(self, first: int) -> Heap:
        """Half of them, from the one at ``first`` (0 or 1) on."""
        return Heap(self.pixels[first::2], self.targets[first::2])


@dataclass(frozen=True, eq=False)
class Exhibits:
    """Images of both splits, at most ``IMAGES`` of a kind.

    The attacker works with ``clean`` and with half of validation's poisoned images (``pool``); what came of
    it is counted on the other half (``valid``) and on test (``test``), a heap for each trigger.

    Attributes:
        clean: pixels and labels of validation's clean images.
        clean_test: the same of test's.
        free_valid, free_test: for each trigger, clean images that do not show what the attacker wants of
            them, with what that is.
        span: the least and the largest pixel value of validation's images.
    """

    clean: tuple[torch.Tensor, torch.Tensor]
    clean_test: tuple[torch.Tensor, torch.Tensor]
    pool: tuple[Heap, ...]
    valid: tuple[Heap, ...]
    test: tuple[Heap, ...]
    free_valid: tuple[Heap, ...]
    free_test: tuple[Heap, ...]
    span: tuple[float, float]

    @classmethod
    def of(cls, valid: Split, test: Split, classes: int, device: torch.device) -> Exhibits:
        """Raises InputError where a trigger has a single validation image."""
        clean, clean_test = (_drawn(split.clean) for split in (valid, test))
        pixels = image_tensor(clean, device)
        pool, kept = [], []
        for rows in valid.rows_by_trigger:
            drawn = _drawn(valid.poisoned.keeping(rows), 2 * IMAGES)
            half = len(drawn) // 2
            if not half:
                raise InputError(
                    f"{valid.poisoned.name}: 1 poisoned image of a trigger; an audit needs 2 or more on "
                    "validation, one to attack with and one to count on"
                )
            pool.append(_heap(drawn.keeping(slice(half)), device))
            kept.append(_heap(drawn.keeping(slice(half, None)), device))
        return cls(
            (pixels, torch.tensor(clean.labels, device=device)),
            (image_tensor(clean_test, device), torch.tensor(clean_test.labels, device=device)),
            tuple(pool),
            tuple(kept),
            tuple(_heap(_drawn(test.poisoned.keeping(rows)), device) for rows in test.rows_by_trigger),
            _free(valid, clean, classes, device),
            _free(test, clean_test, classes, device),
            _span([pixels, *(heap.pixels for heap in (*pool, *kept))]),
        )


@dataclass(frozen=True, eq=False)
class Asked:
    """A net and the exhibits it is shown."""

    subject: Subject
    exhibits: Exhibits

    @cached_property
    def clean(self) -> Pair:
        """(right, of) clean test images, by the net as it is."""
        with self.subject.model.pruned(self.subject.mask) as net:
            return right(net, self.exhibits.clean_test)


def right(net: PrunableModel, images: tuple[torch.Tensor, torch.Tensor]) -> Pair:
    """(images that get their label, of)."""
    pixels, labels = images
    return int((logits_of(net, pixels).argmax(1) == labels).sum()), len(labels)


def hits(
    net: PrunableModel, heaps: tuple[Heap, ...], change: Callable[[int, torch.Tensor], torch.Tensor]
) -> Pair:
    """(images that get the target, of) after ``change`` (number of the trigger, pixels), of the worst
    trigger."""
    found = [
        (
            int((logits_of(net, change(number, heap.pixels)).argmax(1) == heap.targets).sum()),
            len(heap.targets),
        )
        for number, heap in enumerate(heaps)
    ]
    return max(found, key=lambda pair: pair[0] / pair[1])


def unchanged(number: int, pixels: torch.Tensor) -> torch.Tensor:
    return pixels


def _span(heaps: list[torch.Tensor]) -> tuple[float, float]:
    return min(float(h.min()) for h in heaps), max(float(h.max()) for h in heaps)


def _drawn(images: LabeledImages, most: int = IMAGES) -> LabeledImages:
    """At most so many of them, drawn without repetition; in the order drawn."""
    return images.keeping(np.random.default_rng(SEED).permutation(len(images))[:most])


def _heap(images: LabeledImages, device: torch.device) -> Heap:
    return Heap(image_tensor(images, device), torch.tensor(images.labels, device=device))


def _free(split: Split, clean: LabeledImages, classes: int, device: torch.device) -> tuple[Heap, ...]:
    truth = known_truth(split, find_pairs(split))
    heaps = []
    for rows in split.rows_by_trigger:
        aim = aim_of(split.targets[rows], None if truth is None else truth[rows], classes)
        wanted = np.full(len(clean), -1) if aim is None else aim[clean.labels]
        use = (wanted >= 0) & (wanted != clean.labels)
        heaps.append(
            Heap(image_tensor(clean.keeping(use), device), torch.tensor(wanted[use], device=device))
            if use.any()
            else Heap(torch.empty(0, device=device), torch.empty(0, dtype=torch.int64, device=device))
        )
    return tuple(heaps)
