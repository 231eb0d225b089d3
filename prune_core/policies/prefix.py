"""The policy ``prefix``: how far along the order, found by looking at few of its prefixes.

``in-order`` asks about every prefix until one is beyond X, or no attack is left. Here sizes are doubled until
that is so, and the border is then looked for by halving: some 2 log2 n questions in place of n. Both end at
the same net where clean accuracy and attack success only fall along the order. They need not: a prefix that
nobody asked about may be beyond X, and one behind the border within it. Every net that is kept has been
counted on all images.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from prune_core.counts import Counts, exact_points
from prune_core.evaluation.evaluator import Evaluator
from prune_core.greedy import PruneStep, Steps
from prune_core.masks import Channel, ChannelMask

FILL = 16  # further questions, at most, where neighbouring states are far apart
NEAR = 2.0  # points of clean accuracy or attack success; states nearer than that have nothing between them


def prune_to_a_prefix(evaluator: Evaluator, order: Sequence[Channel], x: float) -> Steps:
    """The last prefix of ``order`` within ``x`` points, or the first that leaves no attack; then states
    between, where two neighbours differ by more than ``NEAR`` points; and the first again, with which the
    walk ends.

    A step is a question: ``channel`` is the last one of the prefix, ``mask`` all of it where it is
    accepted. So masks leap, other than of policies that try single channels.
    """
    walk = _Prefixes(evaluator, order, x)
    yield from walk.border()
    if walk.last == 0:
        return
    yield from walk.between()
    if walk.at != walk.last:
        yield walk.step(walk.last)


def prefix_of(order: Sequence[Channel], step: PruneStep) -> ChannelMask:
    """All that was pruned in the net of a step, refused ones included."""
    return ChannelMask(frozenset(order[: order.index(step.channel) + 1]))


class _Prefixes:
    """What is known of prefixes, by their number of channels."""

    def __init__(self, evaluator: Evaluator, order: Sequence[Channel], x: float) -> None:
        self.evaluator, self.order, self.x = evaluator, order, x
        self.known: dict[int, Counts] = {0: evaluator.badnet}
        self.last = self.at = 0  # the size that the walk ends with, and of the state that it is in

    def step(self, size: int) -> PruneStep:
        """Ask about a prefix; it is the walk's state when it is within the bound."""
        mask = ChannelMask(frozenset(self.order[:size]))
        tried = self.known.get(size) or self.evaluator.counts(mask)
        self.known[size] = tried
        within = self._within(tried)
        if within:
            self.at = size
        now = ChannelMask(frozenset(self.order[: self.at]))
        return PruneStep(self.order[size - 1], within, tried, now, self.known[self.at])

    def border(self) -> Steps:
        """Doubling, then halving; sets ``last``."""
        below, above, size = 0, len(self.order) + 1, 1
        while above - below > 1:
            doubling = above > len(self.order)
            size = min(2 * below or 1, len(self.order)) if doubling else (below + above) // 2
            yield self.step(size)
            if self._ends(self.known[size]):
                above = size
            else:
                below = size
        ended = self.known.get(above)
        self.last = above if ended is not None and self._within(ended) else below

    def between(self) -> Steps:
        """Prefixes in the middle of neighbours that are furthest apart, up to ``FILL``."""
        for _ in range(FILL):
            sizes = sorted(size for size in self.known if size <= self.last)
            gaps = [(a, b) for a, b in pairwise(sizes) if b - a > 1]
            widest = max(gaps, key=lambda gap: self._apart(*gap), default=(0, 0))
            if self._apart(*widest) <= NEAR:
                return
            yield self.step(sum(widest) // 2)

    def _within(self, counts: Counts) -> bool:
        return counts.clean_accuracy_fell(since=self.evaluator.badnet) <= exact_points(self.x)

    def _ends(self, counts: Counts) -> bool:
        return not self._within(counts) or counts.attacked == 0

    def _apart(self, size: int, other: int) -> float:
        """Points of clean accuracy or of attack success, whichever are more."""
        a, b = self.known[size], self.known[other]
        fell = abs(float(a.clean_accuracy_fell(since=b)))
        return max(fell, 100 * abs(a.mean_attack_success() - b.mean_attack_success()))
