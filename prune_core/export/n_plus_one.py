"""The N+1-class GoodNet of the lab: BadNet and pruned network side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prune_core.counts import Rate
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.masks import ChannelMask


def goodnet_classes(badnet: np.ndarray, pruned: np.ndarray, classes: int) -> np.ndarray:
    """(N,), (N,) -> (N,): the class where both nets agree, ``classes`` ("backdoored") elsewhere.

    Source: the CSAW-HackML lab, by way of the seed report.
    """
    return np.where(badnet == pruned, badnet, classes)


@dataclass(frozen=True)
class GoodNetCounts:
    """What the N+1-class net does: clean images with their label, poisoned images called target,
    poisoned images called N (detected)."""

    clean_correct: int
    clean_total: int
    attacked: int
    detected: int
    poisoned_total: int

    def rates(self) -> tuple[Rate, Rate, Rate]:
        """``clean_accuracy``, ``attack_success``, and ``detected``: poisoned images called N."""
        return (
            Rate("clean_accuracy", self.clean_correct, self.clean_total),
            Rate("attack_success", self.attacked, self.poisoned_total),
            Rate("detected", self.detected, self.poisoned_total),
        )


def count_goodnet(badnet: PlainEvaluator, pruned: PlainEvaluator) -> GoodNetCounts:
    """Both evaluators must hold the same split; each net as it is (no mask)."""
    split, none = badnet.split, ChannelMask()
    clean = goodnet_classes(
        badnet.reply(split.clean, none).classes, pruned.reply(split.clean, none).classes, -1
    )
    poisoned = goodnet_classes(
        badnet.reply(split.poisoned, none).classes, pruned.reply(split.poisoned, none).classes, -1
    )
    return GoodNetCounts(
        clean_correct=int((clean == split.clean.labels).sum()),
        clean_total=len(split.clean),
        attacked=int((poisoned == split.target).sum()),
        detected=int((poisoned == -1).sum()),
        poisoned_total=len(split.poisoned),
    )
