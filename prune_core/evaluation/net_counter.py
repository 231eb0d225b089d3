"""Counts of nets with changed weights, told as the BadNet's evaluator tells those of pruned ones."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from prune_core.counts import Counts
from prune_core.evaluation.evaluator import Evaluator
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.evaluation.tally import agreeing_with
from prune_core.files.constants import Weights
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel


class NetCounter:
    """Counts any net made of a BadNet on one split: by ``evaluator`` when channels are pruned and
    nothing else, else by whole forward passes of the net itself."""

    def __init__(self, badnet: PrunableModel, evaluator: Evaluator) -> None:
        self.badnet, self.evaluator = badnet, evaluator

    def __call__(self, mask: ChannelMask, weights: Weights) -> Counts:
        """``attacked_agreeing`` refers to the BadNet. With changed weights ``margin`` is rounded in
        the net's own unit. Raises InputError for weights or a mask that do not fit."""
        if not weights:
            return self.evaluator.counts(mask)
        split = self.evaluator.split
        with self.badnet.with_weights(weights).pruned(mask) as net:
            plain = PlainEvaluator(net, split)
        return agreeing_with(plain.badnet, split, (plain.badnet_classes == split.targets) & self._attacked)

    @cached_property
    def _attacked(self) -> np.ndarray:
        """(poisoned images,) bool: the BadNet says target."""
        counts, split = self.evaluator.badnet.in_all, self.evaluator.split
        if counts.attacked == counts.poisoned_total:
            return np.ones(counts.poisoned_total, bool)
        attacked: np.ndarray = PlainEvaluator(self.badnet, split).badnet_classes == split.targets
        return attacked
