"""``best-first`` in leaps: estimates choose whom a part of the images is asked about, and the best go
together, once all images have counted the net without them.

For networks where one count on all images takes many seconds: there are as many of those as leaps, not as
channels. Its plain twin is ``greedy.prune_best_first``; here as there, every net on the way is within X.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prune_core.counts import Ask
from prune_core.greedy import PruneStep, Steps
from prune_core.masks import Channel, ChannelMask
from prune_core.policies.ranked import RankedWalk
from prune_core.policies.screened import TRIES
from prune_core.rules import fewest_correct

if TYPE_CHECKING:  # it loads torch, and most commands only want to know a policy by name
    from prune_core.policies.screening import Screen

SHARE = 4  # of the channels that were asked about, a fourth goes in one leap


@dataclass(frozen=True)
class Leap(PruneStep):
    """A step of several channels, told by counts on all images.

    Attributes:
        along: the channels that are pruned, or where ``returned`` is ``channel`` given back, together with
            ``channel``.
    """

    along: tuple[Channel, ...] = ()

    def after(self, mask: ChannelMask) -> ChannelMask:
        if self.returned is None:
            return mask.adding(self.channel, *self.along)
        return mask.without(self.channel, *self.along)


def prune_best_first_in_leaps(walk: RankedWalk, screen: Screen) -> Steps:
    """The first leap is of one channel, and after each accepted one the next may be twice as large, up to
    ``1 / SHARE`` of ``Screen.count``. Where all images refuse one, for X or for want of gain, it is halved,
    down to single channels, of which the next best ones have their turn.

    The walk ends where of ``TRIES`` times ``Screen.count`` channels none is pruned; then the channels of
    which the part says that the net can do without them are given back, as many of them at once as all
    images allow.
    """
    size, most = 1, max(1, screen.count // SHARE)
    while not walk.over:
        at, ranked = walk.mask, screen.ranked(walk.mask)
        for start in range(0, TRIES * screen.count, screen.count):
            best = yield from _of_use(walk, ranked[start : start + screen.count])
            while best and walk.mask == at:
                yield from _leap(walk, best[:size], back=False)
                if walk.mask == at:
                    best = best if size > 1 else best[1:]
                    size = max(1, size // 2)
            if walk.mask != at:
                break
        if walk.mask == at:
            break
        size = min(2 * size, most)
    yield from _leap_back(walk)


def _of_use(walk: RankedWalk, channels: Sequence[Channel]) -> Generator[PruneStep, None, list[Channel]]:
    """Those that are worth something on the part, the best first."""
    worth: dict[Channel, float] = {}
    for channel in channels:
        yield (step := walk.try_net(channel))
        found = walk.worth(step.tried)
        if found is not None:
            worth[channel] = found
    return sorted(worth, key=lambda channel: -worth[channel])


def _leap_back(walk: RankedWalk) -> Steps:
    """Those first that the attack gains least by."""
    gain: dict[Channel, float] = {}
    for channel in sorted(walk.mask.channels):
        yield (step := walk.try_net(channel, returned=channel))
        if walk.spares(step.tried):
            gain[channel] = walk.gain(step.tried) or 0.0
    spared = sorted(gain, key=lambda channel: -gain[channel])
    at = walk.mask
    while spared and walk.mask == at:
        yield from _leap(walk, spared, back=True)
        spared = spared[: len(spared) // 2]


def _leap(walk: RankedWalk, channels: Sequence[Channel], back: bool) -> Steps:
    """All of the channels at once, where all images accept it."""
    whole, (first, *along) = walk.whole, channels
    ask = Ask(margin=True, clean_correct=fewest_correct(walk.x, whole.evaluator.badnet))
    leap = Leap(first, False, whole.now, whole.mask, whole.now, first if back else None, tuple(along))
    leap = replace(leap, tried=whole.evaluator.counts(leap.after(whole.mask), ask))
    if whole.spares(leap.tried) if back else (whole.gain(leap.tried) or 0) > 0:
        done = whole.accept(leap)
        walk.mask, walk.now = done.mask, walk.evaluator.counts(done.mask)
        yield done
    else:
        yield leap
