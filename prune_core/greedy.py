"""The greedy attack-aware pruner: the definition of the algorithm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prune_core.counts import Counts
from prune_core.evaluation.evaluator import Evaluator
from prune_core.masks import Channel, ChannelMask
from prune_core.rules import Rule


@dataclass(frozen=True)
class PruneStep:
    """One candidate and its fate.

    Attributes:
        channel: the candidate.
        accepted: whether the candidate net is kept from here on.
        tried: counts of the net in which it was tried; bounds where those settled its fate.
        mask: all channels pruned after this step.
        now: counts of the net with ``mask``.
        returned: a channel that the candidate net has back: another one, in whose place
            ``channel`` would be pruned, or ``channel`` itself, which was only tried without.
    """

    channel: Channel
    accepted: bool
    tried: Counts
    mask: ChannelMask
    now: Counts
    returned: Channel | None = None

    def after(self, mask: ChannelMask) -> ChannelMask:
        """``mask`` once this step's candidate has been accepted."""
        gone = mask.adding(self.channel)
        return gone if self.returned is None else gone.without(self.returned)


def prune_greedily(evaluator: Evaluator, order: Sequence[Channel], rule: Rule) -> Iterator[PruneStep]:
    """Walk the channels of ``order``; prune each one that ``rule`` accepts, until it says stop.

    Yields a step for every channel that was tried. What ``evaluator`` counts is the validation
    split. Source: the seed report's targeted method; the policies in ``rules`` vary it.
    """
    mask, now = ChannelMask(keep_bias=rule.keep_bias), evaluator.badnet
    for channel in rule.walk(order):
        ask = rule.asks(now, evaluator.badnet)
        tried = evaluator.counts(rule.candidate(mask, channel), ask)
        accepted = rule.accepts(tried, now, evaluator.badnet)
        if accepted:
            mask = mask.adding(channel)
            now = evaluator.counts(mask, ask.complete)
        yield PruneStep(channel, accepted, tried, mask, now)
        if rule.stops(accepted, now, evaluator.badnet):
            return
