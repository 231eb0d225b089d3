"""The N+1-class GoodNet of the lab: BadNet and pruned network side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prune_core.counts import Rate, TriggerCounts, worst_trigger
from prune_core.data.images import Split
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
    poisoned images called N (detected). Of several triggers, the poisoned images are those of the worst,
    and ``triggers`` tells of each: (attacked, detected, poisoned images)."""

    clean_correct: int
    clean_total: int
    attacked: int
    detected: int
    poisoned_total: int
    triggers: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def of(cls, split: Split, clean: np.ndarray, poisoned: np.ndarray, backdoored: int) -> GoodNetCounts:
        """From the classes that the N+1-class net gives; ``backdoored``: its last."""
        each = []
        for rows in split.rows_by_trigger:
            said, wanted = poisoned[rows], split.targets[rows]
            each.append((int((said == wanted).sum()), int((said == backdoored).sum()), len(said)))
        worst = each[worst_trigger([TriggerCounts(hit, 0, total) for hit, _, total in each])]
        return cls(
            int((clean == split.clean.labels).sum()),
            len(clean),
            *worst,
            triggers=tuple(each) if len(each) > 1 else (),
        )

    def triggers_json(self) -> dict[str, list[dict[str, int]]]:
        """``{"triggers": [...]}``, a table for each trigger; empty where there is one."""
        names = ("attacked", "detected", "poisoned_total")
        return (
            {"triggers": [dict(zip(names, t, strict=True)) for t in self.triggers]} if self.triggers else {}
        )

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
    return GoodNetCounts.of(split, clean, poisoned, -1)
