"""``best-first`` where candidates are ranked on a part of the images, and what is accepted is counted on all.

Its plain twin is ``greedy.prune_best_first``: with a part that is the whole, both decide the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from prune_core.counts import Ask
from prune_core.evaluation.evaluator import Evaluator
from prune_core.greedy import PruneStep, Steps, Walk, best_first, swap, take_back
from prune_core.masks import Channel
from prune_core.rules import fewest_correct


def prune_best_first_ranked(
    evaluator: Evaluator, part: Evaluator, order: Sequence[Channel], x: float
) -> Steps:
    """``prune_best_first``; ``part`` counts on a part of the images of ``evaluator``.

    The totals of a step's ``tried`` say on how many images it was asked. A candidate that the part ranks
    first and all images refuse, for X or for want of gain, is a refused step, and not looked at again
    in that stage; the others stand as they were ranked.
    """
    walk = RankedWalk.over_all(evaluator, part, x)
    yield from best_first(walk, order)
    yield from take_back(walk)
    yield from swap(walk, order)
    yield from take_back(walk)


@dataclass
class RankedWalk(Walk):
    """A walk that asks a part of the images, and before it accepts, all of them.

    ``now`` and ``evaluator`` are of the part; ``whole`` is the walk on all images, with the same mask.
    """

    whole: Walk

    @classmethod
    def over_all(cls, evaluator: Evaluator, part: Evaluator, x: float) -> RankedWalk:
        whole = Walk.start(evaluator, x)
        return cls(part, x, whole.mask, part.badnet, whole)

    @property
    def over(self) -> bool:
        """On all images: a part may know of no successful attack while there are some."""
        return self.whole.over

    def try_net(self, channel: Channel, returned: Channel | None = None) -> PruneStep:
        """Asked of the part. Its limit is certain: more wrong images than all of them may have."""
        badnet = self.whole.evaluator.badnet
        wrong = badnet.clean_total - fewest_correct(self.x, badnet)
        ask = Ask(margin=True, clean_correct=max(0, self.evaluator.badnet.clean_total - wrong))
        step = PruneStep(channel, False, self.whole.now, self.mask, self.whole.now, returned)
        return replace(step, tried=self.evaluator.counts(step.after(self.mask), ask))

    def accept(self, step: PruneStep) -> PruneStep:
        """The step as it is counted on all images; refused where those see no use in it."""
        again = self.whole.try_net(step.channel, step.returned)
        back = step.returned == step.channel
        if not (self.whole.spares(again.tried) if back else (self.whole.gain(again.tried) or 0) > 0):
            return again
        done = self.whole.accept(again)
        self.mask, self.now = done.mask, self.evaluator.counts(done.mask)
        return done
