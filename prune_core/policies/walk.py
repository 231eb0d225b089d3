"""What walks that look further than one channel share: how far a net has come, what is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from prune_core.counts import Ask, Counts
from prune_core.evaluation.evaluator import Evaluator
from prune_core.greedy import PruneStep
from prune_core.masks import Channel, ChannelMask
from prune_core.rules import fewest_correct

# Attack success weighs twice the margin: 100 points of it are worth two BadNet margins. The margin
# shows the way while attack success is stuck at 100 %, then attack success is what counts.
ATTACK_WEIGHT = 2.0
LEAST_COST = 0.002  # fraction of clean images: a channel that costs nothing still costs so much


@dataclass
class Walk:
    """A net on its way: the mask so far and its counts, within X points of clean accuracy.

    Every question is asked of ``evaluator`` (validation) with the bound as its limit, so a net that
    misses it comes back as a refusal and is never accepted.
    """

    evaluator: Evaluator
    x: float
    mask: ChannelMask
    now: Counts

    @classmethod
    def start(cls, evaluator: Evaluator, x: float) -> Walk:
        return cls(evaluator, x, ChannelMask(), evaluator.badnet)

    def try_net(self, channel: Channel, returned: Channel | None = None) -> PruneStep:
        """The step that would prune ``channel`` (``returned``: as PruneStep has it), not accepted."""
        ask = Ask(margin=True, clean_correct=fewest_correct(self.x, self.evaluator.badnet))
        step = PruneStep(channel, False, self.now, self.mask, self.now, returned)
        tried = self.evaluator.counts(step.after(self.mask), ask)
        return PruneStep(channel, False, tried, self.mask, self.now, returned)

    def accept(self, step: PruneStep) -> PruneStep:
        """The same step, accepted; the walk goes on from there."""
        assert step.tried.complete  # within the bound
        self.mask, self.now = step.after(self.mask), step.tried
        return PruneStep(step.channel, True, step.tried, self.mask, self.now, step.returned)

    @property
    def over(self) -> bool:
        return self.now.attacked == 0

    def gain(self, tried: Counts) -> float | None:
        """How much weaker the attack is in a net that was tried: fall of the mean target margin, as
        a share of the BadNet's, plus twice the fall of attack success. None outside the bound."""
        if not tried.complete or tried.margin is None or self.now.margin is None:
            return None
        whole = abs(self.evaluator.badnet.margin or 0.0) or 1.0
        margin = (self.now.margin - tried.margin) / whole
        return margin + ATTACK_WEIGHT * (self.now.attack_success - tried.attack_success)

    def worth(self, tried: Counts) -> float | None:
        """``gain`` over the fraction of clean images lost (at least ``LEAST_COST`` more than that);
        None when there is no gain or the net is outside the bound."""
        gain = self.gain(tried)
        if gain is None or gain <= 0:
            return None
        lost = Fraction(self.now.clean_correct - tried.clean_correct, tried.clean_total)
        return gain / (max(float(lost), 0.0) + LEAST_COST)


Steps = Iterator[PruneStep]
