"""The definition of the algorithm: what a trial prunes, and when it stops.

A trial has an *order* (channels ranked by an importance criterion, ``orders``), a bound X (percentage points
of clean accuracy that it may cost) and a *policy*. The policy tries channels one by one; a channel is
pruned for good only where that weakens the attack and the net stays within X of the unpruned BadNet,
counted on all validation images.

What ``make sweep`` does by default is ``prune_best_first`` along the order ``across:activation-gap``, and
for comparison ``prune_in_one_pass`` under the rule ``margin`` along plainer orders
(``configs/default.yaml``). The other policies are variations: rules of one pass in ``rules``, walks of
their own in ``policies``.

Words: a *candidate* is a channel that is tried, a *step* is one try and its outcome. None draws lots: the
same counts give the same steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from prune_core.counts import Ask, Counts
from prune_core.evaluation.evaluator import Evaluator
from prune_core.masks import Channel, ChannelMask
from prune_core.rules import Rule, fewest_correct

# Attack success weighs twice the margin: 100 points of it are worth two BadNet margins. The margin
# shows the way while attack success is stuck at 100 %, then attack success is what counts.
ATTACK_WEIGHT = 2.0
LEAST_COST = 0.002  # fraction of clean images: a channel that costs nothing still costs so much


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


Steps = Iterator[PruneStep]


# One pass -----------------------------------------------------------------------------------------


def prune_in_one_pass(evaluator: Evaluator, order: Sequence[Channel], rule: Rule) -> Steps:
    """Try the channels of ``order`` in turn; prune each one that ``rule`` accepts, until it says stop.

    Yields a step for every channel that was tried. What ``evaluator`` counts is the validation
    split. Source: the seed report's targeted method, on the accumulated net.
    """
    mask, now = ChannelMask(), evaluator.badnet
    for channel in order:
        ask = rule.asks(now, evaluator.badnet)
        tried = evaluator.counts(mask.adding(channel), ask)
        accepted = rule.accepts(tried, now, evaluator.badnet)
        if accepted:
            mask = mask.adding(channel)
            now = evaluator.counts(mask, ask.complete)
        yield PruneStep(channel, accepted, tried, mask, now)
        if rule.stops(accepted, now, evaluator.badnet):
            return


# Best first ---------------------------------------------------------------------------------------


def prune_best_first(evaluator: Evaluator, order: Sequence[Channel], x: float) -> Steps:
    """The default: prune whichever channel buys most, again and again; give back what is not needed;
    exchange pruned channels for better ones; give back again. ``x``: percentage points."""
    walk = Walk.start(evaluator, x)
    yield from best_first(walk, order)
    yield from take_back(walk)
    yield from swap(walk, order)
    yield from take_back(walk)


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
        """At the BadNet, nothing pruned."""
        return cls(evaluator, x, ChannelMask(), evaluator.badnet)

    @property
    def over(self) -> bool:
        """Whether no attack succeeds any more."""
        return self.now.attacked == 0

    def try_net(self, channel: Channel, returned: Channel | None = None) -> PruneStep:
        """The step that would prune ``channel`` (``returned``: as PruneStep has it), not accepted."""
        ask = Ask(margin=True, clean_correct=fewest_correct(self.x, self.evaluator.badnet))
        step = PruneStep(channel, False, self.now, self.mask, self.now, returned)
        return replace(step, tried=self.evaluator.counts(step.after(self.mask), ask))

    def accept(self, step: PruneStep) -> PruneStep:
        """The same step, accepted; the walk goes on from there."""
        assert step.tried.complete  # within the bound
        self.mask, self.now = step.after(self.mask), step.tried
        return replace(step, accepted=True, mask=self.mask, now=self.now)

    def gain(self, tried: Counts) -> float | None:
        """How much weaker the attack is in a net that was tried: fall of the mean target margin, as
        a share of the BadNet's, plus twice the fall of attack success; with several triggers, the mean
        of that over them. None outside the bound."""
        if not tried.complete or tried.margin is None or self.now.margin is None:
            return None
        gains = []
        each = (self.evaluator.badnet.by_trigger, self.now.by_trigger, tried.by_trigger)
        for badnet, now, then in zip(*each, strict=True):
            whole = abs(badnet.margin or 0.0) or 1.0
            margin = ((now.margin or 0.0) - (then.margin or 0.0)) / whole
            gains.append(margin + ATTACK_WEIGHT * (now.attack_success - then.attack_success))
        return sum(gains) / len(gains)

    def worth(self, tried: Counts) -> float | None:
        """``gain`` over the fraction of clean images lost (at least ``LEAST_COST`` more than that);
        None when there is no gain or the net is outside the bound."""
        gain = self.gain(tried)
        if gain is None or gain <= 0:
            return None
        lost = Fraction(self.now.clean_correct - tried.clean_correct, tried.clean_total)
        return gain / (max(float(lost), 0.0) + LEAST_COST)

    def spares(self, tried: Counts) -> bool:
        """Whether nothing is lost: no trigger's attack success nor clean accuracy is worse, nor, while
        every attack succeeds, the margin."""
        gain, saturated = self.gain(tried), self.now.attacked == self.now.poisoned_total
        if gain is None or (saturated and gain < 0):
            return False
        return tried.no_trigger_gains(self.now) and tried.clean_correct >= self.now.clean_correct


@dataclass
class _Candidate:
    step: PruneStep  # when it was last tried
    worth: float
    fresh: bool = True  # nothing was accepted since

    @property
    def channel(self) -> Channel:
        return self.step.channel


def best_first(walk: Walk, order: Sequence[Channel], pool: int = 24, rescore: int = 4) -> Steps:
    """Prune the channel that buys most (``Walk.worth``), again and again.

    The first ``pool`` channels of the order that may still be of use are candidates. All of them are
    tried at the start and after every ``rescore`` accepted channels; in between only the one that
    looks best is tried again, and taken if it still does (lazy greedy: Minoux 1978). Channels that
    would break the bound drop out, for accuracy hardly ever comes back; so do, for the time being,
    those without gain, and the next ones of the order come in.
    """
    place = {channel: i for i, channel in enumerate(order)}
    waiting = list(order)
    candidates: list[_Candidate] = []
    useless: list[Channel] = []  # without gain on the net as it was; another chance at a rescore
    accepted_since = rescore

    def sort_in(step: PruneStep) -> None:
        worth = walk.worth(step.tried)
        if worth is not None:
            candidates.append(_Candidate(step, worth))
        elif step.tried.complete:
            useless.append(step.channel)

    while not walk.over:
        if accepted_since >= rescore:  # everyone starts again
            waiting = sorted([*waiting, *useless, *(c.channel for c in candidates)], key=place.__getitem__)
            candidates.clear()
            useless.clear()
            accepted_since = 0
        while waiting and len(candidates) < pool:
            step = walk.try_net(waiting.pop(0))
            yield step
            sort_in(step)
        if not candidates:
            if accepted_since == 0:  # all were tried on this very net: none is of use
                return
            accepted_since = rescore
            continue
        best = max(candidates, key=lambda c: c.worth)
        candidates.remove(best)
        if best.fresh:
            yield (step := walk.accept(best.step))
            accepted_since += step.accepted
            for candidate in candidates:
                candidate.fresh &= not step.accepted
        else:
            step = walk.try_net(best.channel)
            yield step
            sort_in(step)


def take_back(walk: Walk) -> Steps:
    """Give back pruned channels that the net can do without (``Walk.spares``)."""
    for channel in walk.mask:
        step = walk.try_net(channel, returned=channel)
        if walk.spares(step.tried):
            step = walk.accept(step)
        yield step


def swap(walk: Walk, order: Sequence[Channel], pool: int = 6) -> Steps:
    """Prune another channel in place of a pruned one where that weakens the attack within the bound:
    for each pruned channel, the first ``pool`` unpruned ones of the order; one pass."""
    for channel in walk.mask:
        others = [c for c in order if c not in walk.mask.channels][:pool]
        steps = []
        for other in others:
            if walk.over:
                return
            steps.append(walk.try_net(other, returned=channel))
            yield steps[-1]
        gains = [(walk.gain(s.tried) or 0.0, -i) for i, s in enumerate(steps)]
        if gains and max(gains)[0] > 0:
            yield walk.accept(steps[-max(gains)[1]])
